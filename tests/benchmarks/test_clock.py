"""How the benchmarks take time and read memory."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from benchmarks.clocks import Queue
from benchmarks.memory import peak
from benchmarks.plan import GPU_PACE
from xloss_conformance.timing import NAP, Call, HostClock, in_turns, spread


class Time:
    """A clock that calls move on, and what ran."""

    def __init__(self) -> None:
        self.now = 0.0
        self.ran: list[str] = []
        self.host = HostClock(lambda: self.now, self.pass_by)

    def pass_by(self, seconds: float) -> None:
        self.now += seconds

    def queue(self, **how: float) -> Queue:
        return Queue(mark=lambda which: self.now, **how)

    def call(self, name: str, lasts: Callable[[int], float], before: float = 0.0) -> Call:
        def run() -> None:
            self.pass_by(lasts(self.ran.count(name)))
            self.ran.append(name)

        return Call(run, before=lambda: self.pass_by(before))


# ---- Turns and medians ---------------------------------------------------------------------------


def test_calls_take_turns_and_the_first_runs_are_not_timed() -> None:
    time = Time()
    calls = {
        "a": time.call("a", lambda run: 100.0 if run == 0 else 1.0 + run),
        # What a user does before a run is not timed either.
        "b": time.call("b", lambda run: 50.0 if run == 0 else 0.5, before=7.0),
    }
    times = in_turns(calls, seconds=3, least=3, clock=time.host)
    assert time.ran == ["a", "b", "a", "b", "a", "b", "a", "b", "b", "b", "b"]
    assert times["a"] == pytest.approx([2.0, 3.0, 4.0])
    assert times["b"] == pytest.approx([0.5] * 6)


@pytest.mark.parametrize(
    ("lasts", "pace", "turns"),
    [
        ({"slow": 4.0, "fast": 1.0}, {"seconds": 6.0, "least": 5}, [4, 6]),
        ({"far too slow": 70.0, "fast": 3.0}, {"seconds": 6.0, "least": 5}, [1, 5]),
        ({"short": 0.001}, {"seconds": 9, "most": 33}, [33]),
        ({"quick": 0.01, "slow": 0.5, "slower": 3.0}, GPU_PACE, [7, 3, 1]),
    ],
)
def test_a_slow_call_sits_out_when_its_time_is_spent(lasts, pace, turns) -> None:
    time = Time()
    calls = {name: time.call(name, lambda _, t=t: t) for name, t in lasts.items()}
    clock = time.queue() if pace is GPU_PACE else time.host
    times = in_turns(calls, clock=clock, **pace)
    assert [len(of) for of in times.values()] == turns


def test_a_turn_of_a_short_call_has_several_runs_after_one_that_is_not_timed() -> None:
    time = Time()
    tick = 2.0**-10  # of which 20 fill a turn
    durations = [tick, *[4 * tick, *[tick] * 20] * 9]  # the first after a nap is slower
    calls = {"a": time.call("a", lambda run: durations[run])}
    times = in_turns(calls, seconds=0.035, least=5, clock=time.host)["a"]
    assert times == pytest.approx([tick] * 40)
    assert time.now == pytest.approx(tick + 2 * (NAP + 24 * tick))


def test_a_turn_of_queued_calls_is_their_mean_after_one_that_is_not_timed() -> None:
    time = Time()
    durations = [9.0, 0.5, 7.0, *[0.25] * 4, 7.0, *[0.75] * 4]  # two before the turns
    calls = {"a": time.call("a", lambda run: durations[run])}
    times = in_turns(calls, seconds=9.0, least=2, most=2, clock=time.queue(short=2.0))
    assert times == {"a": [0.25, 0.75]}


def test_a_spread_is_median_least_and_quartiles_in_milliseconds() -> None:
    want = {"runs": 5, "median_ms": 3.0, "min_ms": 1.0, "q1_ms": 2.0, "q3_ms": 5.0}
    assert spread([0.009, 0.001, 0.003, 0.002, 0.005]) == pytest.approx(want)
    assert set(spread([0.002]).values()) == {1, 2.0}


def test_who_fails_later_leaves_the_others_their_turns() -> None:
    time = Time()
    full = MemoryError("no more")

    def fails(run: int) -> float:
        if run > 2:
            raise full
        return 1.0

    calls = {"full": time.call("full", fails), "right": time.call("right", lambda run: 1.0)}
    lost: dict[str, Exception] = {}
    times = in_turns(calls, seconds=3.9, least=4, clock=time.host, lost=lost)
    assert {name: len(of) for name, of in times.items()} == {"right": 4}
    assert lost == {"full": full}
    with pytest.raises(MemoryError):
        in_turns(calls, seconds=4, least=4, clock=time.host)


# ---- Memory --------------------------------------------------------------------------------------

SIZE = 48 * 2**20
SLACK = 4 * 2**20


def test_the_peak_sees_what_a_call_returns_and_what_malloc_had_kept() -> None:
    small = 2**16  # from the heap, which cannot shrink below what is held
    held = []

    def run() -> int:
        freed = [bytearray(b"x" * small) for _ in range(SIZE // small)]
        held.append(bytearray(b"x" * small))
        return len(freed)

    assert abs(peak(Call(lambda: np.ones(SIZE, np.uint8))) - SIZE) < SLACK
    assert abs(peak(Call(run), 1) - SIZE) < SLACK
