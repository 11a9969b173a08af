"""The engine that runs core on any array namespace, in blocks of rows where arrays are eager."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from functools import cache
from typing import Any

from ..core.call import LossCall
from ..core.family import evaluate
from ..core.options import UNIT_COTANGENT, Cotangent, Outcome, Outputs, Saved
from ..core.reduce import exact_sum
from ..core.row_blocks import HOST, block_operands, block_slices

name = "generic"
compiled = False
save_stats_from = 1


def unavailable() -> str | None:
    """Return None: it is available on every machine."""
    return None


def refuses(call: LossCall) -> str | None:
    """Return None: it takes every call."""
    return None


def run(
    call: LossCall,
    outputs: Outputs,
    cotangent: Cotangent = UNIT_COTANGENT,
    saved: Saved = None,
    by: Callable[..., Outcome] = evaluate,
    budget: int = 0,
) -> Outcome:
    """Compute the outputs of a whole call; the class axis of every array is the last.

    `by` computes a block of at most `budget` rows, 0 for what core's temporaries allow.
    """
    o, cx, classes = call.operands, call.cx, call.classes
    rows = tuple(o.x.shape[:-1]) if classes else tuple(o.x.shape)
    if not cx.inplace_ok or (len(rows) == 1 and rows[0] * max(1, classes) <= HOST):
        return by(o, call.options, cx, classes, outputs, cotangent, saved)
    xp = cx.xp

    def computed(block: tuple[slice, ...]) -> Outcome:
        """Compute a row block, whose rows are one axis of its results."""
        known = None if saved is None else tuple(_cut(xp, s, block, 0) for s in saved)
        part = block_operands(xp, o, block, classes)
        up = Cotangent(*(_cut(xp, v, block) for v in cotangent))
        return by(part, call.options, cx, classes, outputs, up, known)

    blocks = list(block_slices(rows, classes, cx, budget))
    if len(blocks) <= 1:
        outcome = computed((slice(None),) * len(rows))
        of_rows = outcome._replace(total=None, weight=None)
        shaped = of_rows.map(lambda a: xp.reshape(a, (*rows, *a.shape[1:])))
        return shaped._replace(total=outcome.total, weight=outcome.weight)
    if cx.library == "numpy":
        _keep_freed_pages()
    out: Outcome | None = None
    totals, weights = [], []
    for block in blocks:
        outcome = computed(block)
        totals.append(outcome.total)
        weights.append(outcome.weight)
        if out is None:
            of_rows = outcome._replace(total=None, weight=None)
            out = of_rows.map(
                lambda a: xp.empty((*rows, *a.shape[1:]), dtype=a.dtype, device=cx.device)
            )
        for whole, part in zip(_arrays(out), _arrays(outcome), strict=True):
            if whole is not None:
                at = (*block, ...)
                whole[at] = xp.reshape(part, whole[at].shape)
    assert out is not None
    total = exact_sum(cx, xp.stack(totals)) if outputs.total else None
    weight = exact_sum(cx, xp.stack(weights)) if outputs.weight else None
    return out._replace(total=total, weight=weight)


@cache
def _keep_freed_pages() -> None:
    """Free one large array, once in a process, so that glibc keeps the pages of freed arrays.

    Until it has seen that, it hands the pages of freed temporaries back to the kernel and takes
    them again for the next block: two thirds of the time at 128,256 classes. Under a tight memory
    limit there may be no room for the array, but enough for the blocks.
    """
    with suppress(MemoryError):
        bytearray(2**24)


def _arrays(r: Outcome) -> tuple[Any, ...]:
    """Return the outputs that have rows, None for what was not asked for."""
    return (r.rows, r.grad, r.grad_targets, r.elements, *(r.stats or ()), *(r.tokens or ()))


def _cut(xp: Any, a: Any, block: tuple[slice, ...], least: int = 1) -> Any:
    """Return a block of an array of rows, its rows as one axis; what has fewer axes as it is."""
    if a is None or isinstance(a, float) or a.ndim < least:
        return a
    part = a[(*block, ...)]
    return part if len(block) == 1 else xp.reshape(part, (-1, *a.shape[len(block) :]))
