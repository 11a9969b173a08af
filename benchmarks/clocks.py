"""The clock of a GPU, beside the host's of `xloss_conformance.timing`: means of queued calls."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from xloss_conformance.timing import Call


@dataclass(frozen=True)
class Queue:
    """Times as many calls together as are queued up in a turn, between two marks.

    One before them is not timed, and keeps the GPU busy while they queue up. The marks are times
    of the host, or events of a GPU.
    """

    mark: Callable[[int], Any] = lambda which: time.perf_counter()
    between: Callable[[Any, Any], float] = lambda start, end: float(end - start)
    settle: Callable[[Any], None] = lambda got: None  # before the first mark
    finish: Callable[[Any], None] = lambda got: None  # before the second
    short: float = 0.01  # seconds of a turn
    runs: int = 200  # at most, in one turn
    # Where a turn is the GPU's time, a cycle that holds arrays of gigabytes may be collected in it.
    quiet: bool = False

    def first(self, call: Call) -> float:
        """Return the seconds of the second run; the first compiles."""
        return self._mean(call, 1)

    def turn(self, call: Call, estimate: float, left: int) -> list[float]:
        """Return the mean of a turn."""
        return [self._mean(call, max(1, min(int(self.short / estimate), self.runs)))]

    def _mean(self, call: Call, runs: int) -> float:
        call.before()
        got = call.run()
        self.settle(got)
        start = self.mark(0)
        for _ in range(runs):
            call.before()
            got = call.run()
        self.finish(got)
        taken = self.between(start, self.mark(1))
        del got
        call.before()
        return taken / runs


def events(marks: Sequence[Any], elapsed: Callable[[Any, Any], float]) -> Queue:
    """Return a clock of two events of a GPU, which tell the milliseconds between them."""

    def mark(which: int) -> Any:
        marks[which].record()
        return marks[which]

    def between(start: Any, end: Any) -> float:
        end.synchronize()
        return elapsed(start, end) / 1e3

    return Queue(mark, between)
