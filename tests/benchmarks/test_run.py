"""Runs and what they leave: processes, records, pages, pictures, and lines of what failed."""

import json
import time

import numpy as np
import pytest

import xloss
from benchmarks import pages, plan, record, replaced
from benchmarks.__main__ import NAMES, main
from benchmarks.processes import BenchFailed, Job, results
from places import ROOT

DOCS = ROOT / "docs"
PICTURES = ("performance-throughput.svg", "performance-memory.svg")


def test_a_small_run_goes_the_whole_way(tmp_path, capfd, monkeypatch):
    pytest.importorskip("torch")
    pytest.importorskip("matplotlib")
    monkeypatch.setitem(plan.TABLES["who"], "memory", ["xloss numpy"])  # a process each
    for who in ("growth", "growth_eager"):
        monkeypatch.setitem(plan.TABLES["who"], who, ["xloss numpy", "torch"])
    asked = ["--op", "classes", "--op", "memory", "--tiny"]
    assert main(["host", *asked, "--publish", str(tmp_path)]) == 0
    out, _ = capfd.readouterr()
    assert out.endswith(f"targets met; see {tmp_path / 'performance.md'}\n")
    files = {"performance.json", "performance.md", *PICTURES}
    assert {path.name for path in tmp_path.iterdir()} == files
    run = record.read(tmp_path / "performance.json")
    assert run["command"].startswith("python -m benchmarks host --op classes ")
    ways = [(gradient, classes) for gradient in (False, True) for classes in (10, 50)]
    assert [(w["gradient"], w["classes"]) for w in run["by_classes"]] == ways
    assert sorted((m["gradient"], m["classes"]) for m in run["memory"]) == ways
    for work in run["by_classes"]:
        runs = {r["contender"]: r for r in work["runs"]}
        assert set(runs) == {"xloss numpy", "torch"}
        for one in (*runs.values(), work["bound"]):
            assert 0 < one["min_ms"] <= one["q1_ms"] <= one["median_ms"] <= one["q3_ms"]
        assert (runs["torch"]["engine"], work["refused"]) == ("", [])
    drawn = [(tmp_path / name).read_bytes() for name in PICTURES]
    assert b"PyTorch eager" in drawn[0]
    assert main(["render", "--publish", str(tmp_path)]) == 0
    assert drawn == [(tmp_path / name).read_bytes() for name in PICTURES]


def test_a_process_that_fails_ends_the_run_in_one_line_and_one_with_a_time_is_a_line():
    with pytest.raises(BenchFailed, match=r"^AttributeError: "):
        list(results([Job("tasks:none", {})]))
    now = time.monotonic()
    # Over before its process has started, and more than a pipe holds.
    late = Job("replaced:compared", {"tiny": True, "unread": bytes(2**20)}, until=now)
    none = Job("tasks:none", {}, until=now + 500)
    (kind, said), (other, why) = results([late, none])
    assert (kind, other) == ("missing", "missing")
    assert said == "replaced:compared: its process was ended: it took too long"
    assert why.startswith("AttributeError: ")


def test_what_is_measured_is_kept_at_once(monkeypatch):
    kept = []

    def found(todo):
        for number in range(3):
            yield "rows", {"number": number}
            assert [len(run["rows"]) for run in kept] == list(range(1, number + 2))
        raise KeyboardInterrupt

    monkeypatch.setattr(record, "results", found)
    with pytest.raises(KeyboardInterrupt):
        record.measure([], lambda made: [], lambda run: kept.append(json.loads(json.dumps(run))))
    monkeypatch.setattr(record, "results", lambda todo: iter([("missing", "no GPU any more")]))
    with pytest.raises(BenchFailed, match="nothing was measured: no GPU any more"):
        record.measure([], lambda made: [], kept.append)


@pytest.mark.parametrize("run", NAMES)
def test_the_committed_pages_are_those_of_the_committed_records(run):
    kept = record.read(DOCS / f"{NAMES[run]}.json")
    page = pages.page(kept, NAMES[run], PICTURES if run == "host" else ())
    again = "make it again: python -m benchmarks render"
    assert (DOCS / f"{NAMES[run]}.md").read_text("utf-8") == page, again
    assert not any(facts["rehearsal"] for facts in kept.get("gpu", ()))


def test_a_page_says_who_is_missing_and_why():
    kept = record.read(DOCS / "performance-gpu.json")
    kept["missing"] = ["jax: JAX finds no GPU"]
    kept["works"][0]["refused"] = [{"contender": "Quack", "reason": "out of memory"}]
    kept["gpu"][0]["rehearsal"] = True
    said = pages.page(kept, NAMES["gpu"])
    assert pages.WORDS["rehearsal"] in said
    assert "- jax: JAX finds no GPU\n" in said
    assert f"- Quack: {kept['works'][0]['name']}: out of memory\n" in said


def test_what_cannot_be_done_is_one_line(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert main(["render", "--publish", "none"]) == main(["render", "--publish", "."]) == 2
    out, err = capsys.readouterr()
    folder, record = err.splitlines()
    assert (out, folder) == ("", "benchmarks: --publish none: is not a folder")
    assert record == "benchmarks: .: no record of a run: expected performance.json"


def test_one_call_is_timed_beside_those_that_it_replaces(tmp_path, monkeypatch):
    assert main(["replaced", "--tiny", "--publish", str(tmp_path)]) == 0
    rows = record.read(tmp_path / "performance-calls.json")["rows"]
    assert {row["what"] for row in rows} == {replaced.STATS, replaced.LISTS}
    assert f"{rows[0]['several']['median_ms'] / rows[0]['one']['median_ms']:.2f}×" in (
        tmp_path / "performance-calls.md"
    ).read_text("utf-8")
    # Another answer is not timed.
    monkeypatch.setattr(xloss, "logsumexp", lambda z: np.zeros(len(z), z.dtype))
    with pytest.raises(AssertionError, match="token_stats on numpy"):
        list(replaced.compared(1, True))
