"""xloss bench --op gpu: refused without a GPU, rehearsed on the host and on emulated kernels."""

import json
import re
import subprocess
import sys

import pytest

import xloss
from emulated import COMPILER, emulated
from xloss.cli.app import run
from xloss.engines import cuda

pytest.importorskip("torch", reason="pip install 'xloss[torch]'")
pytest.importorskip("mpmath", reason="pip install 'xloss[conformance]'")
from xloss_conformance.speed import gpu, gpu_tasks


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
        [sys.executable, "-m", "xloss.cli", "bench", "--tiny", "--op", "gpu", "--peer", "torch",
         "--peer", "optax", "--publish", str(tmp_path), "--json"],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert (ran.returncode, ran.stderr) == (0, "")
    record = json.loads(ran.stdout)
    assert record["gpu"][0]["rehearsal"]
    assert {(c["library"], one["reason"]) for c in record["checks"] for one in c["of"]} == {
        ("torch", "")
    }
    timed = {(w["library"], w["kind"], w["dtype"]) for w in record["works"]}
    kinds = [(kind, dtype) for kind in ("forward", "gradient") for dtype in ("bfloat16", "float32")]
    assert {("torch", *kind) for kind in kinds} | {("torch", "host", "float32")} <= timed
    assert [w["refused"] for w in record["works"] if w["refused"]] == []
    assert re.search(r"^cupy: ", "\n".join(record["missing"]), re.MULTILINE)
    judged = {(t["kind"], t["against"]) for t in record["targets"]}
    assert judged == {
        ("ulp", "value"), ("ulp", "gradient"), ("reach", "copy"), ("ratio", "torch"),
        ("microseconds", ""),
    }  # fmt: skip
    assert {path.name for path in tmp_path.iterdir()} == {
        "performance-gpu.json", "performance-gpu.md",
    }  # fmt: skip
    page = (tmp_path / "performance-gpu.md").read_text("utf-8")
    assert "no figure here says anything about a GPU" in page
    assert "Not measured" not in page


@pytest.mark.skipif(COMPILER is None, reason="the kernels are run on the host by g++: install it")
def test_the_engine_itself_is_checked_and_timed():
    asked = {"library": "torch", "threads": 1, "device": "cpu"}
    with emulated():
        found = [
            *gpu_tasks.check(works=gpu.checked("torch", tiny=True), **asked),
            *gpu_tasks.times(
                works=gpu.works("torch", tiny=True), names=gpu.names("torch", ("torch",)),
                seconds=1e-4, rounds=2, engine="cuda", **asked,
            ),
        ]  # fmt: skip
    results = [entry for kind, entry in found if kind == "result"]
    checks = [entry for entry in results if "of" in entry]
    assert len(checks) == 8
    for one in (one for entry in checks for one in entry["of"]):
        assert (one["reason"], one["value_ulp"] <= 4) == ("", True)
    works = [entry for entry in results if "runs" in entry]
    assert len(works) == 8
    engines = {run["contender"]: run["engine"] for work in works for run in work["runs"]}
    assert engines == {
        "xloss torch": "cuda", "xloss torch, closed form": "cuda", "torch": "",
    }  # fmt: skip


def test_the_version_is_the_packages_own_word(monkeypatch):
    from xloss_conformance.speed import bench
    from xloss_conformance.speed.plan import Plan

    # As on a machine that has the sources and no installed distribution.
    monkeypatch.setattr(xloss, "__version__", "0.0.9")
    monkeypatch.setattr(bench, "results", lambda todo: iter(()))
    assert bench.bench(Plan(ops=("small",)))["xloss"] == "0.0.9"
