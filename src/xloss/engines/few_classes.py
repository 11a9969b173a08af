"""Targets of a few classes a row on a compiled engine: its pass for labels, then K numbers a row.

The gradient of every class that is not listed is p·A, A the sum of the row's weighted targets: that
of a label whose row is multiplied by A. The kernel computes it together with the row statistics,
from which the loss and the gradients of the listed classes follow by core's formulas. Targets of
which a part is spread evenly are written out, a block of rows at a time, for the kernel that takes
soft targets.
"""

from __future__ import annotations

from functools import partial
from math import prod
from typing import Any

from .._arrays.context import Context, read
from .._arrays.inspect import FLOATS, INTEGERS
from ..core import few_classes, softmax
from ..core.call import LossCall
from ..core.family import evaluate, select_cotangent, select_gradient, select_rows
from ..core.options import UNIT_COTANGENT, Cotangent, Operands, Options, Outcome, Outputs, Saved
from ..core.reduce import exact_sum
from ..core.row_stats import RowStats, log1p_tail
from ..core.smoothing import slot_target_gradient
from ..core.targets import Targets, prepare, total_weight
from . import generic
from .memory_checks import check_gradient, fits

# Targets that are written out at once on the host, in numbers: little memory, enough for threads.
WRITTEN = 2**19


