"""Cutting a call into blocks of rows, so that temporaries stay in cache or in a budget."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import product

from .._arrays.context import Context
from .._arrays.inspect import Array, Namespace
from .options import Operands

HOST = 2**17  # elements: a few float32 temporaries stay in a 2 MiB cache
DEVICE = 2**24  # elements: enough to fill a GPU, some hundred MB of temporaries


def cuts(
    rows: tuple[int, ...], classes: int, cx: Context, budget: int = 0
) -> Iterator[tuple[slice, ...]]:
    """Yield slices of the row shape in C order, each of at most one block's elements.

    The cut depends on shape alone, and no row is ever divided. `budget`: rows instead.
    """
    budget = budget or max(1, (HOST if cx.on_host else DEVICE) // max(1, classes))
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


def cut(xp: Namespace, o: Operands, rows: tuple[slice, ...], classes: int) -> Operands:
    """Return one block of the call as (count, classes) and (count,) arrays."""

    def flat(a: Array | None, wide: bool) -> Array | None:
        if a is None:
            return None
        part = a[(*rows, ...)]
        shape = (-1, classes) if wide else (-1,)
        return part if part.ndim == len(shape) else xp.reshape(part, shape)

    has_classes = classes > 0
    soft = has_classes and o.targets is not None and o.targets.ndim == o.x.ndim
    return Operands(
        flat(o.x, has_classes),
        flat(o.targets, soft),
        o.class_weight,
        flat(o.sample_weight, False),
        flat(o.where, False),
        flat(o.pos_weight, False),
    )
