"""What an XLA program calls for rows, compiled: reads the call frame, cuts the rows, runs kernels."""

from __future__ import annotations

from .compiled import inline, kernel
from .host.bits import EVER, f4, f8, float8, i2, i4, i8, stored, u1, u2
from .xla_call import (
    ADVISE,
    ALLOCATE,
    ALONE,
    API,
    BF16,
    BY_ROWS,
    CALL,
    CAP,
    CLASSES,
    DONE,
    EPS,
    EXECUTE,
    F16,
    F32,
    F64,
    FAILED,
    FREE,
    FUTURE,
    GIVEN,
    GRAD,
    HAS_CLASS_WEIGHT,
    HAS_SAMPLE_WEIGHT,
    HAS_SAVED,
    HAS_UPS,
    HAS_WHERE,
    HUGE_PAGES,
    IGNORED,
    IGNORES,
    INDEXED,
    KERNEL,
    KERNELS,
    KIND,
    LARGE,
    LOSSES,
    MAJOR,
    MAXIMA,
    MEMORY,
    MINOR,
    MOST_ROWS,
    NEXT,
    OPERANDS,
    OPTION,
    OPTIONS,
    PAGE,
    PER_PIECE,
    PIECE,
    PIECE_COUNT,
    PIECES,
    PRED,
    RESTS,
    ROWS,
    S32,
    S64,
    SCALE,
    SEEN_MAJOR,
    SEEN_MINOR,
    T,
    T_KIND,
    TASK,
    THREADS,
    UPS,
    USERS,
    W,
    WANTS,
    WANTS_GRAD,
    WANTS_ROWS,
    WANTS_STATS,
    WHERE,
    WORDS,
    X,
    Z_LOSS,
    call_c,
    call_c3,
    call_kernel,
    error,
    fetch_add,
    half,
    restore_floats,
    table,
    usual_floats,
    word,
)


@inline()
def moved(address: int, bytes_: int) -> int:
    """Return an address further on; 0 stays 0: not given."""
    return 0 if address == 0 else address + bytes_


@inline()
def number(address: int, i: int, double: bool) -> float:
    """Return a float32 or a float64 as the latter."""
    if double:
        return stored(address, i + 1, f8(0))[i]
    return f8(stored(address, i + 1, f4(0))[i])


@inline()
def run_piece(s: int, first: int, count: int, room: int) -> int:
    """Compute `count` rows; `room` holds four numbers of 8 bytes a row. Return a status."""
    state = stored(s, WORDS, i8(0))
    classes = state[CLASSES]
    kind, indexed = state[OPTION + KIND], state[OPTION + INDEXED] != 0
    double = kind == F64
    size = 8 if double else 4
    labels, scales = stored(room, count, i8(0)), stored(room + 8 * count, count, f8(0))
    weights_of = stored(room + 16 * count, count, f8(0))
    ups_of = stored(room + 24 * count, count, f8(0))
    keep, bad = stored(room + 32 * count, count, u1(0)), stored(room + 33 * count, count, u1(0))
    ignores, ignored = state[OPTION + IGNORES] != 0, state[OPTION + IGNORED]
    any_absent, any_bad = False, False
    for i in range(count):
        r = first + i
        kept, wrong = True, False
        if indexed:
            if state[T_KIND] == S64:
                y = stored(state[T], r + 1, i8(0))[r]
            else:
                y = i8(stored(state[T], r + 1, i4(0))[r])
            inside = 0 <= y and y < classes
            kept = not (ignores and y == ignored)
            wrong = kept and not inside
            y = y if inside and kept else 0
            labels[i] = y
            if state[W] != 0:
                weights_of[i] = number(state[W], y, double)
        if state[WHERE] != 0:
            kept = kept and stored(state[WHERE], r + 1, u1(0))[r] != 0
        if state[SCALE] != 0:
            scale = number(state[SCALE], r, double)
            kept = kept and scale != 0.0
            scales[i] = scale if kept else 0.0
        if state[UPS] != 0:
            ups_of[i] = number(state[UPS], r, double)
        wrong = wrong and kept
        keep[i], bad[i] = u1(1 if kept else 0), u1(1 if wrong else 0)
        any_absent = any_absent or not kept
        any_bad = any_bad or wrong
    option = stored(s + 8 * OPTION, OPTIONS, i8(0))
    # In two halves: of more than 30 numbers Numba makes no tuple.
    arrays = (
        first,
        count,
        classes,
        state[X],
        EVER,
        0,
        classes,
        1,
        0 if indexed else state[T] + first * classes * size,
        state[W],
        room if indexed else 0,
        room + 32 * count if any_absent else 0,
        room + 33 * count if any_bad else 0,
        room + 8 * count if state[SCALE] != 0 else 0,
        room + 16 * count if indexed and state[W] != 0 else 0,
        room + 24 * count if state[UPS] != 0 else 0,
    )
    others = (
        1.0,
        False,
        float8(option[EPS]),
        float8(option[Z_LOSS]),
        float8(option[CAP]),
        option[GIVEN] & HAS_SAVED != 0,
        moved(state[LOSSES], first * size),
        0,
        moved(state[MAXIMA], first * size),
        moved(state[RESTS], first * 8),
        state[GRAD],
        EVER,
        0,
        classes,
        1,
    )
    known = stored(table(), 64, i8(0))
    by_rows = option[BY_ROWS]
    if kind == F32:
        return call_kernel(known[KERNELS + by_rows], f4(0), arrays, others)
    if kind == F64:
        return call_kernel(known[KERNELS + 2 + by_rows], f8(0), arrays, others)
    if kind == BF16:
        return call_kernel(known[KERNELS + 4 + by_rows], u2(0), arrays, others)
    return call_kernel(known[KERNELS + 6 + by_rows], i2(0), arrays, others)


