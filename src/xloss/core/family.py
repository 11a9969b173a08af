"""One block of rows from operands to losses and gradients, for every kind of loss."""

from __future__ import annotations

from collections.abc import Callable
from math import prod
from typing import Any

from .._arrays.context import Context
from .._arrays.inspect import Array
from . import elementwise, probabilities, softmax
from .options import Cotangent, Operands, Options, Outcome, Outputs
from .reduce import exact_sum
from .row_stats import RowStats, exponentials, row_stats
from .smoothing import target_gradient
from .targets import Targets, prepare, total_weight

TARGETLESS = frozenset({"entropy", "logsumexp", "softmax", "log_softmax"})
SOFTMAX = TARGETLESS | {"cross_entropy", "focal_loss"}
GIVEN = frozenset({"nll_loss", "log_loss"})
SIGMOID = frozenset({"binary_cross_entropy_with_logits", "sigmoid_focal_loss"})

Maker = Callable[[Array, Context], Any]


def evaluate(
    o: Operands,
    options: Options,
    cx: Context,
    classes: int,
    outputs: Outputs,
    cotangent: Cotangent,
    saved: tuple[Array, ...] | None = None,
) -> Outcome:
    """Compute what is needed of one block; its arrays are (*rows, classes) and (*rows).

    `saved` are the statistics of an earlier call on the same logits.
    """
    with cx.quiet():
        if outputs.elements:
            got = softmax.parts(cx.c_order(cx.cast(o.x, cx.compute_dtype)), cx)
            return Outcome(elements=got.p if options.kind == "softmax" else -got.nll)
        t = prepare(o, options, cx, classes)
        rows = total = weight = None
        made = Outcome()
        if outputs.rows or outputs.total or outputs.grad or outputs.grad_targets:
            x = cx.c_order(cx.cast(o.x, cx.compute_dtype))
            family = (
                _softmax if options.kind in SOFTMAX else _given if options.kind in GIVEN else _terms
            )
            settled = (
                settle_up(cotangent, t, cx) if outputs.grad or outputs.grad_targets else cotangent
            )
            made = family(x, o, t, options, cx, outputs, settled, saved)
        if made.rows is not None:
            rows = settle_rows(made.rows, t, cx)
            total = exact_sum(cx, rows) if outputs.total else None
            rows = cx.cast(rows, cx.compute_dtype)
        if outputs.weight:
            weight = total_weight(t, prod(o.x.shape[:-1] if classes else o.x.shape), cx)
        grad, grad_targets = made.grad, made.grad_targets
        if grad is not None:
            grad = cx.cast(settle_grad(grad, t, options, cx, cotangent), o.x.dtype)
        if grad_targets is not None and o.targets is not None:
            grad_targets = settle_grad(grad_targets, t, options, cx, cotangent)
            grad_targets = cx.cast(grad_targets, o.targets.dtype)
    return Outcome(rows if outputs.rows else None, total, weight, grad, grad_targets, made.stats)


def settle_up(cotangent: Cotangent, t: Targets, cx: Context) -> Cotangent:
    """Give a bad row a NaN upstream, and every row 0 where nothing contributes."""
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


def settle_rows(rows: Array, t: Targets, cx: Context) -> Array:
    """Select absent rows to exactly 0 and bad ones to NaN."""
    if t.row_present is not None:
        rows = cx.xp.where(t.row_present, rows, 0.0)
    return rows if t.label_invalid is None else cx.xp.where(t.label_invalid, cx.xp.nan, rows)


def settle_grad(g: Array, t: Targets, options: Options, cx: Context, cotangent: Cotangent) -> Array:
    """Select the gradient of absent rows to exactly 0, and a bad row's to NaN."""
    xp = cx.xp
    keep = t.row_present
    if cotangent.any_row_counts is not None:
        keep = cotangent.any_row_counts if keep is None else keep & cotangent.any_row_counts

    def wide(mask: Array) -> Array:
        return xp.expand_dims(mask, axis=-1) if 0 < mask.ndim < g.ndim else mask

    if keep is not None:
        g = xp.where(wide(keep), g, 0.0)
    # The softmax gradient is NaN all over by its upstream; these have zeros that stay.
    if t.label_invalid is not None and options.kind in GIVEN:
        g = xp.where(wide(t.label_invalid), xp.nan, g)
    return g


