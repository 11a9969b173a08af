"""The notebook's cells run in their order, and print what they claim."""

import json

import pytest

from places import ROOT

NOTEBOOK = ROOT / "examples" / "first_steps.ipynb"
CELLS = json.loads(NOTEBOOK.read_text(encoding="utf-8"))["cells"]


def test_every_cell_runs(monkeypatch, capsys) -> None:
    pytest.importorskip("torch", reason="the notebook compares with PyTorch's loss")
    pytest.importorskip("matplotlib", reason="the notebook draws").use("Agg")
    monkeypatch.chdir(NOTEBOOK.parent)
    names: dict[str, object] = {}
    for cell in CELLS:
        if cell["cell_type"] == "code":
            exec("".join(cell["source"]), names)
    printed = capsys.readouterr().out
    assert "0 rows of xloss are 0, 10" in printed  # 108 of PyTorch's, give or take a rounding
    assert "nan_logit: 1 row (7)" in printed


def test_no_output_is_kept() -> None:
    """What a notebook printed once is not what it prints now; readers run it, or see the test."""
    assert [cell["outputs"] for cell in CELLS if cell.get("outputs")] == []
