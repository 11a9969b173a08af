"""How time is read on a GPU, held by stand-ins for its events and for CuPy's arrays."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from benchmarks.gpu import plan
from xloss_conformance.timing import Call

pytest.importorskip("torch", reason="pip install 'xloss[torch]'")
from benchmarks.gpu import tasks

PACE: dict[str, Any] = {"seconds": 1e-4, "rounds": 2, "most": 1.0, "until": float("inf")}
Queue = list[str]


class Stream:
    """A GPU that works through what is queued up; each call takes it two milliseconds."""

    def __init__(self) -> None:
        self.queue: Queue = []

    def event(self, **options: Any) -> Any:
        stream = self

        class Event:
            at = 0

            def record(self) -> None:
                stream.queue.append("mark")
                self.at = len(stream.queue)

            def synchronize(self) -> None:
                stream.queue.append("wait")

            def elapsed_time(self, end: Any) -> float:
                return 2.0 * stream.queue[self.at : end.at].count("call")

        return Event()

    def call(self) -> None:
        self.queue.append("call")


TURN = ["call", "mark", "call", "call", "call", "mark", "wait"]


def test_torchs_events_stand_around_the_calls_of_a_turn(monkeypatch: pytest.MonkeyPatch) -> None:
    import torch

    from benchmarks.gpu.on_torch import Device

    stream, forgotten = Stream(), []
    monkeypatch.setattr(torch.cuda, "Event", stream.event)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    where = Device("cuda")
    call = Call(stream.call, before=lambda: forgotten.append(len(stream.queue)))
    assert where.seconds(call, 3) == pytest.approx(0.002)
    assert stream.queue == TURN
    assert forgotten == [0, 2, 3, 4, 7]  # before every call, and when all is done


def standin(stream: Stream) -> Any:
    """Return NumPy with what the benchmarks ask of CuPy, each of which CuPy must have."""
    cupy = pytest.importorskip("cupy", reason="pip install 'xloss[cupy]'")
    made = SimpleNamespace(
        **{
            name: getattr(np, name)
            for name in ("asarray", "tile", "empty_like", "copyto", "arange", "exp")
        },
        asnumpy=np.asarray,
        __version__="0",
        get_default_memory_pool=lambda: SimpleNamespace(free_all_blocks=lambda: None),
        cuda=SimpleNamespace(
            Event=stream.event,
            get_elapsed_time=lambda start, end: start.elapsed_time(end),
            get_current_stream=lambda: SimpleNamespace(synchronize=lambda: None),
            runtime=SimpleNamespace(getDeviceCount=lambda: 1, CUDARuntimeError=OSError),
        ),
    )
    for name in vars(made):
        assert hasattr(cupy, name), name
    for name in vars(made.cuda):
        assert hasattr(cupy.cuda, name), name
    assert hasattr(cupy.cuda.Stream, "synchronize")
    special = pytest.importorskip("cupyx.scipy.special", reason="pip install 'xloss[cupy]'")
    assert hasattr(special, "log_softmax")
    assert {"record", "synchronize"} <= set(dir(cupy.cuda.Event))
    return made


@pytest.fixture
def on_standin(monkeypatch: pytest.MonkeyPatch) -> Stream:
    special = pytest.importorskip("scipy.special", reason="pip install scipy")
    stream = Stream()
    fake = standin(stream)
    from benchmarks.gpu import on_cupy

    monkeypatch.setattr(on_cupy, "cupy", fake)
    scipy = SimpleNamespace(scipy=SimpleNamespace(special=special))
    monkeypatch.setattr(on_cupy, "cupyx", scipy)
    return stream


def test_cupys_events_stand_around_the_calls_of_a_turn(on_standin: Stream) -> None:
    from benchmarks.gpu.on_cupy import Device

    assert Device("cuda").seconds(Call(on_standin.call), 3) == pytest.approx(0.002)
    assert on_standin.queue == TURN


def _half(self: Any, call: Call, runs: int) -> float:
    call.run()
    return 0.5


@pytest.mark.usefixtures("on_standin")
def test_the_contenders_of_cupy_go_the_whole_way(monkeypatch: pytest.MonkeyPatch) -> None:
    from benchmarks.gpu.on_cupy import Device

    monkeypatch.setattr(Device, "seconds", _half)
    names = plan.names("cupy", ())
    monkeypatch.setattr(plan, "HOST_RUNS", 2)
    asked: dict[str, Any] = {"library": "cupy", "threads": 1, "device": "cuda", "names": names}
    works = [w for w in plan.works("cupy", tiny=True) if w.classes != 60]
    monkeypatch.setattr(plan, "DISTINCT", 120)  # of 16 classes 7 rows, which are repeated
    found = list(tasks.times(works=works, engine="cpu", tiny=True, **PACE, **asked))
    timed = [entry for kind, entry in found if kind == "works"]
    assert [entry["kind"] for entry in timed] == ["gradient", "forward"] * 2 + ["host", "host"]
    for entry in timed:
        assert entry["refused"] == []
        runs = {run["contender"]: run for run in entry["runs"]}
        assert set(runs) == set(names)
        assert runs["xloss cupy"]["value_ulp"] <= 4
