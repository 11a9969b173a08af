"""One block of rows from operands to losses and gradients, for every kind of loss."""

from __future__ import annotations

from typing import Any

from .._arrays.context import Context
from .._arrays.inspect import Array
from . import elementwise, few_classes, probabilities, softmax
from .list_gradient import list_gradient
from .options import Cotangent, Operands, Options, Outcome, Outputs
from .reduce import exact_sum
from .row_stats import RowStats, exponentials, row_stats
from .smoothing import few_target_gradient, target_gradient
from .targets import Targets, prepare, total_weight
from .token_stats import Scan, finished, rank_of

TARGETLESS_KINDS = frozenset({"entropy", "logsumexp", "softmax", "log_softmax"})
SOFTMAX_KINDS = TARGETLESS_KINDS | {"cross_entropy", "focal_loss"}
PROBABILITY_KINDS = frozenset({"nll_loss", "log_loss"})
SIGMOID_KINDS = frozenset({"binary_cross_entropy_with_logits", "sigmoid_focal_loss"})


def evaluate(
    o: Operands,
    options: Options,
    cx: Context,
    classes: int,
    outputs: Outputs,
    cotangent: Cotangent,
    saved: tuple[Array, ...] | None = None,
) -> Outcome:
    """Compute the outputs of one block; its arrays are (*rows, classes) and (*rows).

    `saved` are the statistics that an earlier call on the same logits returned.
    """
    with cx.quiet():
        if outputs.elements:
            parts = softmax.parts(cx.c_order(cx.cast(o.x, cx.compute_dtype)), cx)
            return Outcome(elements=parts.p if options.kind == "softmax" else -parts.nll)
        t = prepare(o, options, cx, classes)
        rows = total = weight = tokens = None
        found = Outcome()
        if outputs.rows or outputs.total or outputs.grad or outputs.grad_targets:
            x = cx.c_order(cx.cast(o.x, cx.compute_dtype))
            asks_gradient = outputs.grad or outputs.grad_targets
            selected = select_cotangent(cotangent, t, cx) if asks_gradient else cotangent
            if options.kind in SOFTMAX_KINDS:
                found = _from_logits(x, o, t, options, cx, outputs, selected, saved)
            elif options.kind in PROBABILITY_KINDS:
                found = _from_probabilities(x, t, options, cx, outputs, selected)
            else:
                found = _elementwise(x, o, t, options, cx, outputs, selected)
        if found.rows is not None:
            rows = select_rows(found.rows, t, cx)
            total = exact_sum(cx, rows) if outputs.total else None
            if outputs.tokens and found.stats is not None:
                s, scan = RowStats(*found.stats), Scan(*(found.tokens or ()))
                tokens = finished(rows, s, scan, t, options, cx, classes)
            rows = cx.cast(rows, cx.compute_dtype)
        if outputs.weight:
            weight = total_weight(t, cx.row_count(o.x, classes), cx)
        grad, grad_targets = found.grad, found.grad_targets
        if grad is not None and t.few is None:
            grad = cx.cast(select_gradient(grad, t, options, cx, cotangent), o.x.dtype)
        if grad_targets is not None and o.targets is not None:
            grad_targets = select_gradient(grad_targets, t, options, cx, cotangent)
            grad_targets = cx.cast(grad_targets, o.targets.dtype)
    return Outcome(
        rows if outputs.rows else None,
        total,
        weight,
        grad,
        grad_targets,
        found.stats if outputs.stats else None,
        tokens=tokens if outputs.rank or tokens is None else tokens._replace(rank=None),
    )


def select_cotangent(cotangent: Cotangent, t: Targets, cx: Context) -> Cotangent:
    """Make the cotangent of invalid labels NaN, and the whole of it 0 where no row counts."""
    row = cotangent.row_loss
    if cotangent.any_row_counts is not None:
        row = cx.xp.where(cotangent.any_row_counts, row, 0.0)
    if t.label_invalid is not None:
        if isinstance(row, float):  # two Python scalars do not mix in the standard's where
            row = cx.xp.full((), row, dtype=cx.sum_dtype, device=cx.device)
        row = cx.xp.where(t.label_invalid, cx.xp.nan, row)
    if not isinstance(row, float):
        row = cx.cast(row, cx.sum_dtype)
    return Cotangent(row, cotangent.row_weight, cotangent.any_row_counts)


def select_rows(rows: Array, t: Targets, cx: Context) -> Array:
    """Select the losses of absent rows to exactly 0, and those of invalid labels to NaN."""
    if t.row_present is not None:
        rows = cx.xp.where(t.row_present, rows, 0.0)
    return rows if t.label_invalid is None else cx.xp.where(t.label_invalid, cx.xp.nan, rows)


def select_gradient(
    g: Array, t: Targets, options: Options, cx: Context, cotangent: Cotangent
) -> Array:
    """Select the gradient of absent rows to exactly 0, and that of invalid labels to NaN.

    g is (*rows, classes), or (*rows) for the binary losses.
    """
    xp = cx.xp
    counts = t.row_present
    if cotangent.any_row_counts is not None:
        any_counts = cotangent.any_row_counts
        counts = any_counts if counts is None else counts & any_counts

    def per_class(mask: Array) -> Array:
        return xp.expand_dims(mask, axis=-1) if 0 < mask.ndim < g.ndim else mask

    if counts is not None:
        g = xp.where(per_class(counts), g, 0.0)
    # A NaN cotangent reaches every class of a softmax, whose gradient is dense. The gradient to
    # (log-)probabilities is 0 by selection except at the label, and needs the NaN put in.
    if t.label_invalid is not None and options.kind in PROBABILITY_KINDS:
        g = xp.where(per_class(t.label_invalid), xp.nan, g)
    return g


