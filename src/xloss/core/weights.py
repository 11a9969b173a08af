"""Weights of a mean brought near 1 by powers of two, which change no mean.

Beside the sum of the row losses stands the sum of the weights, so that neither may overflow or
underflow where their quotient does not: all weights 1e-38, or 1e38, are the plain mean.
"""

from __future__ import annotations

from math import frexp, prod
from typing import Any, NamedTuple

from .. import _powers
from .._powers import Split
from .._xp import Array, Context, cast, dtype_name, take
from .spec import Operands, Spec
from .targets import safe_labels


class Balanced(NamedTuple):
    """Operands whose weights are 2^-shift of what they were."""

    operands: Operands
    shift: Any  # an int, or an integer array of no dimension


def _room(cx: Context) -> int:
    """Return how far below the largest, as a power of two, a weight is told from another."""
    return 450 if dtype_name(cx.acc) == "float64" else 60


def mean_weights(
    o: Operands, spec: Spec, cx: Context, classes: int, normalizer: Any,
    by_label: bool = True, group: Any = None,
) -> tuple[Operands, Any]:
    """Return operands and the normalizer of a mean, balanced; of other reductions as they are.

    `by_label`: labels may be read, and the class weights looked up by them. `group`: the ranks
    that each hold some of the class weights.
    """
    if spec.reduction != "mean" or not needed(o, spec, cx):
        return o, normalizer
    if normalizer is None:
        return balance(o, spec, cx, classes, by_label, group).operands, None
    # Half of what is between the weights and the normalizer goes to each.
    mantissa: Any
    size: Any
    if isinstance(normalizer, float):
        mantissa, size = frexp(normalizer)
    else:
        mantissa, size, _ = _powers.split(cx, normalizer)
        size = _exponents(cx, size)
    made = balance(o, spec, cx, classes, by_label, group, size)
    limit = 1000 if dtype_name(cx.acc) == "float64" else 120
    left = _exponents(cx, size - made.shift)
    scale = cast(cx, _powers.power(cx, _clip(cx, left, -limit, limit), cx.acc), cx.wide)
    return made.operands, mantissa * cx.xp.where(left < -limit, 0.0, scale)


def needed(o: Operands, spec: Spec, cx: Context) -> bool:
    """Tell whether weights may be out of the range in which nothing over- or underflows."""
    given = [a for a in (o.class_weight, o.sample_weight) if a is not None]
    if not given:
        return False
    if cx.host:
        return not moderate(o, cx)
    if not cx.eager:
        return True
    # Labels' weights and all sums are float64: its range is enough for those of float32.
    mixes = o.class_weight is not None and (not spec.indexed or bool(spec.label_smoothing))
    return mixes or dtype_name(cx.acc) == dtype_name(cx.wide)


def moderate(o: Operands, cx: Context) -> bool:
    """Tell whether every weight is 0, or not so large or small that scaling is of use."""
    xp = cx.xp
    limit = 2.0 ** (_room(cx) // 3)
    for a in (o.class_weight, o.sample_weight):
        if a is not None and prod(a.shape):
            size = xp.abs(cast(cx, a, cx.acc))
            low = xp.where(size == 0, 1.0, size)
            if not (float(xp.max(size)) <= limit and float(xp.min(low)) >= 1.0 / limit):
                return False
    return True


def balance(
    o: Operands, spec: Spec, cx: Context, classes: int, by_label: bool = True,
    group: Any = None, size: Any = None,
) -> Balanced:
    """Scale the weights so that the largest of the present rows is about 1.

    Or, for a normalizer, as far above 1 as that is below. What is smaller by more than `_room`
    stays that near, so that no present row becomes absent.
    """
    xp, room = cx.xp, _room(cx)
    sample, each = (
        None if a is None else _powers.split(cx, cast(cx, a, cx.acc))
        for a in (o.sample_weight, o.class_weight)
    )
    keep, rows, shift = o.where, sample, 0
    if by_label and classes and spec.indexed:
        labels, kept, _ = safe_labels(o.targets, classes, spec.ignore_index, cx)
        if kept is not None:
            keep = kept if keep is None else keep & kept
        if each is not None and not spec.label_smoothing and group is None:
            # A row's label has one class weight: its power of two goes to the row, so that no
            # class that is not met counts among the largest.
            o = o._replace(class_weight=each.mantissa)
            of_label = Split(*(take(cx, a, labels) for a in each))
            rows = of_label if sample is None else _product(sample, of_label)
            each = None
    if each is not None:
        shift = _largest(cx, each, None)
        if group is not None:
            shift = group.maximum(shift)
        down = _clip(cx, each.exponent - shift, -room, 0)
        o = o._replace(class_weight=_scaled(cx, each, down))
    if rows is None:
        if size is None:
            return Balanced(o, shift)
        rows = _powers.split(cx, xp.ones(o.x.shape[:-1], dtype=cx.acc, device=cx.device))
    most = _largest(cx, rows, keep)
    down = _clip(cx, rows.exponent - most, -room, 0)
    if size is not None:
        rise = _exponents(cx, _clip(cx, (most + shift - size) // 2, -room, room))
        down, most = down + rise, most - rise
    factor = _powers.power(cx, down, cx.acc) if sample is None else _scaled(cx, sample, down)
    return Balanced(o._replace(sample_weight=factor), shift + most)


def rescaled(cx: Context, total: Array, shift: Any) -> Array:
    """Return what a sum of balanced weights comes to: total·2^shift."""
    if isinstance(shift, int):
        return total * 2.0**shift
    first = shift // 2
    for part in (first, shift - first):
        total = total * cast(cx, _powers.power(cx, _clip(cx, part, -120, 120), cx.acc), cx.wide)
    return total


def _product(a: Split, b: Split) -> Split:
    """Return two numbers' product; the mantissa is that of the first."""
    return Split(a.mantissa, a.exponent + b.exponent, a.ordinary & b.ordinary)


def _scaled(cx: Context, x: Split, exponent: Array) -> Array:
    """Return a number's mantissa times a power of two; 0, inf and NaN as they are."""
    made = x.mantissa * _powers.power(cx, exponent, cx.acc)
    return cx.xp.where(x.ordinary, made, x.mantissa)


def _largest(cx: Context, s: Split, keep: Array | None) -> Array:
    """Return the largest exponent of what is kept; 0 where that is nothing."""
    xp = cx.xp
    there = s.ordinary if keep is None else s.ordinary & keep
    none = xp.full((), -(2**20), dtype=s.exponent.dtype, device=cx.device)
    if prod(s.exponent.shape) == 0:
        return xp.zeros_like(none)
    most = xp.max(xp.where(there, s.exponent, none))
    return xp.where(most == none, xp.zeros_like(most), most)


def _exponents(cx: Context, x: Array) -> Array:
    """Return an exponent of another dtype's as one of the arithmetic's; a number as it is."""
    if isinstance(x, int):
        return x
    return cast(cx, x, cx.xp.int64 if dtype_name(cx.acc) == "float64" else cx.xp.int32)


def _clip(cx: Context, x: Array, low: int, high: int) -> Array:
    """Return an integer array within bounds."""
    xp = cx.xp
    return xp.where(x < low, xp.full_like(x, low), xp.where(x > high, xp.full_like(x, high), x))