class FewClasses:
    """An Engine that asks a compiled one for labels."""

    compiled = True

    def __init__(self, engine: Any) -> None:
        self.engine, self.name = engine, engine.name
        self.save_stats_from, self.unavailable = engine.save_stats_from, engine.unavailable

    def refuses(self, call: LossCall) -> str | None:
        """Return the reason why it cannot take this call, or None."""
        o, options = call.operands, call.options
        if not call.cx.inplace_ok:
            return "targets of a few classes are traced as plain operations"
        if options.z_loss and options.rest == "uniform":
            return "z_loss beside a rest that is spread evenly is computed by core"
        bare = Operands(o.x, o.indices, o.class_weight, o.sample_weight, o.where)
        reason: str | None = self.engine.refuses(_of_labels(call, bare))
        return reason

    def run(
        self,
        call: LossCall,
        outputs: Outputs,
        cotangent: Cotangent = UNIT_COTANGENT,
        saved: Saved = None,
    ) -> Outcome:
        """Compute the outputs of a whole call; the class axis of every array is the last."""
        o, options, cx = call.operands, call.options, call.cx
        rows = tuple(o.x.shape[:-1])
        assert o.indices is not None
        slots = (*rows, o.indices.shape[-1])
        fits("targets: indices", o.indices, slots, INTEGERS, cx)
        fits("targets: probabilities", o.targets, slots, FLOATS, cx)
        check_gradient(cotangent, saved, rows, cx)
        if 0 in o.x.shape:
            return generic.run(call, outputs, cotangent, saved)
        if options.rest == "uniform" or options.label_smoothing > 0:
            budget = max(1, WRITTEN // call.classes) if cx.on_host else 0
            by = partial(_written_out, self.engine)
            return generic.run(call, outputs, cotangent, by=by, budget=budget)
        with cx.quiet():
            t = prepare(o, options, cx, call.classes)
            weight = total_weight(t, prod(rows), cx) if outputs.weight else None
            if not any(outputs._replace(weight=False)):
                return Outcome(weight=weight)
            selected = select_cotangent(cotangent, t, cx)
            indices = _few(t).indices
            # Its labels were looked at.
            labels = _of_labels(call, Operands(o.x, indices[..., 0], where=t.row_present))
            passes = partial(self.engine.run, labels._replace(cx=read(cx, clean=True)))
            s, grad = _pass_over_logits(passes, call, t, outputs, selected, saved)
            return _outcome(call, s, grad, t, outputs, selected)._replace(weight=weight)


def _written_out(
    engine: Any,
    o: Operands,
    options: Options,
    cx: Context,
    classes: int,
    outputs: Outputs,
    cotangent: Cotangent,
    _: Saved,
) -> Outcome:
    """Compute a row block whose lists are written out, as `core.family.evaluate` does.

    An invalid list becomes NaN targets. Core computes the row weights, and the gradient to the
    listed probabilities, from the list itself.
    """
    xp = cx.xp
    rest = Outputs(weight=outputs.weight, grad_targets=outputs.grad_targets)
    others = evaluate(o, options, cx, classes, rest, cotangent) if any(rest) else Outcome()
    outputs = outputs._replace(weight=False, grad_targets=False)
    if not any(outputs):
        return others
    with cx.quiet():
        t = prepare(o, options, cx, classes)
        few, even = _few(t), few_classes.spread(o.x, _few(t), t.class_weight, cx)
        written = xp.zeros(o.x.shape, dtype=cx.compute_dtype, device=cx.device)
        if even is not None:
            written = xp.where(even.mask, cx.cast(even.each, cx.compute_dtype)[..., None], written)
        at_slots = cx.cast(few.of_class, cx.compute_dtype)
        if few.listed is not None:
            at_slots = xp.where(few.listed, at_slots, cx.gather_many(written, few.indices))
        written = cx.scatter_many(written, few.indices, at_slots)
        if t.label_invalid is not None:
            written = xp.where(t.label_invalid[..., None], xp.nan, written)
    soft = options._replace(indexed=False, ignore_index=None, rest=None)
    bare = Operands(o.x, written, o.class_weight, o.sample_weight, t.row_present)
    made = engine.run(LossCall("cross_entropy", soft, cx, bare, classes), outputs, cotangent)
    found: Outcome = made._replace(weight=others.weight, grad_targets=others.grad_targets)
    return found


def _pass_over_logits(
    passes: Any, call: LossCall, t: Targets, outputs: Outputs, cotangent: Cotangent, saved: Saved
) -> tuple[RowStats, Any]:
    """Return the statistics, and the gradient that every class would have unlisted.

    passes(outputs, cotangent, saved) runs the engine as for labels.
    """
    options, cx, few = call.options, call.cx, _few(t)
    if saved is None and (options.z_loss or not outputs.grad):
        saved = passes(Outputs(stats=True), UNIT_COTANGENT, None).stats
    s = None if saved is None else RowStats(*saved)
    grad = None
    if outputs.grad:
        # What the softmax is multiplied by in each row, (*rows).
        factor = few_classes.listed_sums(cx.xp.zeros_like(few.probs), few, cx)[0]
        row: Any = cotangent.row_loss
        factor = factor * (row if t.sample_weight is None else row * t.sample_weight)
        if options.z_loss and s is not None:
            factor = factor + row * softmax.z_term(s, t, options, cx)[1]
        unlisted = Cotangent(cx.xp.asarray(factor), None, cotangent.any_row_counts)
        made = passes(Outputs(grad=True, stats=saved is None), unlisted, saved)
        grad = made.grad
        s = RowStats(*made.stats) if s is None else s
    assert s is not None
    return s, grad


def _outcome(
    call: LossCall, s: RowStats, grad: Any, t: Targets, outputs: Outputs, cotangent: Cotangent
) -> Outcome:
    """Return the outputs from the statistics and the logits of the slots, (*rows, K)."""
    o, options, cx, few = call.operands, call.options, call.cx, _few(t)
    x_slots = cx.gather_many(o.x, few.indices)
    z = softmax.softcapped(x_slots, options, cx)
    gap = few_classes.gaps_at(z, s.max, cx)
    sums = few_classes.listed_sums(gap, few, cx)
    full = RowStats(s.max, s.tail_sum, *sums)
    rows = total = grad_targets = None
    if outputs.rows or outputs.total:
        rows = select_rows(softmax.losses(full, t, options, cx), t, cx)
        total = exact_sum(cx, rows) if outputs.total else None
        rows = cx.cast(rows, cx.compute_dtype)
    row: Any = cotangent.row_loss
    if grad is not None:
        at = few_classes.slot_parts(gap, s.max, s.tail_sum, cx)
        a = few.of_class if few.class_weight is None else few.of_class * few.class_weight
        b = row if t.sample_weight is None else row * t.sample_weight
        by_lse = row * softmax.z_term(full, t, options, cx)[1] if options.z_loss else None
        made = few_classes.entries(at, a, sums[0], b, by_lse, cx)
        slope = softmax.softcap_derivative(x_slots, options, cx)
        made = made if slope is None else made * slope
        made = select_gradient(made, t, options, cx, cotangent)
        grad = cx.scatter_many(grad, few.indices, cx.cast(made, grad.dtype))
    if outputs.grad_targets and o.targets is not None:
        log1p_r = log1p_tail(s, cx)
        lse = cx.cast(cx.cast(s.max, cx.sum_dtype) + log1p_r, cx.compute_dtype)
        nll = cx.cast(gap + log1p_r[..., None], cx.compute_dtype)
        possible = z != -cx.xp.inf
        h = slot_target_gradient(nll, possible, lse, t, options, cx, cotangent)
        h = select_gradient(h, t, options, cx, cotangent)
        grad_targets = cx.cast(h, o.targets.dtype)
    stats = (s.max, s.tail_sum) if outputs.stats else None
    return Outcome(rows if outputs.rows else None, total, None, grad, grad_targets, stats)


def _few(t: Targets) -> few_classes.FewTargets:
    assert t.few is not None
    return t.few


def _of_labels(call: LossCall, o: Operands) -> LossCall:
    """Return the call of operands with a label for each row."""
    options = Options("cross_entropy", indexed=True, softcap=call.options.softcap)
    return LossCall(call.name, options, call.cx, o, o.x.shape[-1])
