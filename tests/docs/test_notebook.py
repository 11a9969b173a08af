"""The notebook's cells run in their order, in a new process, and print what they claim."""

import json

import pytest

from fresh import said
from places import ROOT

NOTEBOOK = ROOT / "examples" / "first_steps.ipynb"
RUNNER = f"""
import json, os
os.chdir({str(NOTEBOOK.parent)!r})
import matplotlib
matplotlib.use("Agg")
with open({NOTEBOOK.name!r}, encoding="utf-8") as file:
    cells = json.load(file)["cells"]
names = {{}}
for cell in cells:
    if cell["cell_type"] == "code":
        exec("".join(cell["source"]), names)
"""


def test_every_cell_runs() -> None:
    pytest.importorskip("torch", reason="the notebook compares with PyTorch's loss")
    pytest.importorskip("matplotlib", reason="the notebook draws")
    printed = said(RUNNER)
    assert "0 rows of xloss are 0, 10" in printed  # 108 of PyTorch's, give or take a rounding
    assert "nan_logit: 1 row (7)" in printed


def test_no_output_is_kept() -> None:
    """What a notebook printed once is not what it prints now; readers run it, or see the test."""
    for cell in json.loads(NOTEBOOK.read_text(encoding="utf-8"))["cells"]:
        assert cell.get("outputs", []) == []
