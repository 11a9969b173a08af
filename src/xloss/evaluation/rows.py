"""Measures one batch: the loss, the weight and the prediction of each row, on the host."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt

from .. import backends
from .._arrays.context import context
from .._arrays.foreign import foreign
from .._arrays.inspect import (
    Array,
    compiling,
    dtype_name,
    gathered,
    is_tracer,
    is_wrapper,
    library,
    namespace,
    spread,
)
from ..core.call import LossCall
from ..core.linear import present_rows
from ..core.options import UNIT_COTANGENT, Outputs
from ..core.powers import decompose
from ..core.targets import prepare
from ..core.weights import balance, moderate
from ..gradients import prepared as call_of
from ..losses.cross_entropy import cross_entropy

# No entropy: on a device whose kernels do not have it, it would be a pass of its own.
_ASKED = Outputs(rows=True, tokens=True)


@dataclass(frozen=True, slots=True)
class Measured:
    """The rows of one batch on the host."""

    losses: npt.NDArray[np.float64]  # (*rows), 0 where absent
    weights: npt.NDArray[np.float64]  # W, 0 where absent
    right: npt.NDArray[np.bool_]
    # Returns (*rows) on the logits' device, or the host: the first class of the largest logit; of a
    # binary loss 0 or 1. Few ask for it, and then it may take a pass over the logits.
    predicted: Callable[[], Array]


def prepared(logits: Array, targets: Array, /, **options: Any) -> LossCall:
    """Prepare a call of :func:`cross_entropy` with one loss a row, detached from any autodiff."""
    return prepared_for(cross_entropy, "logits", logits, targets, **options)


def prepared_for(loss: Any, first: str, x: Array, targets: Array, /, **options: Any) -> LossCall:
    """Prepare a call of any public loss for its rows; `first` is the name of its first argument."""
    x, targets = at_hand(first, x), at_hand("targets", targets)
    options = {name: at_hand(name, value) for name, value in options.items()}
    return call_of(loss, constant(x), constant(targets), reduction="none", **options)


def measure(call: LossCall) -> Measured:
    """Return loss, weight and prediction of each row."""
    cx, xp = call.cx, call.cx.xp
    call, shift, sample = _balanced(call)
    columns: Any  # losses, weights, whether the prediction is right
    with cx.quiet():
        if cx.library == "dask":
            from ..backends.dask import backend as dask

            *columns, lazy = dask.facts(call)
            predicted: Callable[[], Array] = lazy.compute
        else:
            if call.options.kind == "cross_entropy" and call.options.rest is None:
                losses, made = backends.of_tokens(call).tokens(call, _ASKED)
                columns = losses, made.weight, made.correct
                predicted = partial(_top_class, call.operands.x)
            else:
                columns, predicted = _facts(call)
            stacked = xp.stack([cx.cast(xp.asarray(a), cx.sum_dtype) for a in columns])
            columns = host(stacked)  # one transfer
    numbers = np.array(columns, dtype=np.float64)
    with np.errstate(all="ignore"):  # the factors that were taken out of the call
        if sample is not None:
            numbers[:2] *= host(sample)
        if shift:
            numbers[:2] = np.ldexp(numbers[:2], shift)
    here = (numbers[1] != 0) & ~np.isnan(numbers[0])
    return Measured(numbers[0], numbers[1], (numbers[2] != 0) & here, predicted)


def _balanced(call: LossCall) -> tuple[LossCall, int, Array | None]:
    """Take extreme weights out of a call; return it, a power of two, and a factor for each row.

    A row's loss has the dtype of the logits, in whose range it might not be with a weight of 1e38.
    """
    cx, o = call.cx, call.operands
    plain = o.class_weight is None and o.sample_weight is None
    plain = plain or any(n != n for n in o.x.shape)  # chunks whose lengths Dask does not know
    if plain or spread(o.x) or (cx.on_host and moderate(o, cx)):
        return call, 0, None
    sample = o.sample_weight
    if sample is not None:
        sample = cx.cast(sample, cx.compute_dtype)
        present = present_rows(o, call.options, cx, call.classes, UNIT_COTANGENT)
        mantissa, _, ordinary = decompose(cx, sample)
        # A library that flushes subnormals to 0 must not take their rows as absent.
        there = ordinary | (mantissa != 0)
        o = o._replace(sample_weight=None, where=there if o.where is None else there & o.where)
        if present is not None:  # an absent row stays 0, even where its sample weight is NaN
            sample = cx.xp.where(present, sample, 1.0)
    made = balance(o, call.options, cx, call.classes, by_label=False)
    return call._replace(operands=made.operands), int(host(made.shift)), sample


def _top_class(x: Array) -> Array:
    """Return the first class of the largest logit of each row."""
    xp = namespace(x)
    assert xp is not None
    cx = context(x, xp)
    return xp.argmax(cx.cast(x, cx.compute_dtype), axis=-1)


def _facts(call: LossCall) -> tuple[tuple[Array, Array, Array], Callable[[], Array]]:
    """Return loss and W of each row, whether the prediction is the label, and the prediction.

    All rows at once: few ask for these losses, and `xloss eval` for a block of rows at a time.
    """
    cx, o = call.cx, call.operands
    xp = cx.xp
    t = prepare(o, call.options, cx, call.classes)
    x = cx.cast(o.x, cx.compute_dtype)
    if not call.classes:  # one probability an element: class 1 is predicted above one half
        half = 0.5 if call.options.kind == "binary_cross_entropy" else 0.0
        predicted = cx.cast(x > half, cx.label_dtype)
        labels = cx.cast(o.targets, cx.compute_dtype) > 0.5
    else:
        predicted = xp.argmax(x, axis=-1)
        if t.labels is not None:
            labels = t.labels
        else:  # the divergence takes its targets as they come
            labels = xp.argmax(
                cx.cast(o.targets, cx.compute_dtype) if t.probs is None else t.probs, axis=-1
            )
    weights = t.row_weight
    if weights is None:
        weights = xp.ones_like(predicted, dtype=cx.sum_dtype)
    right = predicted == cx.cast(labels, predicted.dtype)
    return (backends.of(call).value(call), weights, right), lambda: predicted


def constant(x: Array) -> Array:
    """Detach an array from autodiff, in a library whose arrays record it."""
    detach = getattr(x, "detach", None)
    return x if detach is None else detach()


def at_hand(name: str, x: Any) -> Any:
    """Return an argument whose values can be read: the whole of a DTensor; other wrappers raise."""
    xp = namespace(x)
    if xp is None or compiling():
        return x
    x = gathered(x)
    # What is no array that can be computed on is refused by its own check.
    if is_tracer(x, library(xp)) and not foreign(name, x, xp):
        raise TypeError(
            f"{name}: {type(x).__name__} has no values here that can be read; pass plain arrays, "
            "outside of any transformation"
        )
    return x


def host(x: Array) -> npt.NDArray[Any]:
    """Return the values of an array of any library as a NumPy array."""
    if library(namespace(x)) == "tensorflow":
        return np.asarray(x)  # its own method `cpu` warns that it will be removed
    # In turn: a lazy graph, a torch device, a CuPy device.
    for leave in ("compute", "cpu", "get"):
        method = getattr(x, leave, None)
        if method is not None:
            x = method()
    if library(namespace(x)) == "torch":
        if is_wrapper(x):
            raise TypeError(f"a {type(x).__name__} has no values here that can be read")
        x = x.float() if dtype_name(x.dtype) == "bfloat16" else x
        return np.asarray(x.numpy(force=True))
    try:
        return np.asarray(x)
    except (RuntimeError, TypeError):
        return np.from_dlpack(x)
