"""The engine that runs core on any array namespace, in blocks of rows where arrays are eager."""

from __future__ import annotations

from contextlib import suppress
from functools import cache
from typing import Any

from .._arrays.context import Context
from .._arrays.inspect import Array
from ..core.family import evaluate
from ..core.options import UNIT_COTANGENT, Cotangent, Operands, Options, Outcome, Outputs
from ..core.reduce import exact_sum
from ..core.row_blocks import HOST, block_operands, block_slices

name = "generic"
save_stats_from = 1  # classes from which a gradient starts from saved statistics


def unavailable() -> str | None:
    """Say that there is no machine without it."""
    return None


def refuses(o: Operands, options: Options, cx: Context) -> str | None:
    """Take every call."""
    return None


def reduces(o: Operands, options: Options) -> bool:
    """Leave the sum and the mean to whoever asked for the rows."""
    return False


def run(
    o: Operands,
    options: Options,
    cx: Context,
    classes: int,
    outputs: Outputs,
    cotangent: Cotangent = UNIT_COTANGENT,
    saved: tuple[Array, ...] | None = None,
) -> Outcome:
    """Compute what is needed of a whole call; the class axis of every array is the last."""
    if not cx.inplace_ok:
        return evaluate(o, options, cx, classes, outputs, cotangent, saved)
    xp = cx.xp
    rows = tuple(o.x.shape[:-1]) if classes else tuple(o.x.shape)
    if len(rows) == 1 and rows[0] * max(1, classes) <= HOST:
        return evaluate(o, options, cx, classes, outputs, cotangent, saved)
    pieces = list(block_slices(rows, classes, cx))
    if len(pieces) <= 1:
        got = _block(o, options, cx, classes, outputs, cotangent, saved, (slice(None),) * len(rows))
        return got if len(rows) == 1 else _shaped(got, o, rows, xp)
    if cx.library == "numpy":
        _keep_pages()
    out = _room(o, rows, outputs, cx)
    totals, weights = [], []
    for piece in pieces:
        got = _block(o, options, cx, classes, outputs, cotangent, saved, piece)
        totals.append(got.total)
        weights.append(got.weight)
        for whole, new in zip(_arrays(out), _arrays(got), strict=True):
            if whole is not None:
                place = (*piece, ...)
                whole[place] = xp.reshape(new, whole[place].shape)
    total = exact_sum(cx, xp.stack(totals)) if outputs.total else None
    weight = exact_sum(cx, xp.stack(weights)) if outputs.weight else None
    return out._replace(total=total, weight=weight)


@cache
def _keep_pages() -> None:
    """Free one large array, once.

    Until it has seen that, glibc hands the pages of freed temporaries back to the kernel and takes
    them again for the next block: two thirds of the time at 128,256 classes. It is a hint: under a
    tight limit of memory there may be no room for it, and all for the blocks.
    """
    with suppress(MemoryError):
        bytearray(2**24)


def _block(
    o: Operands,
    options: Options,
    cx: Context,
    classes: int,
    outputs: Outputs,
    cotangent: Cotangent,
    saved: tuple[Array, ...] | None,
    piece: tuple[slice, ...],
) -> Outcome:
    known = None if saved is None else tuple(_flat(cx.xp, s[(*piece, ...)]) for s in saved)
    part = block_operands(cx.xp, o, piece, classes)
    return evaluate(part, options, cx, classes, outputs, cut_up(cx.xp, cotangent, piece), known)


def _arrays(r: Outcome) -> tuple[Any, ...]:
    return (r.rows, r.grad, r.grad_targets, r.elements, *(r.stats or ()))


def _room(o: Operands, rows: tuple[int, ...], outputs: Outputs, cx: Context) -> Outcome:
    """Make the arrays that the blocks are written into."""

    def room(wanted: bool, shape: Any, dtype: Any) -> Array | None:
        return cx.xp.empty(tuple(shape), dtype=dtype, device=cx.device) if wanted else None

    t = o.targets
    return Outcome(
        rows=room(outputs.rows, rows, cx.compute_dtype),
        grad=room(outputs.grad, o.x.shape, o.x.dtype),
        grad_targets=None if t is None else room(outputs.grad_targets, t.shape, t.dtype),
        stats=(room(True, rows, cx.compute_dtype), room(True, rows, cx.sum_dtype))
        if outputs.stats
        else None,
        elements=room(outputs.elements, o.x.shape, cx.compute_dtype),
    )


def _shaped(r: Outcome, o: Operands, rows: tuple[int, ...], xp: Any) -> Outcome:
    def shape(a: Array | None, to: Any) -> Array | None:
        return None if a is None else xp.reshape(a, tuple(to))

    return Outcome(
        shape(r.rows, rows),
        r.total,
        r.weight,
        shape(r.grad, o.x.shape),
        None if o.targets is None else shape(r.grad_targets, o.targets.shape),
        None if r.stats is None else tuple(shape(s, rows) for s in r.stats),
        shape(r.elements, o.x.shape),
    )


def _flat(xp: Any, a: Array) -> Array:
    return a if a.ndim == 1 else xp.reshape(a, (-1,))


def cut_up(xp: Any, cotangent: Cotangent, piece: tuple[slice, ...]) -> Cotangent:
    """Return the upstream of some rows."""

    def flat(v: Any) -> Any:
        if v is None or isinstance(v, float) or v.ndim == 0:
            return v
        return _flat(xp, v[(*piece, ...)])

    return Cotangent(flat(cotangent.row_loss), flat(cotangent.row_weight), cotangent.any_row_counts)
