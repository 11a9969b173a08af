"""Checks that read values: bad labels, and with validate=True negative weights and targets."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from .._arrays.context import Context, read
from .._arrays.inspect import INTEGERS, Array, dtype_name
from .options import Operands, Options
from .row_blocks import cut, cuts
from .targets import bounds, prepare


def check_values(
    o: Operands,
    options: Options,
    cx: Context,
    classes: int,
    weight: str = "weight",
    named: Callable[[tuple[int, ...]], str] = str,
) -> Context:
    """Raise for the first bad label, in blocks; absent rows are exempt.

    `weight` is what the class weights are called, `named` turns a position here into the one that
    the caller knows, where this is a part of an array. Return the context, marked clean where no
    label need be looked at again. Where a transformation hides which rows are there, nothing is
    read.
    """
    if any(a is not None and cx.is_tracer(a) for a in (o.sample_weight, o.where)):
        if options.validate is True:
            raise ValueError("validate: True would read values that tracing does not have")
        return cx._replace(values_readable=False, labels_verified=False)
    if options.indexed and o.targets is not None:
        ignore = options.ignore_index
        least, most = bounds(o.targets, cx)
        inside = least >= 0 and most < (classes or 2)
        if not inside:
            _first_bad(o, options, cx, classes, named)
        cx = read(cx, inside and (ignore is None or not least <= ignore <= most))
    if options.validate is True:
        with cx.quiet():
            _negatives(o, options, cx, classes, weight, named)
    return cx


def axis_back(axis: int, ndim: int) -> Callable[[tuple[int, ...]], str]:
    """Return what names a position where the class axis, here the last, is where it came from."""

    def named(at: tuple[int, ...]) -> str:
        if axis == -1 or len(at) < ndim:  # a row's
            return str(at)
        return str((*at[: ndim + axis], at[-1], *at[ndim + axis : -1]))

    return named


def check_targets(
    o: Operands,
    options: Options,
    cx: Context,
    classes: int,
    weight: str = "weight",
    named: Callable[[tuple[int, ...]], str] = str,
) -> Context:
    """Do the same for logits that are not here: an array of their shape stands in for them."""
    rows: Any = o.targets.shape if options.indexed else o.targets.shape[:-1]  # type: ignore[union-attr]
    empty = cx.xp.zeros((1,) * (len(rows) + 1), dtype=cx.compute_dtype, device=cx.device)
    like = cx.xp.broadcast_to(empty, (*rows, classes))
    return check_values(o._replace(x=like), options, cx, classes, weight, named)


def check_class_weight(o: Operands, options: Options, cx: Context, name: str = "weight") -> None:
    """With validate=True refuse negative class weights, of which there may be only some here."""
    check_values(Operands(o.x, None, o.class_weight), options, cx, 1, name)


def check_labels(o: Operands, options: Options, cx: Context, classes: int) -> Context:
    """Do the same where the class weights too are elsewhere."""
    return check_targets(o._replace(class_weight=None), options, cx, classes)


def _rows(o: Operands, classes: int) -> tuple[int, ...]:
    return tuple(o.x.shape[:-1]) if classes else tuple(o.x.shape)


def _first_bad(
    o: Operands,
    options: Options,
    cx: Context,
    classes: int,
    named: Callable[[tuple[int, ...]], str],
) -> None:
    xp = cx.xp
    rows = _rows(o, classes)
    for piece in cuts(rows, classes, cx):
        bad = prepare(cut(xp, o, piece, classes), options, cx, classes).label_invalid
        if bad is None or not bool(xp.any(bad)):
            continue
        at = _first(bad, cx)
        part: Any = o.targets
        part = part[piece] if rows else part
        value = _element(xp.reshape(part, (-1,)), at, cx)
        where = named(position(at, piece, tuple(part.shape)))
        if classes:
            raise IndexError(
                f"targets: label {value} at position {where} is outside [0, {classes}) "
                f"for {classes} classes"
            )
        raise ValueError(f"targets: {value} at position {where} is neither 0 nor 1")


def _first(mask: Array, cx: Context) -> int:
    """Return the first position where a mask is true; argmax counts in 64 bits, which some lack."""
    n = int(mask.shape[0])
    numbers = cx.arange(n)
    return int(cx.xp.min(cx.xp.where(mask, numbers, cx.xp.full_like(numbers, n))))


def _element(x: Array, at: int, cx: Context) -> int:
    """Return an integer exactly; torch converts no uint64 beyond int64."""
    value = int(cx.cast(x[at : at + 1], cx.label_dtype)[0])
    wraps = value < 0 and dtype_name(x.dtype).startswith("uint")
    return value + 2 * (INTEGERS[dtype_name(cx.label_dtype)][1] + 1) if wraps else value


def position(at: int, piece: tuple[slice, ...], shape: tuple[int, ...]) -> tuple[int, ...]:
    """Return the position in the whole array of a flat position in one block of it."""
    out = []
    for n in reversed(shape):
        out.append(at % n)
        at //= n
    starts = [s.start or 0 for s in piece]
    return tuple(i + s for i, s in zip(reversed(out), starts, strict=True))


def _negatives(
    o: Operands,
    options: Options,
    cx: Context,
    classes: int,
    weight: str,
    named: Callable[[tuple[int, ...]], str],
) -> None:
    xp = cx.xp
    arrays: list[tuple[str, Any]] = [(weight, o.class_weight)]
    if not options.indexed:
        arrays.append(("targets", o.targets))
    if options.kind == "log_loss":
        arrays.append(("probs", o.x))
    arrays.append(("sample_weight", o.sample_weight))
    for name, values in arrays:
        if values is None or dtype_name(values.dtype).startswith("uint"):
            continue
        low = values < 0
        if name != weight:
            keep = prepare(o, options, cx, classes).row_present
            if keep is not None:
                wide = keep if keep.ndim == low.ndim else xp.expand_dims(keep, axis=-1)
                low = low & wide
        if bool(xp.any(low)):
            at = _first(xp.reshape(low, (-1,)), cx)
            where = position(at, (slice(None),) * low.ndim, tuple(low.shape))
            shown = str(where) if name == weight else named(where)
            raise ValueError(f"{name}: negative at position {shown}")