def _softmax(
    x: Array,
    o: Operands,
    t: Targets,
    options: Options,
    cx: Context,
    outputs: Outputs,
    cotangent: Cotangent,
    saved: tuple[Array, ...] | None,
) -> Outcome:
    z = softmax.link(x, options, cx)
    e = exponentials(z, cx, None if saved is None else RowStats(*saved))
    wants_rows = outputs.rows or outputs.total
    by_label = t.labels is not None and not options.label_smoothing and cx.inplace_ok
    rows = grad = grad_targets = s = None
    if wants_rows or by_label:
        s = row_stats(z, t, options, cx, e)
    if wants_rows and s is not None:
        rows = softmax.losses(s, t, options, cx, softmax.second_sums(z, s, t, options, cx, e))
    if outputs.grad and by_label and s is not None:
        grad = softmax.label_gradient(x, s, t, options, cx, cotangent.row_loss, e)
    elif outputs.grad or outputs.grad_targets:
        got = softmax.parts(z, cx, e)
        if outputs.grad:
            grad = softmax.gradient(x, z, t, options, cx, cotangent.row_loss, got)
        if outputs.grad_targets:
            grad_targets = soft_target_gradient(z, t, options, cx, cotangent, got)
    stats = (cx.xp.squeeze(e.max, axis=-1), e.rest) if outputs.stats else None
    return Outcome(rows, None, None, grad, grad_targets, stats)


def soft_target_gradient(
    z: Array, t: Targets, options: Options, cx: Context, cotangent: Cotangent, got: softmax.Parts
) -> Array:
    """Return the gradient to soft targets of the losses from logits."""
    value = softmax.class_losses(got, options, cx)
    return target_gradient(
        value, z != -cx.xp.inf, got.lse, t, options, cx, cotangent.row_loss, cotangent.row_weight
    )


def _given(
    x: Array,
    o: Operands,
    t: Targets,
    options: Options,
    cx: Context,
    outputs: Outputs,
    cotangent: Cotangent,
    saved: tuple[Array, ...] | None,
) -> Outcome:
    rows = grad = grad_targets = None
    if outputs.rows or outputs.total:
        rows = softmax.losses(probabilities.row_stats(x, t, options, cx), t, options, cx)
    if outputs.grad:
        grad = probabilities.gradient(x, t, options, cx, cotangent.row_loss)
    if outputs.grad_targets:
        value, there = (
            probabilities.surprise(x, options, cx),
            probabilities.possible(x, options, cx),
        )
        grad_targets = target_gradient(
            value, there, None, t, options, cx, cotangent.row_loss, cotangent.row_weight
        )
    return Outcome(rows, None, None, grad, grad_targets)


def _terms(
    x: Array,
    o: Operands,
    t: Targets,
    options: Options,
    cx: Context,
    outputs: Outputs,
    cotangent: Cotangent,
    saved: tuple[Array, ...] | None,
) -> Outcome:
    got = elementwise.sigmoid(x, cx) if options.kind in SIGMOID else None
    made = elementwise.terms(x, o, t, options, cx, got)
    return Outcome(
        elementwise.losses(made, t, options, cx) if outputs.rows or outputs.total else None,
        None,
        None,
        elementwise.gradient(made.dx, t, options, cx, cotangent.row_loss) if outputs.grad else None,
        elementwise.gradient(made.dt, t, options, cx, cotangent.row_loss)
        if outputs.grad_targets
        else None,
    )


def formula_gradients(
    o: Operands,
    options: Options,
    cx: Context,
    classes: int,
    cotangent: Cotangent,
    softmax_parts: Maker = softmax.parts,
    sigmoid_parts: Maker = elementwise.sigmoid,
) -> tuple[Array, Array | None]:
    """Return both gradients by plain operations an autodiff can follow to any order.

    The two makers carry their own derivative rules: through a maximum autodiff is wrong on ties.
    """
    with cx.quiet():
        t = prepare(o, options, cx, classes)
        x = cx.cast(o.x, cx.compute_dtype)
        g, h = _formula(
            x, o, t, options, cx, settle_up(cotangent, t, cx), softmax_parts, sigmoid_parts
        )
        # Not rounded to 16 bits: what an autodiff multiplies it by is still to come.
        g = settle_grad(g, t, options, cx, cotangent)
        return g, None if h is None else settle_grad(h, t, options, cx, cotangent)


def _formula(
    x: Array,
    o: Operands,
    t: Targets,
    options: Options,
    cx: Context,
    cotangent: Cotangent,
    softmax_parts: Maker,
    sigmoid_parts: Maker,
) -> tuple[Array, Array | None]:
    soft = not options.indexed and o.targets is not None
    if options.kind in SOFTMAX:
        z = softmax.link(x, options, cx)
        got = softmax_parts(z, cx)
        g = softmax.gradient(x, z, t, options, cx, cotangent.row_loss, got)
        return g, soft_target_gradient(z, t, options, cx, cotangent, got) if soft else None
    if options.kind in GIVEN:
        g = probabilities.gradient(x, t, options, cx, cotangent.row_loss)
        if not soft:
            return g, None
        value, there = (
            probabilities.surprise(x, options, cx),
            probabilities.possible(x, options, cx),
        )
        return g, target_gradient(
            value, there, None, t, options, cx, cotangent.row_loss, cotangent.row_weight
        )
    made = elementwise.terms(
        x, o, t, options, cx, sigmoid_parts(x, cx) if options.kind in SIGMOID else None
    )
    h = elementwise.gradient(made.dt, t, options, cx, cotangent.row_loss) if soft else None
    return elementwise.gradient(made.dx, t, options, cx, cotangent.row_loss), h
