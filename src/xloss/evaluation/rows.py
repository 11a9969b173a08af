"""One batch, row by row: loss, weight and prediction, brought to the host."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from .. import backends
from .._xp import Array, cast, quiet
from ..backends.call import Call
from ..core.blocks import cut, cuts
from ..core.spec import Operands
from ..core.targets import prepare
from ..losses.softmax import cross_entropy


@dataclass(frozen=True, slots=True)
class Measured:
    """One batch, row by row, on the host; what the rows are predicted to be stays where it was."""

    losses: npt.NDArray[np.float64]  # (*rows), 0 where absent
    weights: npt.NDArray[np.float64]  # W, 0 where absent
    right: npt.NDArray[np.bool_]
    predicted: Array  # (*rows), the first class of the largest logit


def prepared(logits: Array, targets: Array, /, **options: Any) -> Call:
    """Prepare a call of :func:`cross_entropy` for its rows, out of reach of any autodiff."""
    call: Call = cross_entropy.prepare(  # type: ignore[attr-defined]
        constant(logits), constant(targets), reduction="none", **options
    )
    return call


def measure(call: Call) -> Measured:
    """Return loss, weight and prediction of each row."""
    cx, o, classes = call.cx, call.operands, call.classes
    xp = cx.xp
    rows = tuple(o.x.shape[:-1])
    with quiet(cx):
        if cx.library == "dask":
            return _measure_chunks(call)
        losses = xp.asarray(backends.of(call).value(call))
        if not cx.eager:
            weights, right, predicted = _facts(o, call)
        else:
            parts = [_facts(cut(xp, o, piece, classes), call) for piece in cuts(rows, classes, cx)]
            weights, right, predicted = (
                xp.reshape(xp.concat([p[i] for p in parts]), rows) for i in range(3)
            )
    facts = [cast(cx, losses, cx.wide), weights, cast(cx, right, cx.wide)]
    return _measured(np.asarray(host(xp.stack(facts)), dtype=np.float64), predicted)  # one transfer


def _measured(numbers: npt.NDArray[np.float64], predicted: Array) -> Measured:
    here = (numbers[1] != 0) & ~np.isnan(numbers[0])
    return Measured(numbers[0], numbers[1], (numbers[2] != 0) & here, predicted)


def _measure_chunks(call: Call) -> Measured:
    """Do the same of arrays in chunks, of lengths that may be unknown until they are computed."""
    from ..backends import dask

    losses, weights, right, predicted = dask.facts(call)
    return _measured(np.asarray([losses, weights, right], dtype=np.float64), predicted)


def _facts(o: Operands, call: Call) -> tuple[Array, Array, Array]:
    """Return W of each row, whether the prediction is the label, and the prediction."""
    cx = call.cx
    xp = cx.xp
    t = prepare(o, call.spec, cx, call.classes)
    predicted = xp.argmax(cast(cx, o.x, cx.acc), axis=-1)
    labels = t.labels if t.labels is not None else xp.argmax(t.probs, axis=-1)
    weights = t.weight
    if weights is None:
        weights = xp.ones_like(predicted, dtype=cx.wide)
    return weights, predicted == cast(cx, labels, predicted.dtype), predicted


def constant(x: Array) -> Array:
    """Take an array out of its library's autodiff, where that is a property of arrays."""
    detach = getattr(x, "detach", None)
    return x if detach is None else detach()


def host(x: Array) -> npt.NDArray[Any]:
    """Return the values of an array of any library as a NumPy array."""
    # A lazy graph; a torch device; a CuPy device.
    for leave in ("compute", "cpu", "get"):
        method = getattr(x, leave, None)
        if method is not None:
            x = method()
    try:
        return np.asarray(x)
    except (RuntimeError, TypeError):
        return np.from_dlpack(x)
