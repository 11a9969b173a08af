"""Imports point down: pyproject.toml's contracts, read by import-linter."""

import pytest

from places import ROOT


def test_every_contract_is_kept():
    cli = pytest.importorskip("importlinter.cli")
    assert cli.lint_imports(config_filename=str(ROOT / "pyproject.toml"), no_cache=True) == 0
