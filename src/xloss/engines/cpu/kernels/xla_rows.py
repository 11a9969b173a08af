"""A call from XLA, cut into row blocks that threads take in turn.

Nothing here may raise: an exception would leave XLA without an answer. Nobody waits: the thread
that XLA called takes blocks as well, a helper that comes late finds nothing and leaves, and whoever
ends the last block completes XLA's future.
"""

from __future__ import annotations

from typing import Any

from ..kernel_cache import inline
from . import xla_layout as at
from .bits import NO_BOUND, f4, f8, float8, i2, i4, i8, stored, u1, u2
from .xla_call import allocate, ask, call_c, call_kernel, error, fetch_add, free, table

ROOM = 34  # bytes a row: label, sample weight, label weight, cotangent, whether there, whether bad


@inline()
def moved(address: int, size: int) -> int:
    """Return an address further on; 0 stays 0: not given."""
    return 0 if address == 0 else address + size


@inline()
def number(address: int, i: int, double: bool) -> Any:
    """Return a float32 or a float64 as the latter."""
    if double:
        return stored(address, NO_BOUND, 0.0)[i]
    return f8(stored(address, NO_BOUND, f4(0))[i])


@inline()
def copy_labels(s: Any, first: int, labels: Any) -> bool:
    """Copy labels as the kernels read them; say whether one is ignored or out of range."""
    classes, wide = s[at.CLASSES], s[at.TARGETS_KIND] == at.S64
    ignored = s[at.OPTION + at.IGNORED] if s[at.OPTION + at.IGNORES] != 0 else -1
    from_long = stored(s[at.TARGETS], NO_BOUND, i8(0))
    from_int = stored(s[at.TARGETS], NO_BOUND, i4(0))
    odd = 0
    for i in range(len(labels)):
        y = from_long[first + i] if wide else i8(from_int[first + i])
        labels[i] = y
        odd |= i8(y < 0) | i8(y >= classes) | i8(y == ignored)
    return odd != 0


@inline()
def run_piece(s: Any, first: int, count: int, room: int) -> Any:
    """Compute `count` rows, what the kernel reads of them beside `room`; return its status."""
    classes, kind, given = s[at.CLASSES], s[at.OPTION + at.KIND], s[at.OPTION + at.GIVEN]
    indexed, double = s[at.OPTION + at.INDEXED] != 0, kind == at.F64
    size = 8 if double else 4
    labels = stored(room, count, i8(0))
    scales = stored(room + 8 * count, count, 0.0)
    weights = stored(room + 16 * count, count, 0.0)
    ups = stored(room + 24 * count, count, 0.0)
    keep = stored(room + 32 * count, count, u1(0))
    bad = stored(room + 33 * count, count, u1(0))
    weight, where = s[at.WEIGHTS], s[at.PRESENT]
    present = stored(where, NO_BOUND, u1(0))
    scaled, by_row = s[at.SCALES] != 0, given & at.LABEL_WEIGHT != 0
    ignores, ignored = s[at.OPTION + at.IGNORES] != 0, s[at.OPTION + at.IGNORED]
    odd = copy_labels(s, first, labels) if indexed else False
    absent, wrong = False, False
    if odd or where != 0 or scaled:
        for i in range(count):
            there, outside = True, False
            if odd:
                y = labels[i]
                there = not (ignores and y == ignored)
                inside = y >= 0 and y < classes
                outside = there and not inside
                labels[i] = y if inside and there else 0
            if where != 0:
                there = there and present[first + i] != 0
            if scaled:
                scale = number(s[at.SCALES], first + i, double)
                there = there and scale != 0.0
                scales[i] = scale if there else 0.0
            outside = outside and there
            keep[i], bad[i] = there, outside
            absent = absent or not there
            wrong = wrong or outside
    with_weights, with_ups = indexed and weight != 0, s[at.UPS] != 0
    for i in range(count if with_ups else 0):
        ups[i] = number(s[at.UPS], first + i, double)
    for i in range(count if with_weights else 0):
        weights[i] = number(weight, first + i if by_row else labels[i], double)
    layout = NO_BOUND, 0, classes, 1
    targets = (
        0 if indexed else s[at.TARGETS] + first * classes * size,
        0 if by_row else weight,
        room if indexed else 0,
        room + 32 * count if absent else 0,
        room + 33 * count if wrong else 0,
        room + 8 * count if scaled else 0,
        room + 16 * count if with_weights else 0,
    )
    options = s[at.OPTION :]
    losses, maxima = moved(s[at.LOSSES], first * size), moved(s[at.MAXIMA], first * size)
    numbers = (
        (first, count, classes, s[at.LOGITS], *layout),
        targets,
        (room + 24 * count if with_ups else 0, 1.0, False),
        (float8(options[at.EPS]), float8(options[at.Z_LOSS]), float8(options[at.CAP])),
        (given & at.SAVED != 0, losses, 0, maxima, moved(s[at.RESTS], first * 8)),
        (s[at.GRADIENT], *layout),
    )
    place = at.KERNELS + options[at.BY_ROWS]
    if kind == at.F32:
        return call_kernel(table()[place], f4(0), numbers)
    if kind == at.F64:
        return call_kernel(table()[place + 2], f8(0), numbers)
    if kind == at.BF16:
        return call_kernel(table()[place + 4], u2(0), numbers)
    return call_kernel(table()[place + 6], i2(0), numbers)


@inline()
def complete(s: Any) -> None:
    """Tell XLA that all rows are done, or why not."""
    api, failed, request = s[at.API], s[at.FAILED], s[at.LAST_REQUEST :]
    if failed == 0:
        ask(api, at.SET_AVAILABLE, at.SHORT_REQUEST, request, s[at.PROMISE], 0, 0)
    else:
        reason = error(api, failed)
        ask(api, at.SET_ERROR, at.LONG_REQUEST, request, s[at.PROMISE], reason, 0)


@inline()
def work(s: Any) -> int:
    """Compute row blocks until none is left; return what failed in this thread, 0 for nothing."""
    rows, per, pieces = s[at.COUNT], s[at.PER_PIECE], s[at.PIECES]
    failed, room = 0, allocate(at.FLOATS_SIZE + ROOM * per)
    if room != 0:
        call_c(table()[at.GET_FLOATS], room)
        call_c(table()[at.SET_FLOATS], table()[at.PYTHON_FLOATS])
    while True:
        k = fetch_add(s, at.NEXT, 1)
        if k >= pieces:
            break
        if room == 0:
            failed = at.NO_MEMORY
        elif run_piece(s, k * per, min(per, rows - k * per), room + at.FLOATS_SIZE) != 0:
            failed = at.KERNEL_FAILED
        if failed != 0:
            s[at.FAILED] = failed
        if fetch_add(s, at.DONE, 1) + 1 == pieces and s[at.PROMISE] != 0:
            complete(s)
    if room != 0:
        call_c(table()[at.SET_FLOATS], room)
        free(room)
    return failed


@inline()
def leave(s: Any) -> None:
    """Free the state with whoever uses it last."""
    if fetch_add(s, at.USERS, -1) == 1:
        free(s.ctypes.data)
