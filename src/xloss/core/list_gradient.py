"""The gradient of targets of a few classes a row, of all classes and of the slots apart."""

from __future__ import annotations

from typing import Any

from .._arrays.context import Context
from .._arrays.inspect import Array
from . import few_classes, softmax
from .options import Options
from .smoothing import column, lse_if_weighted
from .targets import Targets


def list_gradient(
    x: Array,
    z: Array,
    t: Targets,
    options: Options,
    cx: Context,
    cotangent: Any,
    found: softmax.SoftmaxParts,
    at: few_classes.SlotParts,
) -> tuple[Array, Array]:
    """Return the gradient of targets of a few classes: of all classes as if unlisted, of the slots.

    (*rows, classes), and (*rows, K), whose entries belong in its place at the listed classes.
    """
    xp, few = cx.xp, t.few
    assert few is not None
    made = few_classes.levels(z, few, t.class_weight, options, cx)
    b = cotangent if t.sample_weight is None else cotangent * t.sample_weight
    g = few_classes.gradient(z, found.p, found.q, made, t.class_weight, cx) * column(cx, b)
    slope: Array | None = None
    if options.z_loss:
        weighted = cotangent if t.row_weight is None else cotangent * t.row_weight
        lse = cx.cast(lse_if_weighted(found.lse, t, cx), cx.sum_dtype)
        slope = 2.0 * options.z_loss * weighted * lse
        g = g + xp.where(found.p == 0, 0.0, column(cx, slope) * found.p)
    slots = few_classes.entries(at, made.at_slots, made.total, b, slope, cx)
    if options.softcap is not None:
        g = g * softmax.softcap_derivative(x, options, cx)
        at_slots = softmax.softcap_derivative(cx.gather_many(x, few.indices), options, cx)
        slots = slots * cx.cast(at_slots, slots.dtype)  # some libraries promote no dtype
    return g, slots
