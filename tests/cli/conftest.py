"""What the tests of several commands start from."""

import pytest

from cli_runs import saved_rows


@pytest.fixture
def files(tmp_path, monkeypatch):
    """300 rows of 7 classes, every tenth of them ignored, in the current folder."""
    monkeypatch.chdir(tmp_path)
    return saved_rows()
