"""Checks that read values: invalid labels, and with validate=True negative weights and targets."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from .._arrays.context import Context, read
from .._arrays.inspect import INTEGERS, Array, dtype_name
from .options import Operands, Options
from .row_blocks import block_operands, block_slices
from .targets import bounds, prepare, safe_labels

ShowPosition = Callable[[tuple[int, ...]], str]


def check_values(
    o: Operands,
    options: Options,
    cx: Context,
    classes: int,
    weight: str = "weight",
    named: ShowPosition = str,
) -> Context:
    """Raise for the first invalid label, in blocks; absent rows are exempt.

    `weight` is what the user calls the class weights. `named` turns a position in these operands
    into the one in the user's array, of which they may be a part. Return the context, with
    `labels_verified` set where no label need be looked at again. Where a transformation hides
    which rows are present, nothing is read.
    """
    if any(a is not None and cx.is_tracer(a) for a in (o.sample_weight, o.where)):
        if options.validate is True:
            raise ValueError("validate: True would read values that tracing does not have")
        return cx._replace(values_readable=False, labels_verified=False)
    labels = o.targets if options.indexed else o.indices
    if labels is not None:
        ignore = options.ignore_index
        smallest, largest = bounds(labels, cx)
        inside = smallest >= 0 and largest < (classes or 2)
        if not inside:
            _raise_for_first_invalid(o, options, cx, classes, named)
        none_ignored = ignore is None or not smallest <= ignore <= largest
        cx = read(cx, inside and none_ignored)
    if options.validate is True:
        with cx.quiet():
            _raise_for_first_negative(o, options, cx, classes, weight, named)
    return cx


def axis_back(axis: int, ndim: int) -> ShowPosition:
    """Return what shows a position with the class axis, here the last, back where it came from."""

    def named(at: tuple[int, ...]) -> str:
        if axis == -1 or len(at) < ndim:  # the position of a row, which has no class axis
            return str(at)
        return str((*at[: ndim + axis], at[-1], *at[ndim + axis : -1]))

    return named


def check_targets(
    o: Operands,
    options: Options,
    cx: Context,
    classes: int,
    weight: str = "weight",
    named: ShowPosition = str,
) -> Context:
    """Check values where the logits are elsewhere: an array of their shape stands in for them."""
    rows: Any = o.targets.shape if options.indexed else o.targets.shape[:-1]  # type: ignore[union-attr]
    empty = cx.xp.zeros((1,) * (len(rows) + 1), dtype=cx.compute_dtype, device=cx.device)
    like = cx.xp.broadcast_to(empty, (*rows, classes))
    return check_values(o._replace(x=like), options, cx, classes, weight, named)


def _raise_for_first_invalid(
    o: Operands, options: Options, cx: Context, classes: int, named: ShowPosition
) -> None:
    """Raise for the first invalid label, or listed class of targets that name a few a row."""
    xp = cx.xp
    few = o.indices is not None
    labels: Any = o.indices if few else o.targets
    rows = tuple(o.x.shape[:-1]) if classes else tuple(o.x.shape)
    for block in block_slices(rows, labels.shape[-1] if few else classes, cx):
        operands = block_operands(xp, o, block, classes)
        invalid = prepare(operands, options, cx, classes).label_invalid
        if invalid is None or not bool(xp.any(invalid)):
            continue
        place = block
        if operands.indices is not None:
            slots: Any = safe_labels(operands.indices, classes, options.ignore_index, cx)[2]
            invalid = xp.reshape(slots & xp.expand_dims(invalid, axis=-1), (-1,))
            place = (*block, slice(None))
        at = _first(invalid, cx)
        part = labels[place] if place else labels
        value = _element(xp.reshape(part, (-1,)), at, cx)
        where = named(position(at, place, tuple(part.shape)))
        if classes:
            raise IndexError(
                f"targets: {'indices: ' * few}label {value} at position {where} is outside "
                f"[0, {classes}) for {classes} classes"
            )
        raise ValueError(f"targets: {value} at position {where} is neither 0 nor 1")


def _first(mask: Array, cx: Context) -> int:
    """Return the first position where a mask is true.

    By a minimum: argmax returns 64-bit integers, which some devices lack.
    """
    n = int(mask.shape[0])
    numbers = cx.arange(n)
    return int(cx.xp.min(cx.xp.where(mask, numbers, cx.xp.full_like(numbers, n))))


def _element(x: Array, at: int, cx: Context) -> int:
    """Return an integer exactly, a uint64 beyond int64 too, which some libraries cannot convert."""
    value = int(cx.cast(x[at : at + 1], cx.label_dtype)[0])
    wraps = value < 0 and dtype_name(x.dtype).startswith("uint")
    return value + 2 * (INTEGERS[dtype_name(cx.label_dtype)][1] + 1) if wraps else value


def position(at: int, block: tuple[slice, ...], shape: tuple[int, ...]) -> tuple[int, ...]:
    """Return the position in the whole array of a flat position in one block of it."""
    in_block = []
    for n in reversed(shape):
        in_block.append(at % n)
        at //= n
    starts = [s.start or 0 for s in block]
    return tuple(i + s for i, s in zip(reversed(in_block), starts, strict=True))


def _raise_for_first_negative(
    o: Operands, options: Options, cx: Context, classes: int, weight: str, named: ShowPosition
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
        negative = values < 0
        if name != weight:
            present = prepare(o, options, cx, classes).row_present
            if present is not None:
                same_rank = present.ndim == negative.ndim
                negative = negative & (present if same_rank else xp.expand_dims(present, axis=-1))
        if bool(xp.any(negative)):
            at = _first(xp.reshape(negative, (-1,)), cx)
            where = position(at, (slice(None),) * negative.ndim, tuple(negative.shape))
            shown = str(where) if name == weight else named(where)
            raise ValueError(f"{name}: negative at position {shown}")
