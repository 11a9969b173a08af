"""What XLA calls: the handler of a call frame, and the task of a helping thread.

A call is cut into row blocks that threads take in turn. No Python runs here, no lock is taken, and
nothing may raise: an exception would leave XLA without an answer. Nobody waits: the thread that XLA
called takes blocks as well, a helper that comes late finds nothing and leaves, and whoever ends the
last block completes XLA's future.

All is compiled once for all dtypes: the kernels, those that NumPy's arrays go to, are called by the
addresses in the table.
"""

from __future__ import annotations

from typing import Any

from ..kernel_cache import inline, kernel
from . import xla_layout as at
from .bits import NO_BOUND, f4, f8, float8, i2, i4, i8, stored, u1, u2
from .xla_call import (
    allocate,
    ask,
    call_c,
    call_kernel,
    error,
    fetch_add,
    free,
    half,
    table,
    word,
)

# Sizes as in the engine for NumPy's arrays.
PIECE, PIECE_COUNT, MOST_ROWS, ALONE = 2**20, 8, 2**14, 2**16
ROOM = 10  # bytes a row: its label, whether it is present, whether the label is invalid
LARGE, PAGE, HUGE_PAGES = 2**22, 2**12, 14  # from so many bytes on pages are asked to be large


@inline()
def place(s: Any, field: int, first: int) -> Any:
    """Return where an array's part from row `first` on begins; 0 where it is not given."""
    address = s[at.ADDRESSES + field]
    return 0 if address == 0 else address + first * s[at.STEPS + field]


@inline()
def read_labels(s: Any, first: int, count: int, room: int) -> bool:
    """Write labels as the kernels read them to the room; return whether one is no class.

    Then whether each row is present, and whether its label is invalid, are written behind them.
    """
    classes, short = s[at.CLASSES], s[at.STEPS + at.LABELS] == 4
    ignores, ignored = s[at.OPTION + at.IGNORES] != 0, s[at.OPTION + at.IGNORED]
    given, given_present = place(s, at.LABELS, first), place(s, at.PRESENT, first)
    shorts, longs = stored(given, count, i4(0)), stored(given, count, i8(0))
    present = stored(given_present, count, u1(0))
    labels, keep = stored(room, count, i8(0)), stored(room + 8 * count, count, u1(0))
    bad, odd = stored(room + 9 * count, count, u1(0)), 0
    for i in range(count):
        y = i8(shorts[i]) if short else longs[i]
        labels[i] = y
        odd |= i8(y < 0) | i8(y >= classes) | i8(y == ignored)
    for i in range(count if odd != 0 else 0):
        y = labels[i]
        inside, counts = y >= 0 and y < classes, not (ignores and y == ignored)
        keep[i] = counts and (given_present == 0 or present[i] != 0)
        bad[i] = counts and not inside
        labels[i] = y if inside and counts else 0
    return odd != 0


@inline()
def run_piece(s: Any, first: int, count: int, room: int) -> Any:
    """Compute `count` rows, labels in the room; return the kernel's status."""
    classes, options = s[at.CLASSES], s[at.OPTION :]
    layout = NO_BOUND, 0, classes, 1
    labels, present, invalid = 0, place(s, at.PRESENT, first), 0
    if s[at.ADDRESSES + at.LABELS] != 0:
        labels = room
        if read_labels(s, first, count, room):
            present, invalid = room + 8 * count, room + 9 * count
    targets = (  # by their places in at.FIELDS
        place(s, 1, first),
        place(s, 2, first),
        labels,
        present,
        invalid,
        place(s, 6, first),
        place(s, 7, first),
    )
    saved, losses = options[at.SAVED] != 0, place(s, at.LOSSES, first)
    numbers = (
        (0, count, classes, place(s, at.LOGITS, first), *layout),
        targets,
        (place(s, at.COTANGENT, first), 1.0, False),
        (float8(options[at.EPS]), float8(options[at.Z_LOSS]), float8(options[at.CAP])),
        (saved, losses, 0, place(s, at.MAXIMA, first), place(s, at.TAIL_SUMS, first)),
        (place(s, at.GRADIENT, first), *layout),
    )
    kernel, kind = at.KERNELS + options[at.BY_ROWS], options[at.KIND]
    if kind == at.F32:
        return call_kernel(table()[kernel], f4(0), numbers)
    if kind == at.F64:
        return call_kernel(table()[kernel + 2], f8(0), numbers)
    if kind == at.BF16:
        return call_kernel(table()[kernel + 4], u2(0), numbers)
    return call_kernel(table()[kernel + 6], i2(0), numbers)


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
    failed, floats = 0, allocate(at.FLOATS_SIZE + ROOM * per)
    if floats != 0:
        call_c(table()[at.GET_FLOATS], floats)
        call_c(table()[at.SET_FLOATS], table()[at.PYTHON_FLOATS])
    while True:
        k = fetch_add(s, at.NEXT, 1)
        if k >= pieces:
            break
        room, count = floats + at.FLOATS_SIZE, min(per, rows - k * per)
        if floats == 0 or run_piece(s, k * per, count, room) != 0:
            s[at.FAILED] = failed = at.NO_MEMORY
        if fetch_add(s, at.DONE, 1) + 1 == pieces and s[at.PROMISE] != 0:
            complete(s)
    if floats != 0:
        call_c(table()[at.SET_FLOATS], floats)
        free(floats)
    return failed


@inline()
def leave(s: Any) -> None:
    """Free the state with whoever uses it last."""
    if fetch_add(s, at.USERS, -1) == 1:
        free(s.ctypes.data)