@inline()
def complete(s: int) -> None:
    """Tell XLA that all rows are done, or why not."""
    state = stored(s, WORDS, i8(0))
    api = state[API]
    at = s + 8 * CALL
    call = stored(at, 5, i8(0))
    call[1], call[2] = 0, state[FUTURE]
    failed = state[FAILED]
    if failed == 0:
        call[0] = 24
        got = call_c(word(api, 160), at)
    else:
        call[0], call[3] = 32, error(api, failed)
        got = call_c(word(api, 168), at)
    if got != 0:
        destroy(api, got, at)


@inline()
def destroy(api: int, what: int, at: int) -> None:
    """Destroy an XLA_FFI_Error; `at` is room for a call."""
    call = stored(at, 3, i8(0))
    call[0], call[1], call[2] = 24, 0, what
    call_c(word(api, 64), at)


@inline()
def work(s: int) -> int:
    """Take pieces until none is left; return what failed in this thread, 0 for nothing."""
    state = stored(s, WORDS, i8(0))
    known = stored(table(), 64, i8(0))
    failed, rows, per = 0, state[ROWS], state[PER_PIECE]
    room = 0
    mode = usual_floats()
    while True:
        k = fetch_add(s + 8 * NEXT, 1)
        if k >= state[PIECES]:
            break
        if room == 0:
            room = call_c(known[ALLOCATE], 34 * per + 64)
        if room == 0:
            failed = MEMORY
        elif run_piece(s, k * per, min(per, rows - k * per), room) != 0:
            failed = KERNEL
        if failed != 0:
            state[FAILED] = failed
        if fetch_add(s + 8 * DONE, 1) + 1 == state[PIECES] and state[FUTURE] != 0:
            complete(s)
    restore_floats(mode)
    if room != 0:
        call_c(known[FREE], room)
    return failed


@inline()
def leave(s: int) -> None:
    """Free the state with whoever uses it last."""
    if fetch_add(s + 8 * USERS, -1) == 1:
        call_c(stored(table(), 64, i8(0))[FREE], s)


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
    rank, dims = word(b, 32), word(b, 40)
    n = 1
    for j in range(rank):
        n *= word(dims, 8 * j)
    return word(b, 24) if half(b, 16) == kind and n == count else -1


@inline()
def read_frame(frame: int, s: int) -> bool:
    """Fill the state from a call frame; False where something is not as it was lowered."""
    state = stored(s, WORDS, i8(0))
    args, rets, given = word(frame, 72), word(frame, 112), word(frame, 136)
    if given != 1 or half(word(frame, 144), 0) != 1:
        return False
    options = word(word(frame, 160), 0)
    if half(options, 0) != S64 or word(options, 8) != OPTIONS:
        return False
    option = stored(word(options, 16), OPTIONS, i8(0))
    for j in range(OPTIONS):
        state[OPTION + j] = option[j]
    kind, mask, wants = option[KIND], option[GIVEN], option[WANTS]
    acc = F64 if kind == F64 else F32
    if kind != F32 and kind != F64 and kind != BF16 and kind != F16:
        return False
    n_args = word(frame, 56)
    if n_args < 2:
        return False
    x = word(args, 0)
    rank, dims = word(x, 32), word(x, 40)
    if half(x, 16) != kind or rank < 1:
        return False
    rows = 1
    for j in range(rank - 1):
        rows *= word(dims, 8 * j)
    classes = word(dims, 8 * (rank - 1))
    state[ROWS], state[CLASSES], state[X] = rows, classes, word(x, 24)
    t = word(args, 8)
    t_kind = half(t, 16)
    state[T_KIND] = t_kind
    indexed = option[INDEXED] != 0
    if indexed and t_kind != S32 and t_kind != S64:
        return False
    state[T] = buffer(args, 1, t_kind if indexed else acc, rows if indexed else rows * classes)
    fits = state[T] != -1
    at = 2
    for j in range(W, GRAD + 1):
        state[j] = 0
    if mask & HAS_CLASS_WEIGHT != 0 and at < n_args:
        state[W] = buffer(args, at, acc, classes)
        fits, at = fits and state[W] != -1, at + 1
    if mask & HAS_WHERE != 0 and at < n_args:
        state[WHERE] = buffer(args, at, PRED, rows)
        fits, at = fits and state[WHERE] != -1, at + 1
    if mask & HAS_SAMPLE_WEIGHT != 0 and at < n_args:
        state[SCALE] = buffer(args, at, acc, rows)
        fits, at = fits and state[SCALE] != -1, at + 1
    if mask & HAS_UPS != 0 and at < n_args:
        state[UPS] = buffer(args, at, acc, rows)
        fits, at = fits and state[UPS] != -1, at + 1
    if mask & HAS_SAVED != 0 and at + 1 < n_args:
        state[MAXIMA] = buffer(args, at, acc, rows)
        state[RESTS] = buffer(args, at + 1, 8, 2 * rows)
        fits, at = fits and state[MAXIMA] != -1 and state[RESTS] != -1, at + 2
    if at != n_args:
        return False
    n_rets, at = word(frame, 96), 0
    if wants & WANTS_ROWS != 0 and at < n_rets:
        state[LOSSES] = buffer(rets, at, acc, rows)
        fits, at = fits and state[LOSSES] != -1, at + 1
    if wants & WANTS_STATS != 0 and at + 1 < n_rets:
        state[MAXIMA] = buffer(rets, at, acc, rows)
        state[RESTS] = buffer(rets, at + 1, 8, 2 * rows)
        fits, at = fits and state[MAXIMA] != -1 and state[RESTS] != -1, at + 2
    if wants & WANTS_GRAD != 0 and at < n_rets:
        state[GRAD] = buffer(rets, at, kind, rows * classes)
        fits, at = fits and state[GRAD] != -1, at + 1
    return fits and at == n_rets


