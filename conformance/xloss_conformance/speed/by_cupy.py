"""CuPy on the GPU: xloss, and the loss as one writes it by hand."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import cupy
import cupyx.scipy.special
import numpy as np

import xloss

from ..homes import home
from . import gpu
from .clock import Call
from .contenders import Contender
from .work import Data, Work


class Device:
    """CuPy's current GPU."""

    library = "cupy"
    most = 200  # calls in one turn

    def __init__(self, device: str) -> None:
        home("cupy")  # or Missing, which says why there is none
        self.versions = {"cupy by hand": str(cupy.__version__)}
        self.marks = [cupy.cuda.Event() for _ in range(2)]

    def arrays(self, work: Work, given: Data) -> Data:
        x = cupy.asarray(given.x)
        if len(x) < work.shape[0]:
            x = cupy.tile(x, (work.shape[0] // len(x), 1))
        return Data(x, cupy.asarray(given.y))

    def copy(self, x: Any) -> Call:
        to = cupy.empty_like(x)
        return Call(lambda: cupy.copyto(to, x))

    def wait(self) -> None:
        cupy.cuda.get_current_stream().synchronize()

    def fresh(self) -> None:
        """Hand unused memory back, before another work."""
        cupy.get_default_memory_pool().free_all_blocks()

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


def _answer(work: Work) -> Callable[[Any], tuple[float, Any]]:
    at = gpu.rows_read(work)

    def answer(got: Any) -> tuple[float, Any]:
        if not work.gradient:
            return float(got), None
        return float(got[0]), np.asarray(cupy.asnumpy(got[1][cupy.asarray(at)]), np.float64)

    return answer


def _ours(work: Work, given: Data, threads: int) -> Call:
    x, y = given.x, given.y
    if not work.gradient:
        return Call(lambda: xloss.cross_entropy(x, y), answer=_answer(work))
    both = xloss.value_and_grad(xloss.cross_entropy)
    return Call(lambda: both(x, y), answer=_answer(work))


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