@kernel
def xla_task(address: int) -> int:
    """Work in a thread of XLA's."""
    s = stored(address, at.STATE_SIZE, i8(0))
    work(s)
    leave(s)
    return 0


@inline()
def product(b: int, first: int, stop: int) -> Any:
    """Return the product of a buffer's lengths from an axis up to another."""
    n = 1
    for j in range(first, stop):
        n *= word(word(b, at.DIMS), 8 * j)
    return n


@inline()
def read(frame: int, s: Any) -> bool:
    """Enter a call's options and arrays into its state; False where one is not as they say."""
    if word(frame, at.ATTRIBUTE_COUNT) != 1:
        return False
    given, arguments = word(word(frame, at.ATTRIBUTES), 0), word(frame, at.ARGUMENT_COUNT)
    arrays, options = arguments + word(frame, at.RESULT_COUNT), word(given, at.ARRAY_DATA)
    if half(word(frame, at.ATTRIBUTE_TYPES), 0) != at.ARRAY or half(given, 0) != at.S64:
        return False
    if word(given, at.ARRAY_SIZE) != at.OPTION_COUNT + at.FIELD_SIZE * arrays or arguments == 0:
        return False
    for j in range(at.OPTION_COUNT):
        s[at.OPTION + j] = word(options, 8 * j)
    for j in range(2 * at.FIELD_COUNT):
        s[at.ADDRESSES + j] = 0
    x = word(word(frame, at.ARGUMENTS), 0)
    rank = word(x, at.RANK)
    if rank < 1:
        return False
    rows, classes = product(x, 0, rank - 1), product(x, rank - 1, rank)
    s[at.COUNT], s[at.CLASSES] = rows, classes
    for i in range(arrays):
        if i < arguments:
            b = word(word(frame, at.ARGUMENTS), 8 * i)
        else:
            b = word(word(frame, at.RESULTS), 8 * (i - arguments))
        field = stored(options, NO_BOUND, i8(0))[at.OPTION_COUNT + at.FIELD_SIZE * i :]
        numbers = field[at.NUMBERS] * (rows if field[at.STEP] != 0 else 1)
        kind = field[at.FIELD_KIND]
        if half(b, at.DTYPE) != kind or product(b, 0, word(b, at.RANK)) != numbers:
            return False
        s[at.ADDRESSES + field[at.FIELD]] = word(b, at.DATA)
        s[at.STEPS + field[at.FIELD]] = field[at.STEP]
    return True


@inline()
def ask_large_pages(address: int, size: int) -> None:
    """Ask for large pages, as NumPy does: filling fresh memory takes twice as long without."""
    advise = table()[at.ADVISE]
    if address != 0 and size >= LARGE and advise != 0:
        start = (address + PAGE - 1) // PAGE * PAGE
        call_c(advise, start, address + size - start, i4(HUGE_PAGES))


@inline()
def plan(s: Any) -> int:
    """Cut the rows into blocks; return how many threads may help."""
    rows, classes = s[at.COUNT], s[at.CLASSES]
    numbers = rows * classes
    per = min(PIECE, max(ALONE, numbers // PIECE_COUNT)) // max(1, classes)
    per = max(1, min(per, MOST_ROWS))
    pieces = (rows + per - 1) // per
    s[at.PER_PIECE], s[at.PIECES], s[at.USERS] = per, pieces, 1
    s[at.NEXT] = s[at.DONE] = s[at.FAILED] = s[at.PROMISE] = 0
    ask_large_pages(s[at.ADDRESSES + at.GRADIENT], rows * s[at.STEPS + at.GRADIENT])
    return min(pieces, table()[at.THREADS]) - 1 if numbers >= ALONE else 0


@inline()
def call_helpers(s: Any, context: int, helpers: int) -> None:
    """Ask XLA for threads; as many as it gives."""
    task, state, request = table()[at.TASK], s.ctypes.data, s[at.REQUEST :]
    for _ in range(helpers):
        fetch_add(s, at.USERS, 1)
        if not ask(s[at.API], at.SCHEDULE, at.SCHEDULE_REQUEST, request, context, task, state):
            fetch_add(s, at.USERS, -1)
            break


@kernel
def xla_handler(frame: int) -> Any:
    """Take a call of XLA's on the rows of one device; return an error or 0."""
    extension, api = word(frame, at.EXTENSION), word(frame, at.INTERFACE)
    if extension != 0 and half(extension, at.EXTENSION_TYPE) == at.IS_METADATA:
        version = stored(word(extension, at.METADATA), at.ANSWER_MINOR // 4 + 1, i4(0))
        version[at.ANSWER_MAJOR // 4], version[at.ANSWER_MINOR // 4] = at.MAJOR, at.MINOR
        return 0
    if half(frame, at.STAGE) != at.EXECUTE:
        return 0
    address = allocate(8 * at.STATE_SIZE)
    if address == 0:
        return error(api, at.NO_MEMORY)
    s = stored(address, at.STATE_SIZE, i8(0))
    if not read(frame, s):
        free(address)
        return error(api, at.NOT_AS_LOWERED)
    s[at.API], helpers, request = api, plan(s), s[at.REQUEST :]
    # Without a future of XLA's the calling thread does all the work.
    if helpers > 0 and ask(api, at.FUTURE_CREATE, at.SHORT_REQUEST, request, 0, 0, 0):
        s[at.PROMISE] = request[2]
    if s[at.PROMISE] == 0:
        failed = work(s)
        free(address)
        return 0 if failed == 0 else error(api, failed)
    stored(frame, at.FUTURE // 8 + 1, i8(0))[at.FUTURE // 8] = s[at.PROMISE]
    call_helpers(s, word(frame, at.CONTEXT), helpers)
    work(s)
    leave(s)
    return 0
