"""Weights of a mean scaled by powers of two to near 1, which changes no mean.

A mean divides the sum of the row losses by the sum of the row weights. Neither may overflow or
underflow where the quotient does not: with weights that are all 1e-38, or all 1e38, the mean is the
plain one.
"""

from __future__ import annotations

from math import frexp, prod
from typing import Any, NamedTuple

from .._arrays.context import Context
from .._arrays.inspect import Array, compiling, dtype_name
from .options import Operands, Options
from .powers import Decomposed, decompose, power_of_2
from .targets import safe_labels


class Balanced(NamedTuple):
    """Operands whose row weights are 2^-shift of what they were."""

    operands: Operands
    shift: Any  # an int, or a 0-d integer array


def _exponent_range(cx: Context, is_factor: bool) -> int:
    """Return how many powers of two below the largest weight are kept apart.

    `is_factor`: the weight will be multiplied by another one, and each gets half of the range.
    """
    range_ = 900 if dtype_name(cx.compute_dtype) == "float64" else 100
    return range_ // 2 if is_factor else range_


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
    """Return balanced operands and normalizer of a mean; of other reductions as they are.

    `by_label`: labels may be read, and the class weights looked up by them. `group`: the process
    group whose ranks each hold some of the class weights. `rounded`: row losses are rounded to the
    dtype of the loss before they are summed.
    """
    unscaled = o
    if not rounded and cx.on_host and dtype_name(cx.compute_dtype) != dtype_name(cx.sum_dtype):
        # On the host the row weights of float32 rows, and all sums, are float64, in which they
        # cannot overflow. That does not help a class weight that is multiplied in float32, by a
        # soft target or a share of smoothing.
        mixed = not options.indexed or bool(options.label_smoothing)
        o = o._replace(sample_weight=None, class_weight=o.class_weight if mixed else None)
    if options.reduction != "mean" or (o.class_weight is o.sample_weight is None):
        return unscaled, normalizer
    if cx.on_host and moderate(o, cx):
        return unscaled, normalizer
    mantissa: Any
    exponent: Any = None
    if isinstance(normalizer, float):
        mantissa, exponent = frexp(normalizer)
    elif normalizer is not None:
        mantissa, exponent, _ = decompose(cx, normalizer)
        exponent = _as_exponents(cx, exponent)
    balanced = balance(o, options, cx, classes, by_label, group, exponent)
    changed = {
        name: scaled
        for name in ("class_weight", "sample_weight")
        if (scaled := getattr(balanced.operands, name)) is not None
    }
    o = unscaled._replace(**changed)
    if normalizer is None:
        return o, None
    limit = 1000 if dtype_name(cx.sum_dtype) == "float64" else 120
    remaining = exponent - balanced.shift
    scale = power_of_2(cx, _clip(cx, remaining, -limit, limit), cx.sum_dtype)
    return o, mantissa * cx.xp.where(remaining < -limit, 0.0, scale)


