"""The gradients of one block as formulas that an autodiff can follow."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from .._arrays.context import Context
from .._arrays.inspect import Array
from . import elementwise, few_classes, probabilities, softmax
from .call import LossCall
from .family import (
    PROBABILITY_KINDS,
    SIGMOID_KINDS,
    SOFTMAX_KINDS,
    finished_list_gradient,
    probability_target_gradient,
    select_cotangent,
    select_gradient,
    soft_target_gradient,
)
from .options import Cotangent
from .targets import prepare

PartsMaker = Callable[[Array, Context], Any]
# Takes capped logits, the indices of the slots, and the softmax of whole rows.
SlotPartsMaker = Callable[[Array, Array, softmax.SoftmaxParts, Context], few_classes.SlotParts]


def gathered_parts(
    z: Array, indices: Array, parts: softmax.SoftmaxParts, cx: Context
) -> few_classes.SlotParts:
    """Return the softmax at the slots, picked out of that of all classes."""
    both = (cx.cast(cx.gather_many(a, indices), cx.sum_dtype) for a in (parts.p, parts.q))
    return few_classes.SlotParts(*both)


def formula_gradients(
    call: LossCall,
    cotangent: Cotangent,
    softmax_parts: PartsMaker = softmax.parts,
    sigmoid_parts: PartsMaker = elementwise.sigmoid,
    slot_parts: SlotPartsMaker = gathered_parts,
) -> tuple[Array, Array | None]:
    """Return both gradients by plain operations that an autodiff can follow to any order.

    `softmax_parts`, `sigmoid_parts` and `slot_parts` bring derivative rules of their own: the
    derivative that autodiff takes of a maximum is wrong where logits tie.
    """
    o, options, cx = call.operands, call.options, call.cx
    soft = not options.indexed and o.targets is not None
    with cx.quiet():
        t = prepare(o, options, cx, call.classes)
        x = cx.cast(o.x, cx.compute_dtype)
        selected = select_cotangent(cotangent, t, cx)
        row = selected.row_loss
        if options.kind in SOFTMAX_KINDS:
            z = softmax.softcapped(x, options, cx)
            parts = softmax_parts(z, cx)
            if t.few is None:
                g = softmax.gradient(x, z, t, options, cx, row, parts)
            else:
                at = slot_parts(z, t.few.indices, parts, cx)
                kind = cx.compute_dtype
                g = finished_list_gradient(x, z, t, options, cx, selected, parts, at, kind)
            h = soft_target_gradient(z, t, options, cx, selected, parts) if soft else None
        elif options.kind in PROBABILITY_KINDS:
            g = probabilities.gradient(x, t, options, cx, row)
            h = probability_target_gradient(x, t, options, cx, selected) if soft else None
        else:
            sigmoid = sigmoid_parts(x, cx) if options.kind in SIGMOID_KINDS else None
            terms = elementwise.terms(x, o, t, options, cx, sigmoid)
            g = elementwise.gradient(terms.dx, t, options, cx, row)
            h = elementwise.gradient(terms.dt, t, options, cx, row) if soft else None
        # Not rounded to 16 bits here, for an autodiff goes on to multiply them.
        if t.few is None:
            g = select_gradient(g, t, options, cx, cotangent)
        return g, None if h is None else select_gradient(h, t, options, cx, cotangent)
