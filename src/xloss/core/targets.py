"""Targets made safe: which rows are there, what each weighs, which label is bad."""

from __future__ import annotations

from math import prod
from typing import Any, NamedTuple

from .._arrays.context import Context
from .._arrays.inspect import INTEGERS, Array, dtype_name
from .options import Operands, Options
from .reduce import contributing, exact_sum


class Targets(NamedTuple):
    """One block's targets; depends on no logit.

    None stands for the usual: every row kept, no label bad, every weight 1.
    """

    labels: Array | None = None  # safe: ignored and bad ones replaced by 0
    probs: Array | None = None  # in the arithmetic's dtype
    class_weight: Array | None = None  # (classes,), likewise
    label_weight: Array | None = None  # the label's class weight, wide
    sample_weight: Array | None = None  # sample weight, wide; 0 where absent
    row_weight: Array | None = None  # the row's share of the mean's denominator, wide
    row_present: Array | None = None  # False: the row contributes exactly nothing
    label_invalid: Array | None = None  # True: a label out of range, the row is NaN
    label_local: Array | None = None  # False: the label is in another piece of the row
    pos_weight: Array | None = None


def bounds(labels: Array, cx: Context) -> tuple[int, int]:
    """Return the smallest and the largest label, exactly; (0, 0) where there is none."""
    return (0, 0) if prod(labels.shape) == 0 else cx.label_bounds(labels)


def safe_labels(
    labels: Array, classes: int, ignore: int | None, cx: Context
) -> tuple[Array, Array | None, Array | None]:
    """Return safe labels, the kept rows and the rows whose label is out of range."""
    xp = cx.xp
    low, high = INTEGERS[dtype_name(labels.dtype)]
    if ignore is not None and not low <= ignore <= high:
        ignore = None  # the dtype cannot hold it: uint8 156 is not -100
    if cx.labels_verified:
        return cx.cast(cx.indexable(labels), cx.label_dtype), None, None
    # An unsigned value that the index dtype cannot hold turns negative, thus bad: lossless.
    safe = cx.cast(labels, cx.label_dtype)
    inside = (safe >= 0) & (safe < classes)
    keep = None
    if ignore is not None:
        most = INTEGERS[dtype_name(cx.label_dtype)][1]
        keep = safe != (ignore if ignore <= most else ignore - 2 * (most + 1))
        bad = keep & ~inside
        inside = inside & keep
    else:
        bad = ~inside
    return xp.where(inside, safe, 0), keep, bad  # no array of zeros: lengths may be unknown


def prepare(o: Operands, options: Options, cx: Context, classes: int) -> Targets:
    """Make one block's targets safe and weigh its rows."""
    xp = cx.xp
    keep = bad = labels = probs = label_weight = None
    class_weight = None if o.class_weight is None else cx.cast(o.class_weight, cx.compute_dtype)
    if o.targets is not None:
        if not classes:
            # The binary losses take 0 and 1; any other integer is a bad label.
            if options.indexed and dtype_name(o.targets.dtype) in INTEGERS:
                bad = safe_labels(o.targets, 2, None, cx)[2]
        elif options.indexed:
            labels, keep, bad = safe_labels(o.targets, classes, options.ignore_index, cx)
        elif options.kind != "kl_div":
            probs = cx.c_order(cx.cast(o.targets, cx.compute_dtype))
    if o.where is not None:
        keep = o.where if keep is None else keep & o.where
    scale = None
    if o.sample_weight is not None:
        scale = cx.cast(cx.cast(o.sample_weight, cx.compute_dtype), cx.sum_dtype)
        present = scale != 0  # a NaN is present
        keep = present if keep is None else keep & present
    if keep is not None and cx.values_readable and cx.on_host and bool(xp.all(keep)):
        keep = None
    if bad is not None:
        bad = bad if keep is None else bad & keep
        if cx.values_readable and cx.on_host and not bool(xp.any(bad)):
            bad = None
    if keep is not None and scale is not None:
        # Before it multiplies: to autodiff 0·NaN is NaN even where it is not selected.
        scale = xp.where(keep, scale, 0.0)
    weight = scale
    if labels is not None and class_weight is not None:
        label_weight = cx.cast(cx.take(class_weight, labels), cx.sum_dtype)
        weight = label_weight if scale is None else scale * label_weight
    elif probs is not None:
        with cx.quiet():  # of an absent row anything may be summed
            mass = target_sum(probs, class_weight, cx)
            weight = mass if scale is None else scale * mass
    if bad is not None and weight is not None:
        # A bad label has no class weight: the row counts once, and is NaN.
        weight = xp.where(bad, 1.0 if scale is None else scale, weight)
    if keep is not None:
        weight = cx.cast(keep, cx.sum_dtype) if weight is None else xp.where(keep, weight, 0.0)
    return Targets(
        labels,
        probs,
        class_weight,
        label_weight,
        scale,
        weight,
        keep,
        bad,
        pos_weight=None if o.pos_weight is None else cx.cast(o.pos_weight, cx.compute_dtype),
    )


def target_sum(probs: Array, class_weight: Array | None, cx: Context) -> Array:
    """Return Σ_j weight_j t_ij."""
    if class_weight is not None and not cx.inplace_ok:
        # To autodiff an infinite upstream times a weight of 0 is NaN, unless selected away.
        probs = cx.xp.where(class_weight == 0, 0.0, probs)
    weighted = probs if class_weight is None else probs * class_weight
    return cx.sum_last(weighted)


def live_rows(
    o: Operands, options: Options, cx: Context, classes: int, normalizer: Any = None
) -> tuple[Operands, Array]:
    """Return what a mean is 0 without, and the operands with every row absent where it is 0.

    An autodiff multiplies a row's slope by an upstream of 0, which leaves a NaN a NaN.
    """
    xp = cx.xp
    rows = tuple(o.x.shape[:-1] if classes else o.x.shape)
    if classes and options.kind != "kl_div" and not options.indexed:
        # The rows' gradient and the denominator's are added before 16 bits round them.
        o = o._replace(targets=cx.cast(o.targets, cx.compute_dtype))
    t = prepare(o, options, cx, classes)
    total = contributing(cx, total_weight(t, prod(rows), cx), normalizer)
    if not classes or options.kind == "kl_div" or (options.indexed and o.class_weight is None):
        return o, total  # a row that weighs nothing is absent already
    live = xp.broadcast_to(total != 0, rows)
    return o._replace(where=live if o.where is None else o.where & live), total


def total_weight(t: Targets, count: int, cx: Context) -> Array:
    """Return Σ_i W_i of a block of `count` rows."""
    if t.row_weight is None:
        return cx.xp.full((), count, dtype=cx.sum_dtype, device=cx.device)
    return exact_sum(cx, t.row_weight)
