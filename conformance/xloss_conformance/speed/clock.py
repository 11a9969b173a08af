"""Calls that take turns, and what their times say."""

from __future__ import annotations

import gc
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any

# A thread that has just computed for one library still spins for some milliseconds, waiting for
# more; on a machine of few cores it would do so in the next library's time.
NAP = 0.008
FEW = 3  # runs of a call that takes long
SHORT = 0.02  # seconds of a turn that is filled with several calls, the first of them not timed


@dataclass(frozen=True)
class Call:
    """What is timed: `run` alone. `before` and `within` are what a user does once, or elsewhere."""

    run: Callable[[], Any]
    before: Callable[[], None] = lambda: None  # before every run: forget the last gradient
    within: Callable[[], AbstractContextManager[Any]] = nullcontext  # around every turn
    # What `run` returned -> the loss, and some of the gradient where there is one.
    answer: Callable[[Any], tuple[float, Any]] = lambda got: (float(got), None)
    engine: str = ""
    # The losses of the rows that are compared, on a GPU: by the same kernels, one a row.
    losses: Callable[[], Any] | None = None


def in_turns(
    calls: Mapping[str, Call],
    *,
    seconds: float,
    least: int = 5,
    most: int = 200,
    clock: Callable[[], float] = time.perf_counter,
    nap: Callable[[float], None] = time.sleep,
) -> dict[str, list[float]]:
    """Return the seconds of each call's runs; they take turns, so that all meet the same noise.

    Each runs for about so many seconds, `least` times at least and `most` at most; what is far too
    slow for that, fewer times (`enough`). The first run of each, which compiles, is not timed.
    """
    times: dict[str, list[float]] = {name: [] for name in calls}
    spent = dict.fromkeys(calls, 0.0)
    estimate: dict[str, float] = {}
    for name, call in calls.items():
        with call.within():
            estimate[name] = max(once(call, clock), 1e-9)
    playing = list(calls)
    gc.collect()
    enabled = gc.isenabled()
    gc.disable()
    try:
        while playing:
            for name in playing:
                call, taken = calls[name], times[name]
                runs = min(int(SHORT / estimate[name]) or 1, most - len(taken))
                nap(NAP)
                with call.within():
                    if estimate[name] < SHORT:
                        once(call, clock)
                    for _ in range(runs):
                        taken.append(once(call, clock))
                        spent[name] += taken[-1]
            playing = [
                name
                for name in playing
                if len(times[name]) < enough(spent[name], seconds, least)
                or (spent[name] < seconds and len(times[name]) < most)
            ]
    finally:
        if enabled:
            gc.enable()
    return times


def enough(spent: float, seconds: float, least: int) -> int:
    """Return how many runs there must be of a call whose runs have taken so long."""
    if spent > 10 * seconds:
        return 1
    return min(FEW, least) if spent > 2 * seconds else least


def once(call: Call, clock: Callable[[], float]) -> float:
    """Return the seconds of one run; what it returns is freed after the clock has stopped."""
    call.before()
    start = clock()
    got = call.run()
    taken = clock() - start
    del got
    return taken


def spread(times: Sequence[float]) -> dict[str, Any]:
    """Return median, least and quartiles in milliseconds, and how many runs they are of."""
    ms = sorted(t * 1e3 for t in times)
    low, middle, high = statistics.quantiles(ms, n=4, method="inclusive") if len(ms) > 1 else ms * 3
    return {"runs": len(ms), "median_ms": middle, "min_ms": ms[0], "q1_ms": low, "q3_ms": high}
