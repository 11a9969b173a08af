"""Targets made safe: which rows are present, what each weighs, which label is invalid."""

from __future__ import annotations

from math import prod
from typing import Any, NamedTuple

from .._arrays.context import Context
from .._arrays.inspect import INTEGERS, Array, dtype_name
from . import few_classes
from .options import Operands, Options
from .reduce import contributing, exact_sum


class Targets(NamedTuple):
    """The targets of one block; no field depends on a logit.

    None stands for the usual case: every row present, no label invalid, every weight 1.
    """

    labels: Array | None = None  # (*rows), safe: ignored and invalid ones replaced by 0
    probs: Array | None = None  # (*rows, classes), in the dtype of the arithmetic
    class_weight: Array | None = None  # (classes,), in the dtype of the arithmetic
    label_weight: Array | None = None  # (*rows): the label's class weight, in the sums' dtype
    sample_weight: Array | None = None  # (*rows), in the sums' dtype; 0 where the row is absent
    row_weight: Array | None = None  # (*rows): the share of the mean's denominator, likewise
    row_present: Array | None = None  # (*rows), False: the row contributes exactly nothing
    label_invalid: Array | None = None  # (*rows), True: the label is out of range, the row is NaN
    label_local: Array | None = None  # (*rows), False: another class slice holds the label
    pos_weight: Array | None = None  # in the dtype of the arithmetic; binary losses only
    few: few_classes.FewTargets | None = None  # set: the targets name a few classes of each row


def bounds(labels: Array, cx: Context) -> tuple[int, int]:
    """Return the smallest and the largest label, exactly; (0, 0) for no labels."""
    return (0, 0) if prod(labels.shape) == 0 else cx.label_bounds(labels)


def safe_labels(
    labels: Array, classes: int, ignore: int | None, cx: Context
) -> tuple[Array, Array | None, Array | None]:
    """Return safe labels, which rows are not ignored, and which labels are out of range.

    Each is (*rows); None for the second means that none is ignored, for the third none invalid.
    """
    xp = cx.xp
    low, high = INTEGERS[dtype_name(labels.dtype)]
    if ignore is not None and not low <= ignore <= high:
        ignore = None  # the dtype cannot hold it: uint8 156 is not -100
    if cx.labels_verified:
        return cx.cast(cx.indexable(labels), cx.label_dtype), None, None
    # An unsigned label that the label dtype cannot hold turns negative: it stays invalid.
    safe = cx.cast(labels, cx.label_dtype)
    inside = (safe >= 0) & (safe < classes)
    not_ignored = None
    if ignore is not None:
        largest = INTEGERS[dtype_name(cx.label_dtype)][1]
        not_ignored = safe != (ignore if ignore <= largest else ignore - 2 * (largest + 1))
        invalid = not_ignored & ~inside
        inside = inside & not_ignored
    else:
        invalid = ~inside
    # A scalar 0, not an array of zeros, whose length may be unknown.
    return xp.where(inside, safe, 0), not_ignored, invalid


