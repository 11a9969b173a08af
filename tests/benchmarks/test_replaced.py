"""One call beside those that it replaces: only equal answers are timed, and shown as recorded."""

import numpy as np

import xloss
from benchmarks import record, replaced
from benchmarks.__main__ import NAMES, main
from places import ROOT

CALLS = NAMES["replaced"]


def test_a_small_run_writes_the_page(tmp_path):
    assert main(["replaced", "--tiny", "--publish", str(tmp_path)]) == 0
    kept = record.read(tmp_path / f"{CALLS}.json")
    assert {row["what"] for row in kept["rows"]} == {replaced.STATS, replaced.LISTS}
    assert (tmp_path / f"{CALLS}.md").read_text() == replaced.page(kept)


def test_another_answer_is_not_timed(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(xloss, "logsumexp", lambda z: np.zeros(len(z), z.dtype))
    assert main(["replaced", "--tiny", "--publish", str(tmp_path)]) == 2
    assert "not the same answers" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


def test_the_ratio_says_how_many_times_as_fast_the_one_call_is():
    row = {"what": "w", "library": "numpy", "shape": [2, 3]}
    row |= {"one": {"median_ms": 2.0}, "several": {"median_ms": 5.0}}
    assert replaced.cells(row) == ["w", "numpy", "(2, 3)", "2", "5", "2.50×"]


def test_the_committed_page_is_that_of_the_committed_record():
    path = ROOT / "docs" / f"{CALLS}.json"
    assert path.with_suffix(".md").read_text(encoding="utf-8") == replaced.page(record.read(path))
