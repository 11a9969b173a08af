"""What XLA calls: the handler of a call frame, and the task of a helping thread.

No Python runs in them, and no lock is taken. They are compiled once for all dtypes: the kernels,
those that NumPy's arrays go to, are called by the addresses in the table.
"""

from __future__ import annotations

from typing import Any

from ..kernel_cache import inline, kernel
from . import xla_layout as at
from .bits import i4
from .xla_call import (
    allocate,
    call_c,
    destroy,
    error,
    fetch_add,
    free,
    get,
    half,
    put,
    store,
    table,
    word,
)
from .xla_rows import leave, work

# Sizes as in the engine for NumPy's arrays.
PIECE, PIECE_COUNT, MOST_ROWS, ALONE = 2**20, 8, 2**14, 2**16
LARGE, PAGE, HUGE_PAGES = 2**22, 2**12, 14  # from so many bytes on pages are asked to be large


@kernel()
def xla_task(s: int) -> int:
    """Work in a thread of XLA's."""
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
def take(s: int, place: int, there: bool, arrays: int, i: int, kind: int, count: int) -> int:
    """Enter buffer i into a call's state if it is there; return the number of the next."""
    if there:
        put(s, place, buffer(arrays, i, kind, count))
    return i + 1 if there else i


@inline()
def read_options(frame: int, s: int) -> bool:
    """Copy a call's options into its state; False where they are none."""
    if word(frame, at.ATTRIBUTE_COUNT) != 1:
        return False
    options = word(word(frame, at.ATTRIBUTES), 0)
    if half(word(frame, at.ATTRIBUTE_TYPES), 0) != at.ARRAY or half(options, 0) != at.S64:
        return False
    if word(options, at.ARRAY_SIZE) != at.OPTION_COUNT:
        return False
    for j in range(at.OPTION_COUNT):
        put(s, at.OPTION + j, word(word(options, at.ARRAY_DATA), 8 * j))
    return True


@inline()
def read_arrays(frame: int, s: int) -> bool:
    """Enter the arrays into a call's state; False where one is not as the options say."""
    kind, given = get(s, at.OPTION + at.KIND), get(s, at.OPTION + at.GIVEN)
    wanted, indexed = get(s, at.OPTION + at.WANTED), get(s, at.OPTION + at.INDEXED) != 0
    acc = at.F64 if kind == at.F64 else at.F32
    for j in range(at.LOGITS, at.OPTION):
        put(s, j, 0)
    arguments, total = word(frame, at.ARGUMENTS), word(frame, at.ARGUMENT_COUNT)
    expected = 2
    for j in range(5):
        expected += given >> j & 1
    if total != expected + 2 * (given >> 5 & 1):
        return False
    x, t = word(arguments, 0), word(arguments, 8)
    rank, dims = word(x, at.RANK), word(x, at.DIMS)
    if half(x, at.DTYPE) != kind or rank < 1:
        return False
    rows, classes = 1, word(dims, 8 * (rank - 1))
    for j in range(rank - 1):
        rows *= word(dims, 8 * j)
    put(s, at.COUNT, rows)
    put(s, at.CLASSES, classes)
    put(s, at.LOGITS, word(x, at.DATA))
    found = half(t, at.DTYPE)
    if (indexed and found != at.S32 and found != at.S64) or (not indexed and found != acc):
        return False
    put(s, at.TARGETS_KIND, found)
    put(s, at.TARGETS, buffer(arguments, 1, found, rows if indexed else rows * classes))
    saved, makes_stats = given & at.SAVED != 0, wanted & at.STATS != 0
    i = take(s, at.WEIGHTS, given & at.CLASS_WEIGHT != 0, arguments, 2, acc, classes)
    i = take(s, at.WEIGHTS, given & at.LABEL_WEIGHT != 0, arguments, i, acc, rows)
    i = take(s, at.PRESENT, given & at.WHERE != 0, arguments, i, at.PRED, rows)
    i = take(s, at.SCALES, given & at.SAMPLE_WEIGHT != 0, arguments, i, acc, rows)
    i = take(s, at.UPS, given & at.COTANGENT != 0, arguments, i, acc, rows)
    i = take(s, at.MAXIMA, saved, arguments, i, acc, rows)
    take(s, at.RESTS, saved, arguments, i, at.U32, 2 * rows)
    results = word(frame, at.RESULTS)
    if word(frame, at.RESULT_COUNT) != (wanted & 1) + 2 * (wanted >> 1 & 1) + (wanted >> 2 & 1):
        return False
    i = take(s, at.LOSSES, wanted & at.ROWS != 0, results, 0, acc, rows)
    i = take(s, at.MAXIMA, makes_stats, results, i, acc, rows)
    i = take(s, at.RESTS, makes_stats, results, i, at.U32, 2 * rows)
    take(s, at.GRADIENT, wanted & at.GRAD != 0, results, i, kind, rows * classes)
    fits = True
    for j in range(at.LOGITS, at.OPTION):
        fits = fits and get(s, j) != -1
    return fits


