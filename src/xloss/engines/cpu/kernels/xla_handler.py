"""What XLA calls: the handler of a call frame, and the task of a helping thread.

No Python runs in them, and no lock is taken. They are compiled once for all dtypes: the kernels,
those that NumPy's arrays go to, are called by the addresses in the table.
"""

from __future__ import annotations

from typing import Any

from ..kernel_cache import inline, kernel
from . import xla_layout as at
from .bits import i4, i8, stored
from .xla_call import allocate, ask, call_c, error, fetch_add, free, half, table, word
from .xla_rows import leave, work

# Sizes as in the engine for NumPy's arrays.
PIECE, PIECE_COUNT, MOST_ROWS, ALONE = 2**20, 8, 2**14, 2**16
LARGE, PAGE, HUGE_PAGES = 2**22, 2**12, 14  # from so many bytes on pages are asked to be large


@kernel
def xla_task(address: int) -> int:
    """Work in a thread of XLA's."""
    s = stored(address, at.STATE_SIZE, i8(0))
    work(s)
    leave(s)
    return 0


@inline()
def buffer(arrays: int, i: int, kind: int, count: int) -> int:
    """Return where a buffer's data lies, -1 where it is none of this dtype and size."""
    b = word(arrays, 8 * i)
    dims, n = word(b, at.DIMS), 1
    for j in range(word(b, at.RANK)):
        n *= word(dims, 8 * j)
    return word(b, at.DATA) if half(b, at.DTYPE) == kind and n == count else -1


@inline()
def take(s: Any, place: int, there: bool, arrays: int, i: int, kind: int, count: int) -> int:
    """Enter buffer i into a call's state if it is there; return the number of the next."""
    if there:
        s[place] = buffer(arrays, i, kind, count)
    return i + 1 if there else i


@inline()
def read_options(frame: int, s: Any) -> bool:
    """Copy a call's options into its state; False where they are none."""
    if word(frame, at.ATTRIBUTE_COUNT) != 1:
        return False
    options = word(word(frame, at.ATTRIBUTES), 0)
    if half(word(frame, at.ATTRIBUTE_TYPES), 0) != at.ARRAY or half(options, 0) != at.S64:
        return False
    if word(options, at.ARRAY_SIZE) != at.OPTION_COUNT:
        return False
    for j in range(at.OPTION_COUNT):
        s[at.OPTION + j] = word(word(options, at.ARRAY_DATA), 8 * j)
    return True


@inline()
def read_arrays(frame: int, s: Any) -> bool:
    """Enter the arrays into a call's state; False where one is not as the options say."""
    kind, given = s[at.OPTION + at.KIND], s[at.OPTION + at.GIVEN]
    wanted, indexed = s[at.OPTION + at.WANTED], s[at.OPTION + at.INDEXED] != 0
    acc = at.F64 if kind == at.F64 else at.F32
    for j in range(at.LOGITS, at.OPTION):
        s[j] = 0
    arguments, results, expected = word(frame, at.ARGUMENTS), word(frame, at.RESULTS), 2
    for j in range(5):
        expected += given >> j & 1
    if word(frame, at.ARGUMENT_COUNT) != expected + 2 * (given >> 5 & 1):
        return False
    if word(frame, at.RESULT_COUNT) != (wanted & 1) + 2 * (wanted >> 1 & 1) + (wanted >> 2 & 1):
        return False
    x, t = word(arguments, 0), word(arguments, 8)
    rank, dims = word(x, at.RANK), word(x, at.DIMS)
    if half(x, at.DTYPE) != kind or rank < 1:
        return False
    rows, classes = 1, word(dims, 8 * (rank - 1))
    for j in range(rank - 1):
        rows *= word(dims, 8 * j)
    found = half(t, at.DTYPE)
    if (indexed and found != at.S32 and found != at.S64) or (not indexed and found != acc):
        return False
    s[at.COUNT], s[at.CLASSES], s[at.TARGETS_KIND] = rows, classes, found
    s[at.LOGITS] = word(x, at.DATA)
    s[at.TARGETS] = buffer(arguments, 1, found, rows if indexed else rows * classes)
    saved, makes_stats = given & at.SAVED != 0, wanted & at.STATS != 0
    i = take(s, at.WEIGHTS, given & at.CLASS_WEIGHT != 0, arguments, 2, acc, classes)
    i = take(s, at.WEIGHTS, given & at.LABEL_WEIGHT != 0, arguments, i, acc, rows)
    i = take(s, at.PRESENT, given & at.WHERE != 0, arguments, i, at.PRED, rows)
    i = take(s, at.SCALES, given & at.SAMPLE_WEIGHT != 0, arguments, i, acc, rows)
    i = take(s, at.UPS, given & at.COTANGENT != 0, arguments, i, acc, rows)
    i = take(s, at.MAXIMA, saved, arguments, i, acc, rows)
    take(s, at.RESTS, saved, arguments, i, at.U32, 2 * rows)
    i = take(s, at.LOSSES, wanted & at.ROWS != 0, results, 0, acc, rows)
    i = take(s, at.MAXIMA, makes_stats, results, i, acc, rows)
    i = take(s, at.RESTS, makes_stats, results, i, at.U32, 2 * rows)
    take(s, at.GRADIENT, wanted & at.GRAD != 0, results, i, kind, rows * classes)
    fits = True
    for j in range(at.LOGITS, at.OPTION):
        fits = fits and s[j] != -1
    return fits


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
    kind = s[at.OPTION + at.KIND]
    size = 8 if kind == at.F64 else 4 if kind == at.F32 else 2
    ask_large_pages(s[at.GRADIENT], numbers * size)
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
        if api != 0:
            table()[at.SEEN_MAJOR] = half(api, at.API_MAJOR)
            table()[at.SEEN_MINOR] = half(api, at.API_MINOR)
        return 0
    if half(frame, at.STAGE) != at.EXECUTE:
        return 0
    address = allocate(8 * at.STATE_SIZE)
    if address == 0:
        return error(api, at.NO_MEMORY)
    s = stored(address, at.STATE_SIZE, i8(0))
    if not (read_options(frame, s) and read_arrays(frame, s)):
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
