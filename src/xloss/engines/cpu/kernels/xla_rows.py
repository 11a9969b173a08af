"""A call from XLA, cut into row blocks that threads take in turn.

Nothing here may raise: an exception would leave XLA without an answer. Nobody waits: the thread
that XLA called takes blocks as well, a helper that comes late finds nothing and leaves, and whoever
ends the last block completes XLA's future.
"""

from __future__ import annotations

from typing import Any

from ..kernel_cache import inline
from . import xla_layout as at
from .bits import NO_BOUND, f4, f8, float8, i2, i4, i8, u1, u2
from .xla_call import (
    allocate,
    call_c,
    call_kernel,
    destroy,
    error,
    fetch_add,
    free,
    get,
    load,
    put,
    restore_floats,
    store,
    table,
    usual_floats,
    word,
)

ROOM = 34  # bytes a row: label, sample weight, label weight, cotangent, whether there, whether bad


@inline()
def moved(address: int, size: int) -> int:
    """Return an address further on; 0 stays 0: not given."""
    return 0 if address == 0 else address + size


@inline()
def number(address: int, i: int, double: bool) -> Any:
    """Return a float32 or a float64 as the latter."""
    return load(address + 8 * i, f8(0)) if double else f8(load(address + 4 * i, f4(0)))


@inline()
def copy_labels(s: int, first: int, count: int, labels: int) -> bool:
    """Copy labels as the kernels read them; say whether one is ignored or out of range."""
    targets, classes = get(s, at.TARGETS), get(s, at.CLASSES)
    ignored = get(s, at.OPTION + at.IGNORED) if get(s, at.OPTION + at.IGNORES) != 0 else -1
    odd, wide = 0, get(s, at.TARGETS_KIND) == at.S64
    for i in range(count):
        at_row = first + i
        y = load(targets + 8 * at_row, i8(0)) if wide else i8(load(targets + 4 * at_row, i4(0)))
        store(labels + 8 * i, y)
        odd |= i8(y < 0) | i8(y >= classes) | i8(y == ignored)
    return odd != 0


@inline()
def widen(source: int, first: int, count: int, double: bool, out: int) -> None:
    """Copy one number a row, as float64."""
    for i in range(count):
        store(out + 8 * i, number(source, first + i, double))


@inline()
def run_piece(s: int, first: int, count: int, room: int) -> Any:
    """Compute `count` rows, what the kernel reads of them beside `room`; return its status."""
    classes, kind = get(s, at.CLASSES), get(s, at.OPTION + at.KIND)
    indexed, given = get(s, at.OPTION + at.INDEXED) != 0, get(s, at.OPTION + at.GIVEN)
    double = kind == at.F64
    size = 8 if double else 4
    labels, scales, weights = room, room + 8 * count, room + 16 * count
    ups, keep, bad = room + 24 * count, room + 32 * count, room + 33 * count
    targets, weight, where = get(s, at.TARGETS), get(s, at.WEIGHTS), get(s, at.PRESENT)
    scale_of, up_of = get(s, at.SCALES), get(s, at.UPS)
    by_row = given & at.LABEL_WEIGHT != 0
    ignores, ignored = get(s, at.OPTION + at.IGNORES) != 0, get(s, at.OPTION + at.IGNORED)
    odd = copy_labels(s, first, count, labels) if indexed else False
    absent, wrong = False, False
    if odd or where != 0 or scale_of != 0:
        for i in range(count):
            there, outside = True, False
            if odd:
                y = load(labels + 8 * i, i8(0))
                there = not (ignores and y == ignored)
                inside = y >= 0 and y < classes
                outside = there and not inside
                store(labels + 8 * i, y if inside and there else i8(0))
            if where != 0:
                there = there and load(where + first + i, u1(0)) != 0
            if scale_of != 0:
                scale = number(scale_of, first + i, double)
                there = there and scale != 0.0
                store(scales + 8 * i, scale if there else 0.0)
            outside = outside and there
            store(keep + i, u1(1 if there else 0))
            store(bad + i, u1(1 if outside else 0))
            absent = absent or not there
            wrong = wrong or outside
    if up_of != 0:
        widen(up_of, first, count, double, ups)
    if by_row:
        widen(weight, first, count, double, weights)
    elif indexed and weight != 0:
        for i in range(count):
            y = load(labels + 8 * i, i8(0))
            store(weights + 8 * i, number(weight, y, double))
    # In two halves: of more than 30 numbers Numba makes no tuple.
    arrays = (
        first,
        count,
        classes,
        get(s, at.LOGITS),
        NO_BOUND,
        0,
        classes,
        1,
        0 if indexed else targets + first * classes * size,
        0 if by_row else weight,
        labels if indexed else 0,
        keep if absent else 0,
        bad if wrong else 0,
        scales if scale_of != 0 else 0,
        weights if indexed and weight != 0 else 0,
        ups if up_of != 0 else 0,
    )
    others = (
        1.0,
        False,
        float8(get(s, at.OPTION + at.EPS)),
        float8(get(s, at.OPTION + at.Z_LOSS)),
        float8(get(s, at.OPTION + at.CAP)),
        given & at.SAVED != 0,
        moved(get(s, at.LOSSES), first * size),
        0,
        moved(get(s, at.MAXIMA), first * size),
        moved(get(s, at.RESTS), first * 8),
        get(s, at.GRADIENT),
        NO_BOUND,
        0,
        classes,
        1,
    )
    kernel = table() + 8 * (at.KERNELS + get(s, at.OPTION + at.BY_ROWS))
    if kind == at.F32:
        return call_kernel(word(kernel, 0), f4(0), arrays, others)
    if kind == at.F64:
        return call_kernel(word(kernel, 16), f8(0), arrays, others)
    if kind == at.BF16:
        return call_kernel(word(kernel, 32), u2(0), arrays, others)
    return call_kernel(word(kernel, 48), i2(0), arrays, others)


@inline()
def complete(s: int) -> None:
    """Tell XLA that all rows are done, or why not."""
    api, request, failed = get(s, at.API), s + 8 * at.REQUEST, get(s, at.FAILED)
    put(request, 1, 0)
    put(request, 2, get(s, at.PROMISE))
    if failed == 0:
        put(request, 0, at.SHORT_REQUEST)
        refused = call_c(word(api, at.SET_AVAILABLE), request)
    else:
        put(request, 0, at.LONG_REQUEST)
        put(request, 3, error(api, failed))
        refused = call_c(word(api, at.SET_ERROR), request)
    if refused != 0:
        destroy(api, refused, request)


@inline()
def work(s: int) -> int:
    """Compute row blocks until none is left; return what failed in this thread, 0 for nothing."""
    rows, per, pieces = get(s, at.COUNT), get(s, at.PER_PIECE), get(s, at.PIECES)
    failed = room = 0
    mode = usual_floats()
    while True:
        k = fetch_add(s + 8 * at.NEXT, 1)
        if k >= pieces:
            break
        if room == 0:
            room = allocate(ROOM * per)
        if room == 0:
            failed = at.NO_MEMORY
        elif run_piece(s, k * per, min(per, rows - k * per), room) != 0:
            failed = at.KERNEL_FAILED
        if failed != 0:
            put(s, at.FAILED, failed)
        if fetch_add(s + 8 * at.DONE, 1) + 1 == pieces and get(s, at.PROMISE) != 0:
            complete(s)
    restore_floats(mode)
    if room != 0:
        free(room)
    return failed


@inline()
def leave(s: int) -> None:
    """Free the state with whoever uses it last."""
    if fetch_add(s + 8 * at.USERS, -1) == 1:
        free(s)
