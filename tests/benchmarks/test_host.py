"""The benchmarks' own rules: whose call is timed, what meets a target, what the pages say."""

import json
import os
import sys
import time

import pytest

from benchmarks import pages, record, tasks
from benchmarks.__main__ import NAMES, main
from benchmarks.bounds import Bound
from benchmarks.processes import BenchFailed, Job, results
from benchmarks.targets import judged, missed_by, verdict
from benchmarks.work import Work
from places import ROOT
from xloss_conformance.timing import Call

DOCS = ROOT / "docs"


# ---- Targets -------------------------------------------------------------------------------------


def timed(op, shape, gradient, ms):
    """Return the record's entry of a work whose calls took so many milliseconds."""
    work = Work(op, shape, gradient, axis=1 if len(shape) == 4 else -1)
    calls = {name: Call(lambda: 0, engine="cpu") for name in ms if name != "bound"}
    taken = {name: [t / 1e3] for name, t in ms.items()}
    bounds = {name: Bound(Call(lambda: 0), work.nbytes) for name in ms if name == "bound"}
    return tasks.timed(work, calls, taken, bounds)


def remembered(who, gradient, share, op="memory"):
    told = Work(op, (1000, 1000), gradient).told()
    return {**told, "contender": who, "peak_bytes": int(share * told["nbytes"]), "reason": ""}


def made(*entries, **sections):
    """Return a record of these works, and of what else it is given, judged."""
    run = {"date": "2026-11-22", "xloss": "0.1.0", "command": "python -m benchmarks host"}
    run |= {"machine": {"python": "3.11", "platform": "Linux", "processor": "a CPU", "cores": 2}}
    run |= {"versions": {}, "threads": 2, "load": [0.1, 2.0], "seconds": 12.0, "missing": []}
    run |= {"contenders": [], **{name: [] for name in record.SECTIONS}, **sections}
    run |= {"works": list(entries)}
    return {**run, "targets": judged(run)}


def told(run):
    return {(t["subject"], t["against"], round(t["wanted"], 3), t["met"]) for t in run["targets"]}


def test_a_ratio_is_met_from_the_wanted_on_and_a_missed_one_is_shown_as_missed():
    ms = {"xloss numpy": 10.0, "xloss torch": 10.001, "torch": 40.0, "sklearn": 50.0}
    run = made(timed("forward", (2048, 32000), False, ms))
    assert told(run) == {("xloss numpy", "torch", 4.0, True), ("xloss torch", "torch", 4.0, False)}
    assert verdict(run) == "1 of 2 targets met"
    said = pages.page(run)
    assert "**1 of 2 targets met.**" in said
    # A ratio is rounded down: what is just missed does not look as if it were met.
    missed = "| xloss torch | torch | **3.99× (≥ 4×) missed by under 0.1 %** |"
    assert missed in said
    assert said.index(missed) < said.index("| xloss numpy | torch | 4.00× (≥ 4×) met |")
    assert "| bound |" not in said
    assert "| float32 (2048, 32000), value | xloss numpy | cpu | 10.0 |" in said


def test_tracers_the_bound_and_small_calls_have_targets_of_their_own():
    ms = {"xloss jax": 5.0, "optax": 9.9, "xloss numpy": 9.0, "bound": 4.4}
    assert told(made(timed("forward", (512, 128256), False, ms))) == {
        ("xloss jax", "optax", 2.0, False),
        ("xloss numpy", "optax", 1.1, True),
        ("xloss numpy", "bound", 0.5, False),
    }
    ms = {"xloss torch.compile": 2.3, "torch.compile": 2.2, "xloss torch": 2.0}
    assert told(made(timed("bfloat16", (8192, 1000), True, ms))) == {
        ("xloss torch.compile", "torch.compile", 1.0, False),
        ("xloss torch.compile", "xloss torch", 0.87, True),
    }
    small = {"xloss numpy": 0.06, "xloss torch": 0.101, "torch": 0.005}
    run = made(timed("small", (32, 10), False, small), timed("small", (32, 10), True, small))
    assert told(run) == {("xloss numpy", "", 60.0, True), ("xloss torch", "", 100.0, False)}


def test_memory_and_compiling_are_judged():
    memory = [
        remembered("xloss numpy", False, 0.04),
        remembered("xloss torch", True, 1.06),
        remembered("xloss jax", True, 1.5),
        remembered("optax", True, 1.4),
        remembered("torch", False, 1.0),
    ]
    run = made(memory=memory)
    assert told(run) == {
        ("xloss numpy", "", 0.05, True),
        ("xloss torch", "", 0.05, False),
        ("xloss jax", "optax", 0.4 * 4e6, False),
    }
    assert missed_by(run["targets"][1]) == pytest.approx(0.2)
    first = {**Work("first-call", (2, 3)).told(), "caches": "empty", "reason": "", "second_ms": 1}
    calls = [
        {**first, "contender": w, "first_ms": t} for w, t in (("xloss jax", 501), ("optax", 100))
    ]
    assert told(made(first_call=calls)) == {("xloss jax", "optax", 500, False)}


# ---- Processes and records -----------------------------------------------------------------------


def test_a_process_that_fails_ends_the_run_in_one_line_and_one_with_a_time_is_a_line():
    with pytest.raises(BenchFailed) as caught:
        list(results([Job("tasks:none", {})]))
    assert str(caught.value).startswith("AttributeError: ")
    now = time.monotonic()
    # Over before its process has started, and more than a pipe holds.
    late = Job("tasks:imports", {"rounds": 9, "unread": bytes(2**20)}, until=now)
    none = Job("tasks:none", {}, until=now + 500)
    (kind, said), (other, why) = results([late, none])
    assert (kind, other) == ("missing", "missing")
    assert said == "tasks:imports: its process was ended: it took too long"
    assert why.startswith("AttributeError: ")


