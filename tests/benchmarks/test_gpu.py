"""What a run on a GPU does, on the host: CPU tensors, and NumPy as a stand-in for CuPy."""

from __future__ import annotations

import time
from types import SimpleNamespace

import numpy as np
import pytest

from benchmarks import contenders, libraries, tasks
from benchmarks import work as works_of
from benchmarks.__main__ import main
from benchmarks.clocks import Queue
from benchmarks.contenders import Contender
from benchmarks.plan import TABLES
from benchmarks.record import read
from benchmarks.right import right
from benchmarks.work import Data, Work
from xloss.engines.cuda import engine as cuda
from xloss_conformance.timing import Call

torch = pytest.importorskip("torch", reason="pip install 'xloss[torch]'")

PACE = {"seconds": 1e-4, "least": 2, "most": 2}
ON_TORCH = ("xloss torch", "xloss torch, closed form", "torch")
CALLS = [
    Work("gradient", (17, 60), True, "bfloat16"),
    Work("forward", (17, 60), False, "float32"),
    Work("segmentation", (2, 3, 4, 5), True, "bfloat16", 1),
    Work("linear", (8, 50), True, "bfloat16", features=16),
    Work("host", (32, 1000), True),
]


def found(works, names, device="cpu", **how):
    return list(tasks.times(1, [tasks.Group(works, names, PACE)], device, **how))


def works(given):
    return [entry for kind, entry in given if kind == "works"]


# ---- The whole way -------------------------------------------------------------------------------


def test_every_kind_of_call_goes_the_whole_way_on_torch():
    timed = works(found(CALLS, ON_TORCH))
    assert [entry["op"] for entry in timed] == [work.op for work in CALLS]
    for work, entry in zip(CALLS, timed, strict=True):
        runs = {run["contender"]: run for run in entry["runs"]}
        assert set(runs) == {*ON_TORCH}
        assert (entry["refused"], entry["library"]) == ([], "torch")
        assert (entry["bound"] is None) == (work.op == "host")
        for name, run in runs.items():
            # The same bytes, whichever way a call goes.
            assert run["gb_s"] == pytest.approx(work.moved / run["median_ms"] / 1e6)
            assert ("peak_bytes" in run) == bool(work.features)
            if name == "torch" or work.features:
                continue
            assert run["value_ulp"] <= 4
            assert abs(run["tail"] or 0) < 1e-6
            most = 1 if work.dtype == "bfloat16" else 4
            assert run["gradient_ulp"] <= most if work.gradient else run["gradient_ulp"] is None
        assert runs["torch"]["engine"] == ""
    assert timed[3]["bound"]["by"] == "the three products alone"


def test_a_copys_time_counts_for_the_bytes_that_the_loss_must_move():
    work, where = Work("forward", (8, 60)), libraries.Torch("cpu")
    (copy,) = where.bounds(work, where.given(work)).values()
    told = copy.told("a copy", [3.0])
    assert told["median_ms"] == pytest.approx(3e3 * work.moved / (2 * 8 * 60 * 4))
    assert told["gb_s"] == pytest.approx(2 * 8 * 60 * 4 / 3e9)


# By day its parts run, each in a test of its own.
@pytest.mark.nightly
@pytest.mark.skipif(cuda.unavailable() is None, reason="here is a GPU: it would be measured")
def test_a_rehearsal_runs_the_whole_way_on_the_host(tmp_path, capsys):
    assert main(["gpu", "--tiny", "--publish", str(tmp_path)]) == 0
    assert capsys.readouterr().out.endswith(f"see {tmp_path / 'performance-gpu.md'}\n")
    record = read(tmp_path / "performance-gpu.json")
    assert record["gpu"][0]["rehearsal"]
    timed = {w["op"] for w in record["works"] if w["library"] == "torch"}
    assert timed == {row["op"] for row in TABLES["gpu"]}
    assert [w["refused"] for w in record["works"] if w["refused"]] == []
    assert any(line.startswith("cupy: ") for line in record["missing"])
    assert {t["kind"] for t in record["targets"]} == {"ulp", "ratio", "reach", "microseconds"}
    page = (tmp_path / "performance-gpu.md").read_text("utf-8")
    assert "no figure here says anything about a GPU" in page


# ---- Who is left out, and why --------------------------------------------------------------------


class OutOfMemoryError(Exception):
    pass


def full(*given):
    raise OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB")


def test_another_answer_and_too_little_memory_are_no_figures():
    """Of contenders whose calls return something, where 1 is right."""
    answers = {"wrong": lambda: 1.01, "full": full, "right": lambda: 1.0}
    who = [
        Contender(name, lambda work, given, where, of=of: Call(of), "torch")
        for name, of in answers.items()
    ]
    work, nothing = Work("forward", (8, 60)), Data(None, None)
    want = right(work, nothing)._replace(value=1.0)
    calls, checks, refused = tasks.prepared(who, work, {"torch": nothing}, want, tasks.Place())
    assert list(calls) == list(checks) == ["right"]
    assert [r["reason"][:24] for r in refused] == ["computes something else:", "out of memory"]


def test_no_call_is_begun_when_the_time_is_over():
    got = found(CALLS, ON_TORCH, until=time.monotonic() - 1)
    assert [kind for kind, _ in got] == ["contenders"] * 3 + ["missing"]
    assert got[3][1].startswith("no time was left to measure, with torch: bfloat16 (17, 60)")


# ---- CuPy ----------------------------------------------------------------------------------------


def test_the_contenders_of_cupy_go_the_whole_way(monkeypatch):
    """On NumPy, with what the benchmarks ask of CuPy, each of which CuPy must have."""
    cupy = pytest.importorskip("cupy", reason="pip install 'xloss[cupy]'")
    special = pytest.importorskip("scipy.special", reason="pip install scipy")
    waits = SimpleNamespace(synchronize=lambda: None)
    module = SimpleNamespace(
        **{name: getattr(np, name) for name in ("empty_like", "copyto", "arange", "exp")},
        get_default_memory_pool=lambda: SimpleNamespace(free_all_blocks=lambda: None),
        cuda=SimpleNamespace(get_current_stream=lambda: waits),
    )
    assert set(vars(module)) <= set(dir(cupy))
    assert {*vars(module.cuda), "Event", "get_elapsed_time"} <= set(dir(cupy.cuda))
    adapter = SimpleNamespace(array=np.array, module=module)
    monkeypatch.setattr(libraries, "array_library", lambda name: adapter)
    monkeypatch.setattr(contenders, "import_module", {"cupyx.scipy.special": special}.__getitem__)
    monkeypatch.setattr(works_of, "DISTINCT", 120)  # of 16 classes 7 rows, which are repeated
    monkeypatch.setattr(libraries, "HOST_RUNS", 2)
    # The stand-in's events tell no time: the host's clock does.
    monkeypatch.setattr(libraries.Cupy, "queue", lambda self: Queue())
    names = ["xloss cupy", "cupy by hand"]
    calls = [Work("forward", (64, 16), False, "float16"), Work("gradient", (64, 16), True)]
    calls.append(Work("host", (32, 1000), True))
    timed = works(found(calls, names, "cuda"))
    for work, entry in zip(calls, timed, strict=True):
        assert entry["refused"] == []
        assert (entry["bound"] is None) == (work.op == "host")
        assert [run["contender"] for run in entry["runs"]] == names
        assert entry["runs"][0]["value_ulp"] <= 4
        for run in entry["runs"]:
            assert (run["gradient_ulp"] is not None) == work.gradient
