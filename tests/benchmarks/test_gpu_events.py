"""How time is read on a GPU, held by stand-ins for its events and for CuPy's arrays."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from benchmarks import contenders, libraries
from benchmarks import work as works_of
from benchmarks.clocks import Queue
from benchmarks.work import Work
from xloss_conformance.timing import Call

pytest.importorskip("torch", reason="pip install 'xloss[torch]'")
from benchmarks import tasks

PACE: dict[str, Any] = {"seconds": 1e-4, "least": 2, "most": 2}


class Stream:
    """A GPU that works through what is queued up; each call takes it two milliseconds."""

    def __init__(self) -> None:
        self.queue: list[str] = []

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

    stream, forgotten = Stream(), []
    monkeypatch.setattr(torch.cuda, "Event", stream.event)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    clock = libraries.Torch("cuda").clock()
    call = Call(stream.call, before=lambda: forgotten.append(len(stream.queue)))
    assert clock.turn(call, 0.003, 7) == pytest.approx([0.002])
    assert stream.queue == TURN
    assert forgotten == [0, 2, 3, 4, 7]  # before every call, and when all is done


def standin(stream: Stream) -> Any:
    """Return NumPy with what the benchmarks ask of CuPy, each of which CuPy must have."""
    cupy = pytest.importorskip("cupy", reason="pip install 'xloss[cupy]'")
    names = ("asarray", "empty_like", "copyto", "arange", "exp")
    made = SimpleNamespace(
        **{name: getattr(np, name) for name in names},
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
    found = {"cupy": fake, "cupyx.scipy.special": special}
    for module in (libraries, contenders):
        monkeypatch.setattr(module, "import_module", found.__getitem__)
    return stream


def test_cupys_events_stand_around_the_calls_of_a_turn(on_standin: Stream) -> None:
    clock = libraries.Cupy().clock()
    assert clock.turn(Call(on_standin.call), 0.003, 7) == pytest.approx([0.002])
    assert on_standin.queue == TURN


@pytest.mark.usefixtures("on_standin")
def test_the_contenders_of_cupy_go_the_whole_way(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(works_of, "DISTINCT", 120)  # of 16 classes 7 rows, which are repeated
    monkeypatch.setattr(libraries, "HOST_RUNS", 2)
    # The stand-in's events tell no time: the host's clock does.
    monkeypatch.setattr(libraries.Cupy, "queue", lambda self: Queue())
    names = ("xloss cupy", "cupy by hand")
    ops = {"forward": False, "gradient": True}
    works = [Work(op, (64, 16), g, d) for d in ("float16", "float32") for op, g in ops.items()]
    works += [Work("host", (32, 1000), gradient) for gradient in (True, False)]
    found = list(tasks.times(1, [tasks.Group(works, names, PACE)], "cuda", compiled="cpu"))
    timed = [entry for kind, entry in found if kind == "works"]
    assert len(timed) == 6
    for work, entry in zip(works, timed, strict=True):
        assert entry["refused"] == []
        assert (entry["bound"] is None) == (work.op == "host")
        runs = {run["contender"]: run for run in entry["runs"]}
        assert set(runs) == set(names)
        assert runs["xloss cupy"]["value_ulp"] <= 4
        for run in runs.values():
            assert (run["gradient_ulp"] is not None) == work.gradient
