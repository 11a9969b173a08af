"""Cutting a call into blocks of rows, so that temporaries stay in cache or under a budget."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import product

from .._arrays.context import Context
from .._arrays.inspect import Array, Namespace
from .options import Operands

HOST = 2**17  # elements a block: a few float32 temporaries of it stay in a 2 MiB cache
DEVICE = 2**24  # elements a block: enough to fill a GPU, at some hundred MB of temporaries


def block_slices(
    rows: tuple[int, ...], classes: int, cx: Context, budget: int = 0
) -> Iterator[tuple[slice, ...]]:
    """Yield slices of the row shape in C order, each of at most one block's elements.

    They depend on the shape alone, and no row is ever divided. `budget` is a number of rows that
    replaces the block's number of elements.
    """
    budget = budget or max(1, (HOST if cx.on_host else DEVICE) // max(1, classes))
    # Axes from `axis` on are whole in every block; the one before is cut, the others are fixed.
    inner = 1
    axis = len(rows)
    while axis and inner * rows[axis - 1] <= budget:
        axis -= 1
        inner *= rows[axis]
    if axis == 0:
        yield (slice(None),) * len(rows)
        return
    step = max(1, budget // inner)
    outer = [range(n) for n in rows[: axis - 1]]
    whole = (slice(None),) * (len(rows) - axis)
    for head in product(*outer):
        fixed = tuple(slice(i, i + 1) for i in head)
        for start in range(0, rows[axis - 1], step):
            yield (*fixed, slice(start, min(start + step, rows[axis - 1])), *whole)


def block_operands(xp: Namespace, o: Operands, rows: tuple[slice, ...], classes: int) -> Operands:
    """Return one block of the operands as (count, classes) and (count,) arrays."""

    def block(a: Array | None, has_class_axis: bool) -> Array | None:
        if a is None:
            return None
        part = a[(*rows, ...)]
        shape = (-1, a.shape[-1]) if has_class_axis else (-1,)
        return part if part.ndim == len(shape) else xp.reshape(part, shape)

    has_classes = classes > 0
    soft = has_classes and o.targets is not None and o.targets.ndim == o.x.ndim
    return Operands(
        block(o.x, has_classes),
        block(o.targets, soft),
        o.class_weight,
        block(o.sample_weight, False),
        block(o.where, False),
        block(o.pos_weight, False),
        block(o.indices, True),
    )