@inline()
def ask_large_pages(address: int, size: int) -> None:
    """Ask for large pages, as NumPy does: filling fresh memory takes twice as long without."""
    advise = get(table(), at.ADVISE)
    if address != 0 and size >= LARGE and advise != 0:
        start = (address + PAGE - 1) // PAGE * PAGE
        call_c(advise, start, address + size - start, i4(HUGE_PAGES))


@inline()
def plan(s: int) -> int:
    """Cut the rows into blocks; return how many threads may help."""
    rows, classes = get(s, at.COUNT), get(s, at.CLASSES)
    numbers = rows * classes
    per = min(PIECE, max(ALONE, numbers // PIECE_COUNT)) // max(1, classes)
    per = max(1, min(per, MOST_ROWS))
    pieces = (rows + per - 1) // per
    put(s, at.PER_PIECE, per)
    put(s, at.PIECES, pieces)
    put(s, at.NEXT, 0)
    put(s, at.DONE, 0)
    put(s, at.FAILED, 0)
    put(s, at.USERS, 1)
    put(s, at.PROMISE, 0)
    kind = get(s, at.OPTION + at.KIND)
    size = 8 if kind == at.F64 else 4 if kind == at.F32 else 2
    ask_large_pages(get(s, at.GRADIENT), numbers * size)
    return min(pieces, get(table(), at.THREADS)) - 1 if numbers >= ALONE else 0


@inline()
def promise(s: int, api: int) -> None:
    """Make a future of XLA's; without one the calling thread does all the work."""
    request = s + 8 * at.REQUEST
    put(request, 0, at.SHORT_REQUEST)
    put(request, 1, 0)
    put(request, 2, 0)
    refused = call_c(word(api, at.FUTURE_CREATE), request)
    if refused != 0:
        destroy(api, refused, request)
    else:
        put(s, at.PROMISE, get(request, 2))


@inline()
def call_helpers(s: int, api: int, context: int, helpers: int) -> None:
    """Ask XLA for threads; as many as it gives."""
    request = allocate(at.SCHEDULE_REQUEST)
    for _ in range(helpers if request != 0 else 0):
        fetch_add(s + 8 * at.USERS, 1)
        put(request, 0, at.SCHEDULE_REQUEST)
        put(request, 1, 0)
        put(request, 2, context)
        put(request, 3, get(table(), at.TASK))
        put(request, 4, s)
        refused = call_c(word(api, at.SCHEDULE), request)
        if refused != 0:
            fetch_add(s + 8 * at.USERS, -1)
            destroy(api, refused, request)
            break
    if request != 0:
        free(request)


@kernel()
def xla_handler(frame: int) -> Any:
    """Take a call of XLA's on the rows of one device; return an error or 0."""
    extension, api = word(frame, at.EXTENSION), word(frame, at.INTERFACE)
    if extension != 0 and half(extension, at.EXTENSION_TYPE) == at.IS_METADATA:
        metadata = word(extension, at.METADATA)
        store(metadata + at.ANSWER_MAJOR, i4(at.MAJOR))
        store(metadata + at.ANSWER_MINOR, i4(at.MINOR))
        if api != 0:
            put(table(), at.SEEN_MAJOR, half(api, at.API_MAJOR))
            put(table(), at.SEEN_MINOR, half(api, at.API_MINOR))
        return 0
    if half(frame, at.STAGE) != at.EXECUTE:
        return 0
    s = allocate(8 * at.STATE_SIZE)
    if s == 0:
        return error(api, at.NO_MEMORY)
    if not (read_options(frame, s) and read_arrays(frame, s)):
        free(s)
        return error(api, at.NOT_AS_LOWERED)
    put(s, at.API, api)
    helpers = plan(s)
    if helpers > 0:
        promise(s, api)
    if get(s, at.PROMISE) == 0:
        failed = work(s)
        free(s)
        return 0 if failed == 0 else error(api, failed)
    put(frame + at.FUTURE, 0, get(s, at.PROMISE))
    call_helpers(s, api, word(frame, at.CONTEXT), helpers)
    work(s)
    leave(s)
    return 0