def moderate(o: Operands, cx: Context) -> bool:
    """Tell whether every weight is 0, or neither so large nor so small that scaling helps."""
    xp = cx.xp
    limit = 2.0 ** (_exponent_range(cx, True) // 3)
    for a in (o.class_weight, o.sample_weight):
        if a is None:
            continue
        if cx.is_tracer(a):  # only the weights are traced, by a transformation of them
            return False
        if prod(a.shape):
            size = xp.abs(cx.cast(a, cx.compute_dtype))
            nonzero = xp.where(size == 0, 1.0, size)
            if not (float(xp.max(size)) <= limit and float(xp.min(nonzero)) >= 1.0 / limit):
                return False
    return True


def balance(
    o: Operands,
    options: Options,
    cx: Context,
    classes: int,
    by_label: bool = True,
    group: Any = None,
    normalizer_exponent: Any = None,
) -> Balanced:
    """Scale the weights so that the largest of the present rows is about 1.

    With a normalizer, so that the largest is as far above 1 as the scaled normalizer is below.
    Weights further below the largest than `_exponent_range` are raised to that bound: no present
    row becomes absent by a weight that underflows.
    """
    sample, per_class = (
        None if a is None else decompose(cx, cx.cast(a, cx.compute_dtype))
        for a in (o.sample_weight, o.class_weight)
    )
    present, rows, shift = o.where, sample, 0
    if by_label and classes and options.indexed:
        labels, not_ignored, _ = safe_labels(o.targets, classes, options.ignore_index, cx)
        if not_ignored is not None:
            present = not_ignored if present is None else present & not_ignored
        if per_class is not None and not options.label_smoothing and group is None:
            # A row's label selects one class weight: its power of two is moved to the row, so that
            # the weight of a class that no row has does not count among the largest.
            o = o._replace(class_weight=per_class.mantissa)
            of_label = Decomposed(*(cx.take(a, labels) for a in per_class))
            rows = of_label if sample is None else _product(sample, of_label)
            per_class = None
    range_ = _exponent_range(cx, per_class is not None and rows is not None)
    if per_class is not None:
        shift = _largest(cx, per_class, None)
        if group is not None:
            shift = group.maximum(shift)
        down = _clip(cx, per_class.exponent - shift, -range_, 0)
        o = o._replace(class_weight=_scaled(cx, per_class, down))
    if rows is None:
        return Balanced(o, shift)
    largest = _largest(cx, rows, present)
    down = _clip(cx, rows.exponent - largest, -range_, 0)
    if normalizer_exponent is not None:
        # The bounds keep the sum with `down` among the exponents of normal float32 numbers.
        half = (largest + shift - normalizer_exponent) // 2
        rise = _as_exponents(cx, _clip(cx, half, -20, 60))
        down, largest = down + rise, largest - rise
    factor = power_of_2(cx, down, cx.compute_dtype) if sample is None else _scaled(cx, sample, down)
    return Balanced(o._replace(sample_weight=factor), shift + largest)


def rescaled(cx: Context, total: Array, shift: Any) -> Array:
    """Return the sum of the weights as they were, total·2^shift, from that of balanced ones."""
    if isinstance(shift, int):
        return total * 2.0**shift
    first = shift // 2  # in two steps, for 2^shift itself may overflow
    for part in (first, shift - first):
        scale = power_of_2(cx, _clip(cx, part, -120, 120), cx.compute_dtype)
        total = total * cx.cast(scale, cx.sum_dtype)
    return total


def _product(a: Decomposed, b: Decomposed) -> Decomposed:
    """Return the product's exponent and whether it is ordinary, with the first one's mantissa."""
    return Decomposed(a.mantissa, a.exponent + b.exponent, a.ordinary & b.ordinary)


def _scaled(cx: Context, x: Decomposed, exponent: Array) -> Array:
    """Return a number's mantissa times a power of two; 0, inf and NaN as they are."""
    scaled = x.mantissa * power_of_2(cx, exponent, cx.compute_dtype)
    return cx.xp.where(x.ordinary, scaled, x.mantissa)


def _largest(cx: Context, x: Decomposed, present: Array | None) -> Array:
    """Return the largest exponent of the present ordinary numbers, 0-d; 0 where there is none."""
    xp = cx.xp
    counted = x.ordinary if present is None else x.ordinary & present
    none = xp.full((), -(2**20), dtype=x.exponent.dtype, device=cx.device)
    exponents = xp.where(counted, x.exponent, none)
    if (
        compiling() or None in exponents.shape
    ):  # one more element, for to ask whether there are any would fix their number
        exponents = xp.concat([xp.reshape(exponents, (-1,)), none[None]])
    elif prod(exponents.shape) == 0:
        return xp.zeros_like(none)
    largest = xp.max(exponents)
    return xp.where(largest == none, xp.zeros_like(largest), largest)


def _as_exponents(cx: Context, x: Array) -> Array:
    """Return exponents in the integer dtype of the arithmetic's width; a Python int as it is."""
    if isinstance(x, int):
        return x
    return cx.cast(x, cx.xp.int64 if dtype_name(cx.compute_dtype) == "float64" else cx.xp.int32)


def _clip(cx: Context, x: Array, low: int, high: int) -> Array:
    """Return an integer array within bounds."""
    xp = cx.xp
    return xp.where(x < low, xp.full_like(x, low), xp.where(x > high, xp.full_like(x, high), x))
