""".ci/gpu: its rehearsal, which is the whole of it on a machine without a GPU."""

import json
import os
import subprocess
import sys

import pytest

from places import ROOT


@pytest.mark.nightly
def test_it_judges_measures_and_writes_down_both(tmp_path):
    done = subprocess.run(
        [ROOT / ".ci" / "gpu", tmp_path, "tiny"],
        env={**os.environ, "PYTHON": sys.executable},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert json.loads((tmp_path / "conform.json").read_text())["ok"]
    assert "xloss torch" in (tmp_path / "performance-gpu.md").read_text()
