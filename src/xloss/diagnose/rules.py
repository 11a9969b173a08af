"""The rules that make the loss of a row NaN or infinite, tried on the values of a call."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt

from .._arrays.context import Context, context
from .._arrays.host_data import moved
from .._arrays.inspect import Array, dtype_name
from ..core.call import LossCall
from ..core.options import Operands
from ..core.reduce import exact_sum, mean
from ..core.row_blocks import block_operands, block_slices
from ..core.softmax import softcapped
from ..evaluation.rows import Measured, host
from .report import Finding, Findings

Values = npt.NDArray[Any]
Mask = npt.NDArray[np.bool_]
Hit = tuple[str, Mask, str]  # a rule, the rows of a block that it applies to, why


def look(call: LossCall, got: Measured, found: Findings, start: tuple[int, ...]) -> None:
    """Add what explains the losses of a block of rows, of which `start` is the first."""
    cx, o, classes = call.cx, call.operands, call.classes
    weights = None if o.class_weight is None else host(cx.cast(o.class_weight, cx.compute_dtype))
    if weights is not None:
        why = "the weight of the class is NaN, infinite or negative"
        found.marked("bad_weight", why, _odd(weights), (0,))
    rows = tuple(o.x.shape[:-1])
    known = all(n == n for n in rows)
    for piece in block_slices(rows, classes, cx) if known else [(slice(None),) * len(rows)]:
        losses = np.asarray(got.losses[piece])
        here = tuple(a + (s.start or 0) for a, s in zip(start, piece, strict=True))
        for rule, mask, why in _block(
            block_operands(cx.xp, o, piece, classes), losses.reshape(-1), weights, call
        ):
            found.marked(rule, why, mask.reshape(losses.shape), here)


def conclude(
    call: LossCall, got: Measured, found: Findings, reduction: str, normalizer: float | None
) -> float | None:
    """Return the reduced loss, and add findings about it that are not about single rows."""
    every = partial(Finding, count=got.losses.size, positions=())
    # Under a normalizer a row counts whose label has class weight 0: smoothing gives it a loss.
    if not np.any(got.weights) and (normalizer is None or not np.any(got.losses)):
        why = "no row is present and has a weight"
        found.add(every("nothing_counted", explanation=why))
    if reduction == "none":
        return None
    if normalizer is not None and not 0 < normalizer < np.inf:
        found.add(every("bad_normalizer", explanation=f"normalizer is {normalizer:g}"))
    cx, dtype = context(got.losses, np), dtype_name(call.cx.compute_dtype)
    with cx.quiet():
        total = exact_sum(cx, got.losses)
        if reduction == "mean":
            total = mean(cx, total, exact_sum(cx, got.weights), normalizer)
        loss = float(np.asarray(total).astype(dtype))
    if not np.isfinite(loss) and not found.all():
        found.add(every("overflow", explanation=f"the rows add up to more than any {dtype}"))
    return loss


def _block(o: Operands, losses: Values, weights: Values | None, call: LossCall) -> list[Hit]:
    """Return the rules that apply to a block of rows."""
    options, cx, hits = call.options, call.cx, list[Hit]()
    targets = host(o.targets) if options.indexed else None
    keep = np.ones(losses.shape, dtype=bool)
    if targets is not None and options.ignore_index is not None:
        keep &= targets != options.ignore_index
    if o.where is not None:
        keep &= host(o.where)
    if o.sample_weight is not None:
        scale = host(cx.cast(o.sample_weight, cx.compute_dtype))
        keep &= scale != 0
        why = "sample_weight is NaN, infinite or negative"
        hits.append(("bad_sample_weight", _odd(scale) & keep, why))
    if targets is not None:
        odd = ((targets < 0) | (targets >= call.classes)) & keep
        other = "" if options.ignore_index is None else f" and not {options.ignore_index}"
        first = "".join(map(str, targets[odd][:1]))
        why = (
            f"a label, as the first {first}, is not in [0, {call.classes}){other}: the loss is NaN"
        )
        hits.append(("label_out_of_range", odd, why))
        targets = np.where(odd, 0, targets)
    else:  # on the array's own device: only affected rows are copied to the host
        t = cx.cast(o.targets, cx.compute_dtype)
        odd = host(cx.xp.any(~(t >= 0) | (t == np.inf), axis=-1)) & keep
        why = "a target is NaN, infinite or negative: no probability"
        hits.append(("bad_target", odd, why))
    failed = keep & ~np.isfinite(losses)
    if not failed.any():
        return hits
    z = _rows(o.x, failed, cx, lambda x: softcapped(x, options, cx))
    if targets is None:
        asked = _rows(o.targets, failed, cx, lambda t: cx.cast(t, cx.compute_dtype))
    else:
        asked = targets[failed]
    for rule, of_failed, why in _from_logits(z, asked, weights, call):
        mask = np.zeros_like(keep)
        mask[failed] = of_failed
        hits.append((rule, mask, why))
    unexplained = failed & ~np.any([mask for _, mask, _ in hits], axis=0)
    why = "nothing is wrong with the row, but its loss is larger than any "
    hits.append(("overflow", unexplained, why + dtype_name(cx.compute_dtype)))
    return hits


def _from_logits(
    z: Values, targets: Values, weights: Values | None, call: LossCall
) -> Iterator[Hit]:
    """Yield the rules that apply to rows of logits (count, classes) whose loss is not finite."""
    options = call.options
    undefined = np.any(np.isnan(z), axis=-1)
    yield "nan_logit", undefined, "a logit is NaN: so is the loss"
    masked = z == -np.inf
    nothing = ~np.any(~masked, axis=-1)
    yield "no_possible_class", nothing, "every logit is -inf, no class is possible: the loss is NaN"
    share = np.ones(call.classes) if weights is None else weights
    if options.indexed:
        asked = np.zeros(z.shape, dtype=bool)
        asked[np.arange(len(z)), targets.astype(np.intp)] = True
    else:
        asked = targets != 0
    asked &= (share != 0) & (options.label_smoothing < 1)
    lost = np.any(asked & masked, axis=-1) & ~nothing
    yield (
        "masked_target",
        lost,
        "the target has weight on a class whose logit is -inf: the loss is +inf",
    )
    top = np.isposinf(z)
    if options.label_smoothing:
        asked = asked | ((share != 0) & ~masked)
    elsewhere = np.any(asked & ~top, axis=-1) | (options.z_loss > 0)
    yield (
        "infinite_logit",
        np.any(top, axis=-1) & elsewhere,
        "a logit of +inf takes the whole probability, and the target has weight on another class "
        "(or z_loss squares an infinite number): the loss is +inf",
    )
    broken = ~np.isfinite(share)
    if not options.indexed:
        asked = np.ones_like(asked)  # a target of 0 times a weight of inf or NaN is NaN
    # Named already, by its class.
    yield "bad_weight", np.any(asked & broken, axis=-1), ""


def _rows(x: Array | None, mask: Mask, cx: Context, convert: Callable[[Array], Array]) -> Values:
    """Return the rows of a mask on the host; from another device only these are copied."""
    if cx.library == "dask":  # computed chunks are on the host already
        return host(convert(x))[mask]
    index = moved(np.flatnonzero(mask), cx)
    return host(convert(cx.xp.take(x, index, axis=0)))


def _odd(x: Values) -> Mask:
    """Mark what is neither a weight nor a probability: NaN, infinite or negative."""
    odd: Mask = ~(x >= 0) | (x == np.inf)
    return odd
