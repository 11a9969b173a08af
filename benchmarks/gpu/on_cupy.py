"""CuPy on the GPU: xloss, and the loss as one writes it by hand."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import cupy
import cupyx.scipy.special
import numpy as np

import xloss
from xloss_conformance.timing import Call

from ..contenders import Contender, Missing
from ..work import Data, Work
from . import check, plan


class Device:
    """CuPy's current GPU."""

    library = "cupy"
    most = 200  # calls in one turn

    def __init__(self, device: str) -> None:
        try:
            count = cupy.cuda.runtime.getDeviceCount()
        except cupy.cuda.runtime.CUDARuntimeError:  # no driver
            count = 0
        if not count:
            raise Missing("cupy: CuPy finds no GPU")
        self.versions = {"cupy by hand": str(cupy.__version__)}
        self.marks = [cupy.cuda.Event() for _ in range(2)]

    def given(self, work: Work) -> tuple[Data, check.Right]:
        """Return the arguments of a call on the GPU, and what must come out."""
        drawn = plan.data(work.op, work.shape, work.dtype, work.axis)
        x, y = cupy.asarray(drawn.x), cupy.asarray(drawn.y)
        return Data(x[cupy.arange(len(y)) % len(x)], y), check.right(work)

    def bound(self, work: Work, given: Data) -> tuple[str, Call]:
        """Return a copy of the logits."""
        to = cupy.empty_like(given.x)
        return "copy", Call(lambda: cupy.copyto(to, given.x))

    def wait(self) -> None:
        cupy.cuda.get_current_stream().synchronize()

    def fresh(self) -> None:
        """Hand unused memory back, before another work."""
        cupy.get_default_memory_pool().free_all_blocks()

    def peak(self, call: Call) -> None:
        """CuPy's pool does not tell the most that it held."""

    def seconds(self, call: Call, runs: int) -> float:
        """Return the GPU's time for a call; one before them keeps it busy while they queue up."""
        start, end = self.marks
        call.run()
        start.record()
        for _ in range(runs):
            call.run()
        end.record()
        end.synchronize()
        return float(cupy.cuda.get_elapsed_time(start, end)) / 1e3 / runs


def loss(xp: Any, log_softmax: Callable[..., Any], x: Any, y: Any) -> Any:
    """Return the mean of the losses: the labels' entries of log_softmax."""
    return -log_softmax(x, axis=-1)[xp.arange(len(y)), y].mean(dtype=np.float32)


def loss_and_gradient(xp: Any, log_softmax: Callable[..., Any], x: Any, y: Any) -> tuple[Any, Any]:
    """Return the same, and softmax less one-hot over the rows; softmax is exp of what there is."""
    rows = xp.arange(len(y))
    logs = log_softmax(x, axis=-1)
    value = -logs[rows, y].mean(dtype=np.float32)
    gradient = xp.exp(logs)
    gradient[rows, y] -= 1
    gradient *= 1 / len(y)
    return value, gradient


def _read(work: Work, rows: Any) -> Any:
    at = cupy.asarray(check.rows_read(work))
    return np.asarray(cupy.asnumpy(rows[at]), np.float64)


def _answer(work: Work) -> Callable[[Any], tuple[float, Any]]:
    def answer(got: Any) -> tuple[float, Any]:
        return (float(got[0]), _read(work, got[1])) if work.gradient else (float(got), None)

    return answer


def _ours(work: Work, given: Data, threads: int) -> Call:
    x, y = given.x, given.y

    def losses() -> Any:
        return _read(work, xloss.cross_entropy(x, y, reduction="none"))

    both = xloss.value_and_grad(xloss.cross_entropy)
    does: Callable[..., Any] = both if work.gradient else xloss.cross_entropy
    return Call(lambda: does(x, y), answer=_answer(work), losses=losses)


def _by_hand(work: Work, given: Data, threads: int) -> Call:
    x, y, log_softmax = given.x, given.y, cupyx.scipy.special.log_softmax
    does = loss_and_gradient if work.gradient else loss
    return Call(lambda: does(cupy, log_softmax, x, y), answer=_answer(work))


SAID = "-cupyx.scipy.special.log_softmax(x)[rows, y].mean(); exp of it, less one-hot, over rows"
CONTENDERS = {
    c.name: c
    for c in (
        Contender("xloss cupy", "cupy", "cross_entropy; value_and_grad", _ours),
        Contender("cupy by hand", "cupy", SAID, _by_hand, True),
    )
}