@inline()
def item(kind: int) -> int:
    """Return the bytes of a number."""
    return 8 if kind == F64 else 4 if kind == F32 else 2


@inline()
def ask_large_pages(address: int, size: int) -> None:
    """Ask for large pages, as NumPy does: filling fresh memory takes twice as long without."""
    advise = stored(table(), 64, i8(0))[ADVISE]
    if address != 0 and size >= LARGE and advise != 0:
        start = (address + PAGE - 1) // PAGE * PAGE
        call_c3(advise, start, address + size - start, HUGE_PAGES)


@kernel()
def xla_rows(frame: int) -> int:
    """Take a call of XLA's: the rows of one device's part of an array; return an error or 0."""
    known = stored(table(), 64, i8(0))
    extension, api = word(frame, 8), word(frame, 16)
    if extension != 0 and half(extension, 8) == 1:  # a question about this handler
        metadata = word(extension, 24)
        version = stored(metadata + 24, 2, i4(0))
        version[0], version[1] = i4(MAJOR), i4(MINOR)
        if api != 0:
            known[SEEN_MAJOR], known[SEEN_MINOR] = half(api, 32), half(api, 36)
        return 0
    if half(frame, 32) != EXECUTE:  # only to be executed
        return 0
    s = call_c(known[ALLOCATE], 8 * WORDS)
    if s == 0:
        return error(api, MEMORY)
    if not read_frame(frame, s):
        call_c(known[FREE], s)
        return error(api, OPERANDS)
    state = stored(s, WORDS, i8(0))
    rows, classes = state[ROWS], state[CLASSES]
    per = max(ALONE, rows * classes // PIECE_COUNT)
    per = max(1, min(min(PIECE, per) // max(1, classes), MOST_ROWS))
    state[PER_PIECE], state[PIECES] = per, (rows + per - 1) // per
    state[NEXT], state[DONE], state[FAILED], state[USERS] = 0, 0, 0, 1
    state[API], state[FUTURE] = api, 0
    ask_large_pages(state[GRAD], rows * classes * item(state[OPTION + KIND]))
    helpers = min(state[PIECES], known[THREADS]) - 1
    at = s + 8 * CALL
    call = stored(at, 5, i8(0))
    if helpers > 0 and rows * classes >= ALONE:
        call[0], call[1], call[2] = 24, 0, 0
        got = call_c(word(api, 152), at)
        if got != 0:
            destroy(api, got, at)
        else:
            state[FUTURE] = call[2]
    if state[FUTURE] == 0:
        failed = work(s)
        call_c(known[FREE], s)
        return 0 if failed == 0 else error(api, failed)
    stored(frame + 168, 1, i8(0))[0] = state[FUTURE]
    context, room = word(frame, 24), call_c(known[ALLOCATE], 64)
    schedule = stored(room, 5, i8(0))
    for _ in range(helpers if room != 0 else 0):
        fetch_add(s + 8 * USERS, 1)
        schedule[0], schedule[1], schedule[2] = 40, 0, context
        schedule[3], schedule[4] = known[TASK], s
        got = call_c(word(api, 136), room)
        if got != 0:
            fetch_add(s + 8 * USERS, -1)
            destroy(api, got, room)
            break
    if room != 0:
        call_c(known[FREE], room)
    work(s)
    leave(s)
    return 0