def prepare(o: Operands, options: Options, cx: Context, classes: int) -> Targets:
    """Make one block's targets safe and weigh its rows."""
    xp = cx.xp
    present = invalid = labels = probs = label_weight = few = mass = None
    class_weight = None if o.class_weight is None else cx.cast(o.class_weight, cx.compute_dtype)
    if o.targets is not None:
        if not classes:
            # The binary losses take 0 and 1; any other integer is an invalid label.
            if options.indexed and dtype_name(o.targets.dtype) in INTEGERS:
                invalid = safe_labels(o.targets, 2, None, cx)[2]
        elif o.indices is not None:
            safe = safe_labels(o.indices, classes, options.ignore_index, cx)
            few, present, invalid, mass = few_classes.prepare(
                o, options, cx, classes, class_weight, safe
            )
        elif options.indexed:
            labels, present, invalid = safe_labels(o.targets, classes, options.ignore_index, cx)
        elif options.kind != "kl_div":
            probs = cx.c_order(cx.cast(o.targets, cx.compute_dtype))
    if o.where is not None:
        present = o.where if present is None else present & o.where
    sample_weight = None
    if o.sample_weight is not None:
        sample_weight = cx.cast(cx.cast(o.sample_weight, cx.compute_dtype), cx.sum_dtype)
        weighted = sample_weight != 0  # a NaN is present
        present = weighted if present is None else present & weighted
    if present is not None and cx.values_readable and cx.on_host and bool(xp.all(present)):
        present = None
    if invalid is not None:
        invalid = invalid if present is None else invalid & present
        if cx.values_readable and cx.on_host and not bool(xp.any(invalid)):
            invalid = None
    if present is not None and sample_weight is not None:
        # Before it multiplies: to autodiff 0·NaN is NaN even where it is not selected.
        sample_weight = xp.where(present, sample_weight, 0.0)
    weight = sample_weight
    if labels is not None and class_weight is not None:
        label_weight = mass = cx.cast(cx.take(class_weight, labels), cx.sum_dtype)
    elif probs is not None:
        with cx.quiet():  # an absent row may hold values whose sum warns
            mass = target_sum(probs, class_weight, cx)
    if mass is not None:
        with cx.quiet():
            weight = mass if sample_weight is None else sample_weight * mass
    if invalid is not None and weight is not None:
        # An invalid label has no class weight: its row counts once, and is NaN.
        weight = xp.where(invalid, 1.0 if sample_weight is None else sample_weight, weight)
    if present is not None:
        weight = (
            cx.cast(present, cx.sum_dtype) if weight is None else xp.where(present, weight, 0.0)
        )
    return Targets(
        labels,
        probs,
        class_weight,
        label_weight,
        sample_weight,
        weight,
        present,
        invalid,
        pos_weight=None if o.pos_weight is None else cx.cast(o.pos_weight, cx.compute_dtype),
        few=few,
    )


def target_sum(probs: Array, class_weight: Array | None, cx: Context) -> Array:
    """Return Σ_j weight_j t_ij, (*rows)."""
    if class_weight is not None and not cx.inplace_ok:
        # To autodiff an infinite cotangent times a weight of 0 is NaN, unless selected away.
        probs = cx.xp.where(class_weight == 0, 0.0, probs)
    weighted = probs if class_weight is None else probs * class_weight
    return cx.sum_last(weighted)


def live_rows(
    o: Operands, options: Options, cx: Context, classes: int, normalizer: Any = None
) -> tuple[Operands, Array]:
    """Return operands, and the number that is 0 where no row contributes to their mean.

    In the operands every row is absent where that number is 0: an autodiff would multiply the
    derivatives of the rows by a cotangent of 0, and 0·NaN is NaN.
    """
    xp = cx.xp
    rows = tuple(o.x.shape[:-1] if classes else o.x.shape)
    if classes and options.kind != "kl_div" and not options.indexed:
        # The gradient to targets is the sum of the rows' and the denominator's: cast here, it is
        # rounded to 16 bits after the addition, not before.
        o = o._replace(targets=cx.cast(o.targets, cx.compute_dtype))
    t = prepare(o, options, cx, classes)
    total = contributing(cx, total_weight(t, cx.row_count(o.x, classes), cx), normalizer)
    if not classes or options.kind == "kl_div" or (options.indexed and o.class_weight is None):
        return o, total  # a row of weight 0 is absent already
    any_row_counts = xp.broadcast_to(total != 0, rows)
    where = any_row_counts if o.where is None else o.where & any_row_counts
    return o._replace(where=where), total


def total_weight(t: Targets, count: int, cx: Context) -> Array:
    """Return Σ_i W_i of a block of `count` rows."""
    if t.row_weight is None:
        return cx.xp.full((), count, dtype=cx.sum_dtype, device=cx.device)
    return exact_sum(cx, t.row_weight)
