"""Weights of a mean brought near 1 by powers of two, which change no mean.

Beside the sum of the row losses stands the sum of the weights, so that neither may overflow or
underflow where their quotient does not: all weights 1e-38, or 1e38, are the plain mean.
"""

from __future__ import annotations

from math import frexp, prod
from typing import Any, NamedTuple

from .._arrays.context import Context
from .._arrays.inspect import Array, compiling, dtype_name
from . import powers
from .options import Operands, Options
from .powers import Split
from .targets import safe_labels


class Balanced(NamedTuple):
    """Operands whose weights are 2^-shift of what they were."""

    operands: Operands
    shift: Any  # an int, or an integer array of no dimension


def _room(cx: Context, both: bool) -> int:
    """Return how far below the largest, as a power of two, a weight is told from another.

    `both`: it is to be multiplied by another one.
    """
    most = 900 if dtype_name(cx.compute_dtype) == "float64" else 100
    return most // 2 if both else most


def mean_weights(
    o: Operands,
    options: Options,
    cx: Context,
    classes: int,
    normalizer: Any,
    by_label: bool = True,
    group: Any = None,
    rounded: bool = False,
) -> tuple[Operands, Any]:
    """Return operands and the normalizer of a mean, balanced; of other reductions as they are.

    `by_label`: labels may be read, and the class weights looked up by them. `group`: the ranks
    that each hold some of the class weights. `rounded`: row losses are rounded to the loss's dtype
    before they are summed.
    """
    given = o
    if not rounded and cx.on_host and dtype_name(cx.compute_dtype) != dtype_name(cx.sum_dtype):
        # On the host, sums of rows and the weights of float32 rows are float64, out of danger; but
        # not what a class weight is multiplied by, a soft target or a share of smoothing.
        mixes = not options.indexed or bool(options.label_smoothing)
        o = o._replace(sample_weight=None, class_weight=o.class_weight if mixes else None)
    if options.reduction != "mean" or (o.class_weight is o.sample_weight is None):
        return given, normalizer
    if cx.on_host and moderate(o, cx):
        return given, normalizer
    mantissa: Any
    size: Any = None
    if isinstance(normalizer, float):
        mantissa, size = frexp(normalizer)
    elif normalizer is not None:
        mantissa, size, _ = powers.split(cx, normalizer)
        size = _exponents(cx, size)
    made = balance(o, options, cx, classes, by_label, group, size)
    changed = {
        name: new
        for name in ("class_weight", "sample_weight")
        if (new := getattr(made.operands, name)) is not None
    }
    o = given._replace(**changed)
    if normalizer is None:
        return o, None
    limit = 1000 if dtype_name(cx.sum_dtype) == "float64" else 120
    left = size - made.shift
    scale = powers.power(cx, _clip(cx, left, -limit, limit), cx.sum_dtype)
    return o, mantissa * cx.xp.where(left < -limit, 0.0, scale)


