"""What must come out of the calls that are timed, by NumPy's float64; errors in ulp."""

from __future__ import annotations

from functools import lru_cache
from math import prod
from typing import Any, NamedTuple

import numpy as np
from array_api_compat import array_namespace

from xloss_conformance.budget import errors
from xloss_conformance.rounding import numpy_dtype
from xloss_conformance.timing import Call, NotOffered, on_host

from .work import Array, Data, Work, drawn

READ = 16  # rows whose losses, and every gradient entry, are compared; the first has the tail
BEYOND = 1e9  # ulp of what is no number
BLOCK = 1024  # rows of a linear layer's logits that are held at once


class Right(NamedTuple):
    """The mean; losses and gradient of the rows that are read, where they are known."""

    value: float
    losses: Array | None
    gradient: Array | None


def rows_read(work: Work) -> Array:
    """Return the rows that are compared: from the first to the last."""
    return np.unique(np.linspace(0, prod(work.rows) - 1, READ).astype(np.int64))


def read(work: Work, array: Any, classes: bool = True) -> Array:
    """Return those rows of a gradient, or, without classes, of the losses of all rows."""
    found = []
    for row in rows_read(work):
        at: list[Any] = [int(i) for i in np.unravel_index(row, work.rows)]
        if classes:
            at.insert(work.axis % len(work.shape), slice(None))
        found.append(on_host(array[tuple(at)]))
    return np.stack(found)


@lru_cache(1)
def _rows(work: Work) -> tuple[float, Array, Array]:
    """Return the mean, and losses and gradient of the rows that are read.

    The largest logit stays out of the sums, so that nothing cancels: a loss of 1e-6 has all of its
    digits.
    """
    some = drawn(work)
    x, y = some.x.astype(np.float64), some.y.ravel()
    each, top = np.arange(len(x)), x.argmax(-1)
    most = x[each, top]
    terms = np.exp(x - most[:, None])
    terms[each, top] = 0
    rest = terms.sum(-1)
    of = np.arange(len(y)) % len(x)
    losses = np.log1p(rest)[of] + (most[of] - x[of, y])
    at = rows_read(work)
    row, label, n = of[at], y[at], np.arange(len(at))
    terms = terms[row]
    gradient = terms / (1 + rest[row, None])
    gradient[n, top[row]] = 1 / (1 + rest[row])
    others = rest[row] - terms[n, label] + 1
    gradient[n, label] = -np.where(label == top[row], rest[row], others) / (1 + rest[row])
    return float(losses.mean()), losses[at], gradient / len(y)


def _linear(work: Work, given: Data) -> Right:
    """Compute a linear layer's loss in blocks of float32, where its arrays are."""
    xp: Any = array_namespace(given.x)
    wide, rows = xp.astype(given.weight, xp.float32), given.x.shape[0]

    def part(at: Any) -> tuple[Any, Any]:
        """Return the sum of the losses of some rows, and their gradient to the logits."""
        z = xp.matmul(xp.astype(given.x[at], xp.float32), wide.T)
        e = xp.exp(z - xp.max(z, axis=-1, keepdims=True))
        label = given.y[at][:, None]
        p = e / xp.sum(e, axis=-1, keepdims=True)
        loss = -xp.log(xp.take_along_axis(p, label, axis=-1))
        hot = xp.arange(z.shape[-1], device=given.y.device)[None, :] == label
        return float(xp.sum(xp.astype(loss, xp.float64))), p - xp.astype(hot, p.dtype)

    value = sum(part(slice(at, at + BLOCK))[0] for at in range(0, rows, BLOCK)) / rows
    some = xp.asarray(rows_read(work), device=given.y.device)
    gradient = on_host(xp.matmul(part(some)[1], wide)) / rows
    return Right(value, None, gradient if work.gradient else None)


def right(work: Work, given: Data) -> Right:
    """Return what a call must give; of a linear layer, on these arrays."""
    if work.features:
        return _linear(work, given)
    value, losses, gradient = _rows(work.data)
    return Right(value, losses, gradient if work.gradient else None)


def compared(work: Work, call: Call, got: Any, want: Right) -> dict[str, Any]:
    """Return the errors of an answer; NotOffered where another thing is computed."""
    value, gradient = call.answer(got)
    loose = 0.02 if numpy_dtype(work.dtype).itemsize < 4 else 1e-3
    if not abs(value - want.value) <= loose * abs(want.value):
        raise NotOffered(f"computes something else: {value:.6g}, not {want.value:.6g}")
    found: dict[str, Any] = {"value_ulp": None, "gradient_ulp": None, "tail": None}
    exact = want.losses is not None  # what the linear loss must be is computed in float32
    if want.losses is not None:
        found["value_ulp"] = _worst(np.asarray([value]), np.asarray([want.value]), "float32")
        losses = call.losses() if call.losses is not None else None
        if losses is not None:
            ulp = _worst(losses[1:], want.losses[1:], "float32")
            found["value_ulp"] = max(found["value_ulp"], ulp)
            found["tail"] = float(losses[0] / want.losses[0] - 1)
    if want.gradient is not None and gradient is not None:
        if not np.abs(gradient - want.gradient).max() <= loose * np.abs(want.gradient).max():
            raise NotOffered("computes another gradient")
        if exact:
            found["gradient_ulp"] = _worst(gradient[1:], want.gradient[1:], work.dtype)
    return found


def _worst(got: Array, want: Array, dtype: str) -> float:
    """Return the largest error in ulp."""
    zero = np.zeros(())
    return min(float(np.max(errors(got, want, zero, dtype, zero), initial=0.0)), BEYOND)
