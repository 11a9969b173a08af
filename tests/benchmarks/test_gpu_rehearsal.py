"""The benchmarks of a GPU, rehearsed on the host and on emulated kernels."""

import re
import subprocess
import sys

import pytest

from benchmarks.record import read
from emulated import COMPILER, emulated
from places import ROOT
from xloss.engines.cuda import engine as cuda

pytest.importorskip("torch", reason="pip install 'xloss[torch]'")
pytest.importorskip("mpmath", reason="pip install 'xloss[conformance]'")
from benchmarks import tasks
from benchmarks.plan import TABLES, TINY_PACE, Plan


# By day its parts run, each in a test of its own: calls and processes (test_gpu.py), the engine
# (below), events, peers, targets, pages.
@pytest.mark.nightly
@pytest.mark.skipif(cuda.unavailable() is None, reason="here is a GPU: it would be measured")
def test_a_rehearsal_runs_the_whole_way_on_the_host(tmp_path):
    asked = ["--tiny", "--peer", "torch", "--peer", "optax", "--publish", str(tmp_path)]
    ran = subprocess.run(
        [sys.executable, "-m", "benchmarks", "gpu", *asked],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert ran.returncode == 0, ran.stderr
    assert ran.stdout.endswith(f"targets met; see {tmp_path / 'performance-gpu.md'}\n")
    record = read(tmp_path / "performance-gpu.json")
    assert record["gpu"][0]["rehearsal"]
    assert record["compiled"][0]["calls"] == 12
    timed = {(w["library"], w["op"], w["dtype"]) for w in record["works"]}
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
        ("ratio", "bound"),  # of a linear layer; of a copy there is one where classes are many
        ("reach", "bound"),
        ("ratio", "torch"),
        ("microseconds", ""),
    }
    assert {path.name for path in tmp_path.iterdir()} == {
        "performance-gpu.json",
        "performance-gpu.md",
    }
    page = (tmp_path / "performance-gpu.md").read_text("utf-8")
    assert "no figure here says anything about a GPU" in page


@pytest.mark.skipif(COMPILER is None, reason="the kernels are run on the host by g++: install it")
def test_the_engine_itself_is_checked_and_timed():
    plan = Plan("gpu", peers=("torch",), tiny=True)
    rows = [row for row in TABLES["gpu"] if row["op"] in ("forward", "gradient")]
    groups = [
        tasks.Group([work for work in group.works if work.classes == 60], group.names, group.pace)
        for row in rows
        if row["process"].startswith("torch")
        for group in plan.groups(row, TINY_PACE)
    ]
    with emulated() as device:
        found = list(tasks.times(1, groups, "cpu", compiled="cuda"))
    assert device.launches
    entries = [entry for kind, entry in found if kind == "works"]
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
