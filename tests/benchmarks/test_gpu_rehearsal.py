"""xloss bench --op gpu: refused without a GPU, rehearsed on the host and on emulated kernels."""

import json
import re
import subprocess
import sys
import time

import pytest

import xloss
from emulated import COMPILER, emulated
from xloss.cli.app import run
from xloss.engines.cuda import engine as cuda

pytest.importorskip("torch", reason="pip install 'xloss[torch]'")
pytest.importorskip("mpmath", reason="pip install 'xloss[conformance]'")
from benchmarks.gpu import plan, tasks


def test_without_a_gpu_nothing_is_measured(capsys, tmp_path, monkeypatch):
    monkeypatch.setattr(cuda, "unavailable", lambda: "no GPU is found")
    assert run(["bench", "--op", "gpu", "--publish", str(tmp_path)]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err == "xloss: --op gpu: nothing is measured: no GPU is found\n"
    assert list(tmp_path.iterdir()) == []


@pytest.mark.skipif(cuda.unavailable() is None, reason="here is a GPU: it would be measured")
def test_a_rehearsal_runs_the_whole_way_on_the_host(tmp_path):
    ran = subprocess.run(
        [
            sys.executable,
            "-m",
            "xloss.cli",
            "bench",
            "--tiny",
            "--op",
            "gpu",
            "--peer",
            "torch",
            "--peer",
            "optax",
            "--publish",
            str(tmp_path),
            "--json",
        ],
        capture_output=True,
        text=True,
        check=False,
    )
    assert (ran.returncode, ran.stderr) == (0, "")
    record = json.loads(ran.stdout)
    assert record["gpu"][0]["rehearsal"]
    assert record["compiled"][0]["calls"] == 6
    timed = {(w["library"], w["kind"], w["dtype"]) for w in record["works"]}
    kinds = {
        (kind, dtype)
        for kind in ("forward", "gradient", "segmentation")
        for dtype in ("bfloat16", "float32")
    } | {("linear", "bfloat16"), ("host", "float32")}
    assert {(kind, dtype) for library, kind, dtype in timed if library == "torch"} == kinds
    assert [w["refused"] for w in record["works"] if w["refused"]] == []
    assert re.search(r"^cupy: ", "\n".join(record["missing"]), re.MULTILINE)
    judged = {(t["kind"], t["against"]) for t in record["targets"]}
    assert judged == {
        ("ulp", "value"),
        ("ulp", "gradient"),
        ("reach", "copy"),
        ("ratio", "torch"),
        ("ratio", "the products alone"),
        ("microseconds", ""),
    }
    assert {path.name for path in tmp_path.iterdir()} == {
        "performance-plan.json",
        "performance-plan.md",
    }
    assert json.loads((tmp_path / "performance-plan.json").read_text("utf-8")) == record
    page = (tmp_path / "performance-plan.md").read_text("utf-8")
    assert "no figure here says anything about a GPU" in page
    assert "no GPU was at hand" not in page


@pytest.mark.skipif(COMPILER is None, reason="the kernels are run on the host by g++: install it")
def test_the_engine_itself_is_checked_and_timed():
    works = [w for w in plan.works("torch", tiny=True) if w.op == plan.OP and w.classes == 60]
    with emulated() as device:
        found = list(
            tasks.times(
                library="torch",
                threads=1,
                device="cpu",
                works=works,
                names=plan.names("torch", ("torch",)),
                engine="cuda",
                seconds=1e-4,
                rounds=1,
                most=1.0,
                until=float("inf"),
                tiny=True,
            )
        )
    assert device.launches
    entries = [entry for kind, entry in found if kind == "result"]
    assert [entry["refused"] for entry in entries] == [[]] * 4
    runs = [one for entry in entries for one in entry["runs"]]
    engines = {one["contender"]: one["engine"] for one in runs}
    assert engines == {"xloss torch": "cuda", "xloss torch, closed form": "cuda", "torch": ""}
    for entry in entries:
        for one in entry["runs"]:
            if one["engine"] == "cuda":
                assert one["value_ulp"] <= 4
                assert abs(one["tail"]) < 1e-6
                if entry["gradient"] and entry["dtype"] == "bfloat16":
                    assert one["gradient_ulp"] <= 1


def test_what_is_measured_is_kept_at_once(monkeypatch):
    from xloss_conformance.speed import bench
    from xloss_conformance.speed.plan import Plan, Step

    step = Step("gpu", "on_gpu", {}, 1)
    told = {"rehearsal": True, "name": "none", "versions": {}}
    kept = []

    def results(todo):
        yield step, "result", told
        assert [record["gpu"] for record in kept] == [[told]]
        raise KeyboardInterrupt

    monkeypatch.setattr(bench, "results", results)
    with pytest.raises(KeyboardInterrupt):
        bench.bench(Plan(ops=("gpu",), tiny=True), keep=kept.append)
    assert kept[0]["schema"] == 1


def test_a_run_that_measured_nothing_is_none(monkeypatch):
    from xloss_conformance.speed import bench
    from xloss_conformance.speed.plan import Plan, Step

    step = Step("gpu", "on_gpu", {}, 1)
    monkeypatch.setattr(bench, "results", lambda todo: iter([(step, "missing", "no GPU any more")]))
    with pytest.raises(bench.BenchFailed, match="nothing was measured: no GPU any more"):
        bench.bench(Plan(ops=("gpu",), tiny=True))


def test_a_process_that_takes_too_long_is_ended_and_one_that_dies_is_a_line():
    from xloss_conformance.speed.plan import Step
    from xloss_conformance.speed.processes import results

    # The first is over before its process has started; the second's task is none.
    late = Step("works", "on_gpu", {"task": "facts"}, 1, alone=True, until=time.monotonic())
    none = Step("works", "none", {}, 1, alone=True, until=time.monotonic() + 500)
    said = [(step is late, kind, found) for step, kind, found in results([late, none])]
    assert [of[:2] for of in said] == [(True, "missing"), (False, "missing")]
    assert "took too long" in said[0][2]
    assert "KeyError" in said[1][2]


def test_the_version_is_the_packages_own_word(monkeypatch):
    from xloss_conformance.speed import bench
    from xloss_conformance.speed.plan import Plan

    # As on a machine that has the sources and no installed distribution.
    monkeypatch.setattr(xloss, "__version__", "0.0.9")
    monkeypatch.setattr(bench, "results", lambda todo: iter(()))
    assert bench.bench(Plan(ops=("small",)))["xloss"] == "0.0.9"