def test_what_is_measured_is_kept_at_once(monkeypatch):
    kept = []

    def found(todo):
        for number in range(3):
            yield "imports", {"import_ms": number}
            assert [len(run["imports"]) for run in kept] == list(range(1, number + 2))
        raise KeyboardInterrupt

    monkeypatch.setattr(record, "results", found)
    with pytest.raises(KeyboardInterrupt):
        record.measure([], judged, lambda run: kept.append(json.loads(json.dumps(run))))
    assert kept[-1]["schema"] == 1
    assert len(kept[-1]["load"]) == 2
    monkeypatch.setattr(record, "results", lambda todo: iter([("missing", "no GPU any more")]))
    with pytest.raises(BenchFailed, match="nothing was measured: no GPU any more"):
        record.measure([], judged, kept.append)


def test_a_small_run_goes_the_whole_way(tmp_path, capfd):
    pytest.importorskip("torch")
    pytest.importorskip("matplotlib")
    asked = ["--op", "classes", "--op", "memory", "--peer", "torch", "--tiny"]
    assert main(["host", *asked, "--publish", str(tmp_path)]) == 0
    out, _ = capfd.readouterr()
    assert out.endswith(f"targets met; see {tmp_path / 'performance.md'}\n")
    files = {"performance.json", "performance.md"}
    files |= {f"performance-{what}.svg" for what in ("throughput", "memory")}
    assert set(os.listdir(tmp_path)) == files
    run = record.read(tmp_path / "performance.json")
    assert run["command"].startswith("python -m benchmarks host --op classes ")
    for work in run["by_classes"]:
        runs = {r["contender"]: r for r in work["runs"]}
        assert set(runs) == {"xloss numpy", "torch"}
        for one in (*runs.values(), work["bound"]):
            assert 0 < one["min_ms"] <= one["q1_ms"] <= one["median_ms"] <= one["q3_ms"]
        assert (runs["torch"]["engine"], work["refused"]) == ("", [])
    peaks = {(m["contender"], m["classes"]): m["peak_bytes"] for m in run["memory"]}
    assert {("xloss numpy", 10), ("torch", 50)} <= set(peaks)
    assert [(w["gradient"], w["classes"]) for w in run["by_classes"]] == [
        (gradient, classes) for gradient in (False, True) for classes in (10, 50)
    ]


def test_what_cannot_be_done_is_one_line(tmp_path, capsys):
    assert main(["host", "--op", "fwd", "--publish", str(tmp_path)]) == 2
    assert main(["render", "--publish", str(tmp_path)]) == 2
    assert main(["render", "--publish", str(tmp_path / "none")]) == 2
    out, err = capsys.readouterr()
    first, second, third = err.splitlines()
    assert out == ""
    assert first.startswith("benchmarks: --op fwd: expected one of forward, ")
    assert second == f"benchmarks: {tmp_path}: no record of a run: expected performance.json"
    assert third == f"benchmarks: --publish {tmp_path / 'none'}: is not a folder"


def test_without_tabulate_the_record_stays_and_a_line_says_how_to_make_the_page(
    monkeypatch, tmp_path, capsys
):
    for name in ("benchmarks.pages", "benchmarks.figures"):
        monkeypatch.delitem(sys.modules, name, raising=False)
        monkeypatch.delattr(f"{name}", raising=False)
    monkeypatch.setitem(sys.modules, "tabulate", None)
    record.write(made(), tmp_path / "performance.json")
    assert main(["render", "--publish", str(tmp_path)]) == 2
    said = "benchmarks: no page is made: tabulate is not installed: pip install tabulate, then "
    assert capsys.readouterr().err == f"{said}python -m benchmarks render\n"


# ---- Pages ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("run", sorted({*NAMES} - {"replaced"}))
def test_the_committed_pages_are_those_of_the_committed_records(run):
    kept = record.read(DOCS / f"{NAMES[run]}.json")
    pictures = ("performance-throughput.svg", "performance-memory.svg") if run == "host" else ()
    page = pages.page(kept, NAMES[run], pictures)
    again = "make it again: python -m benchmarks render"
    assert (DOCS / f"{NAMES[run]}.md").read_text("utf-8") == page, again
    assert all((DOCS / name).is_file() for name in pictures)
    assert not any(facts["rehearsal"] for facts in kept.get("gpu", ()))


def test_pictures_are_the_same_for_the_same_record(tmp_path):
    pytest.importorskip("matplotlib")
    from benchmarks.pictures import draw

    ms = {"xloss numpy": 10.0, "torch": 45.0, "bound": 5.0}
    run = made(by_classes=[timed("classes", (2048, 32000), False, ms)])
    run["memory"] = [remembered("xloss numpy", False, 0.01)]
    drawn = draw(run, tmp_path)
    assert drawn == ("performance-throughput.svg", "performance-memory.svg")
    first = [(tmp_path / name).read_bytes() for name in drawn]
    assert draw(run, tmp_path) == drawn
    assert first == [(tmp_path / name).read_bytes() for name in drawn]
    for label in (b"PyTorch eager", b"xloss, NumPy", b"reading once", b"a CPU"):
        assert label in first[0]