def moderate(o: Operands, cx: Context) -> bool:
    """Tell whether every weight is 0, or not so large or small that scaling is of use."""
    xp = cx.xp
    limit = 2.0 ** (_room(cx, True) // 3)
    for a in (o.class_weight, o.sample_weight):
        if a is None:
            continue
        if cx.is_tracer(a):  # a transformation follows the weights alone
            return False
        if prod(a.shape):
            size = xp.abs(cx.cast(a, cx.compute_dtype))
            low = xp.where(size == 0, 1.0, size)
            if not (float(xp.max(size)) <= limit and float(xp.min(low)) >= 1.0 / limit):
                return False
    return True


def balance(
    o: Operands,
    options: Options,
    cx: Context,
    classes: int,
    by_label: bool = True,
    group: Any = None,
    size: Any = None,
) -> Balanced:
    """Scale the weights so that the largest of the present rows is about 1.

    Or, for a normalizer, as far above 1 as that is below. What is smaller by more than `_room`
    stays that near, so that no present row becomes absent.
    """
    sample, each = (
        None if a is None else powers.split(cx, cx.cast(a, cx.compute_dtype))
        for a in (o.sample_weight, o.class_weight)
    )
    keep, rows, shift = o.where, sample, 0
    if by_label and classes and options.indexed:
        labels, kept, _ = safe_labels(o.targets, classes, options.ignore_index, cx)
        if kept is not None:
            keep = kept if keep is None else keep & kept
        if each is not None and not options.label_smoothing and group is None:
            # A row's label has one class weight: its power of two goes to the row, so that no
            # class that is not met counts among the largest.
            o = o._replace(class_weight=each.mantissa)
            of_label = Split(*(cx.take(a, labels) for a in each))
            rows = of_label if sample is None else _product(sample, of_label)
            each = None
    room = _room(cx, each is not None and rows is not None)
    if each is not None:
        shift = _largest(cx, each, None)
        if group is not None:
            shift = group.maximum(shift)
        down = _clip(cx, each.exponent - shift, -room, 0)
        o = o._replace(class_weight=_scaled(cx, each, down))
    if rows is None:
        return Balanced(o, shift)
    most = _largest(cx, rows, keep)
    down = _clip(cx, rows.exponent - most, -room, 0)
    if size is not None:
        # Of float32, with what is down already, no more than a normal number has.
        rise = _exponents(cx, _clip(cx, (most + shift - size) // 2, -20, 60))
        down, most = down + rise, most - rise
    factor = (
        powers.power(cx, down, cx.compute_dtype) if sample is None else _scaled(cx, sample, down)
    )
    return Balanced(o._replace(sample_weight=factor), shift + most)


def rescaled(cx: Context, total: Array, shift: Any) -> Array:
    """Return what a sum of balanced weights comes to: total·2^shift."""
    if isinstance(shift, int):
        return total * 2.0**shift
    first = shift // 2
    for part in (first, shift - first):
        total = total * cx.cast(
            powers.power(cx, _clip(cx, part, -120, 120), cx.compute_dtype), cx.sum_dtype
        )
    return total


def _product(a: Split, b: Split) -> Split:
    """Return two numbers' product; the mantissa is that of the first."""
    return Split(a.mantissa, a.exponent + b.exponent, a.ordinary & b.ordinary)


def _scaled(cx: Context, x: Split, exponent: Array) -> Array:
    """Return a number's mantissa times a power of two; 0, inf and NaN as they are."""
    made = x.mantissa * powers.power(cx, exponent, cx.compute_dtype)
    return cx.xp.where(x.ordinary, made, x.mantissa)


def _largest(cx: Context, s: Split, keep: Array | None) -> Array:
    """Return the largest exponent of what is kept; 0 where that is nothing."""
    xp = cx.xp
    there = s.ordinary if keep is None else s.ordinary & keep
    none = xp.full((), -(2**20), dtype=s.exponent.dtype, device=cx.device)
    found = xp.where(there, s.exponent, none)
    if compiling():  # without a question that would fix the number of rows
        found = xp.concat([xp.reshape(found, (-1,)), none[None]])
    elif prod(found.shape) == 0:
        return xp.zeros_like(none)
    most = xp.max(found)
    return xp.where(most == none, xp.zeros_like(most), most)


def _exponents(cx: Context, x: Array) -> Array:
    """Return an exponent of another dtype's as one of the arithmetic's; a number as it is."""
    if isinstance(x, int):
        return x
    return cx.cast(x, cx.xp.int64 if dtype_name(cx.compute_dtype) == "float64" else cx.xp.int32)


def _clip(cx: Context, x: Array, low: int, high: int) -> Array:
    """Return an integer array within bounds."""
    xp = cx.xp
    return xp.where(x < low, xp.full_like(x, low), xp.where(x > high, xp.full_like(x, high), x))