def _from_logits(
    x: Array,
    o: Operands,
    t: Targets,
    options: Options,
    cx: Context,
    outputs: Outputs,
    cotangent: Cotangent,
    saved: tuple[Array, ...] | None,
) -> Outcome:
    z = softmax.softcapped(x, options, cx)
    e = exponentials(z, cx, None if saved is None else RowStats(*saved))
    wants_rows = outputs.rows or outputs.total
    # Nobody differentiates what starts from statistics of an earlier call.
    known = cx.inplace_ok or saved is not None
    by_label = t.labels is not None and not options.label_smoothing and known
    rows = grad = grad_targets = s = None
    if wants_rows or by_label:
        s = row_stats(z, t, options, cx, e)
    if wants_rows and s is not None:
        rows = softmax.losses(s, t, options, cx, softmax.second_sums(z, s, t, options, cx, e))
    # Before the gradient, which may overwrite the exponentials.
    scan = None
    if outputs.tokens:
        gap = softmax.gap_sum(z, e, cx) if outputs.entropy else None
        scan = Scan(gap, rank_of(x, t, cx, outputs.rank))
    if outputs.grad and by_label and s is not None:
        grad = softmax.label_gradient(x, s, t, options, cx, cotangent.row_loss, e)
    elif outputs.grad or outputs.grad_targets:
        parts = softmax.parts(z, cx, e)
        if outputs.grad and t.few is not None:
            m = cx.xp.squeeze(e.max, axis=-1)
            gap = few_classes.entry_gaps(z, m, t.few, cx)
            at = few_classes.slot_parts(gap, m, e.tail_sum, cx)
            grad = finished_list_gradient(x, z, t, options, cx, cotangent, parts, at, o.x.dtype)
        elif outputs.grad:
            grad = softmax.gradient(x, z, t, options, cx, cotangent.row_loss, parts, e=e)
        if outputs.grad_targets:
            grad_targets = soft_target_gradient(z, t, options, cx, cotangent, parts)
    stats = None
    if outputs.stats or outputs.tokens:
        stats = (cx.xp.squeeze(e.max, axis=-1), e.tail_sum)
    return Outcome(rows, None, None, grad, grad_targets, stats, tokens=scan)


def finished_list_gradient(
    x: Array,
    z: Array,
    t: Targets,
    options: Options,
    cx: Context,
    cotangent: Cotangent,
    parts: softmax.SoftmaxParts,
    at: few_classes.SlotParts,
    dtype: Any,
) -> Array:
    """Return the finished gradient of targets of a few classes: the slots' entries come last."""
    few = t.few
    assert few is not None
    g, slots = list_gradient(x, z, t, options, cx, cotangent.row_loss, parts, at)
    g, slots = (cx.cast(select_gradient(a, t, options, cx, cotangent), dtype) for a in (g, slots))
    return cx.scatter_many(g, few.indices, slots, few.first)


def soft_target_gradient(
    z: Array,
    t: Targets,
    options: Options,
    cx: Context,
    cotangent: Cotangent,
    parts: softmax.SoftmaxParts,
) -> Array:
    """Return the gradient to soft targets of the losses from logits."""
    class_loss = softmax.class_losses(parts, options, cx)
    if t.few is not None:
        return few_target_gradient(z, class_loss, parts.lse, t, options, cx, cotangent)
    possible = z != -cx.xp.inf
    return target_gradient(class_loss, possible, parts.lse, t, options, cx, cotangent)


def _from_probabilities(
    x: Array, t: Targets, options: Options, cx: Context, outputs: Outputs, cotangent: Cotangent
) -> Outcome:
    rows = grad = grad_targets = None
    if outputs.rows or outputs.total:
        rows = softmax.losses(probabilities.row_stats(x, t, options, cx), t, options, cx)
    if outputs.grad:
        grad = probabilities.gradient(x, t, options, cx, cotangent.row_loss)
    if outputs.grad_targets:
        grad_targets = probability_target_gradient(x, t, options, cx, cotangent)
    return Outcome(rows, None, None, grad, grad_targets)


def probability_target_gradient(
    x: Array, t: Targets, options: Options, cx: Context, cotangent: Cotangent
) -> Array:
    """Return the gradient to soft targets of the losses from (log-)probabilities."""
    class_loss = probabilities.nll(x, options, cx)
    possible = probabilities.possible(x, options, cx)
    return target_gradient(class_loss, possible, None, t, options, cx, cotangent)


def _elementwise(
    x: Array,
    o: Operands,
    t: Targets,
    options: Options,
    cx: Context,
    outputs: Outputs,
    cotangent: Cotangent,
) -> Outcome:
    sigmoid = elementwise.sigmoid(x, cx) if options.kind in SIGMOID_KINDS else None
    terms = elementwise.terms(x, o, t, options, cx, sigmoid)
    row_cotangent = cotangent.row_loss
    rows = grad = grad_targets = None
    if outputs.rows or outputs.total:
        rows = elementwise.losses(terms, t, options, cx)
    if outputs.grad:
        grad = elementwise.gradient(terms.dx, t, options, cx, row_cotangent)
    if outputs.grad_targets:
        grad_targets = elementwise.gradient(terms.dt, t, options, cx, row_cotangent)
    return Outcome(rows, None, None, grad, grad_targets)
