"""The handler that XLA's compiled programs call, compiled by Numba: no Python runs in it.

XLA hands over a call frame, whose layout is that of xla/ffi/api/c_api.h, version 0.3. The rows are
cut into pieces as for NumPy, and each piece goes to the same compiled kernel, by its address. The
calling thread and threads of XLA's own pool take the pieces in turn; whoever ends the last one
completes XLA's future. Nobody waits: a helper that comes late finds nothing and leaves.

Nothing here may raise: an exception would leave XLA without an answer. Memory comes from Python's
raw allocator, and a failure is an XLA_FFI_Error.
"""

from __future__ import annotations

import ctypes
import platform
import sys
from contextlib import suppress
from typing import Any

import llvmlite.binding
import numpy as np
from llvmlite import ir
from numba import types
from numba.extending import intrinsic

from .compiled import inline, kernel
from .host.bits import f4, f8, float8, i2, i4, i8, stored, u1, u2

# The process's own addresses, which compiled code that is kept on disk finds by the symbol's name.
SYMBOL = "xloss_xla_table"
THREADS, TASK, ALLOCATE, FREE, ADVISE, SEEN_MAJOR, SEEN_MINOR, MESSAGES, KERNELS = 0, 1, 2, 3, 4, 5, 6, 8, 16
TABLE: Any = np.zeros(64, np.int64)

# What may go wrong; the code is one of XLA_FFI_Error_Code.
OPERANDS, MEMORY, KERNEL = 0, 1, 2
CODES = (3, 8, 13)
TEXTS = (
    b"xloss: the compiled row kernels got operands other than they were lowered for",
    b"xloss: the compiled row kernels found no memory for their buffers",
    b"xloss: a compiled row kernel failed, most likely for want of memory",
)
_held = [ctypes.create_string_buffer(text) for text in TEXTS]

MAJOR, MINOR = 0, 3  # the version of the interface that the offsets below belong to
EXECUTE = 3
S32, S64, F16, F32, F64, BF16, PRED = 4, 5, 10, 11, 12, 16, 1
CODE = {"float32": F32, "float64": F64, "bfloat16": BF16, "float16": F16}

# The options, one array of int64: the floats by their bits.
(KIND, BY_ROWS, GIVEN, WANTS, INDEXED, IGNORES, IGNORED, EPS, Z_LOSS, CAP, OPTIONS) = range(11)
HAS_CLASS_WEIGHT, HAS_WHERE, HAS_SAMPLE_WEIGHT, HAS_UPS, HAS_SAVED = 1, 2, 4, 8, 16
WANTS_ROWS, WANTS_STATS, WANTS_GRAD = 1, 2, 4

# The words of a call's state, which the threads share.
(NEXT, DONE, USERS, PIECES, PER_PIECE, ROWS, CLASSES, FAILED, API, FUTURE) = range(10)
(X, T, T_KIND, W, WHERE, SCALE, UPS, MAXIMA, RESTS, LOSSES, GRAD) = range(10, 21)
OPTION = 24  # where the options are copied to
CALL = 40  # the arguments of a call of XLA's
WORDS = 48

# Sizes as in the engine for NumPy.
PIECE, PIECE_COUNT, MOST_ROWS, ALONE = 2**20, 8, 2**14, 2**16
LARGE, PAGE, HUGE_PAGES = 2**22, 2**12, 14  # from so many bytes on pages are asked to be large

_raw = ctypes.pythonapi
TABLE[ALLOCATE] = ctypes.cast(_raw.PyMem_RawMalloc, ctypes.c_void_p).value
TABLE[FREE] = ctypes.cast(_raw.PyMem_RawFree, ctypes.c_void_p).value
if sys.platform == "linux":
    with suppress(AttributeError):  # a C library without it
        TABLE[ADVISE] = ctypes.cast(ctypes.CDLL(None).madvise, ctypes.c_void_p).value
TABLE[MESSAGES : MESSAGES + len(_held)] = [ctypes.addressof(text) for text in _held]
llvmlite.binding.add_symbol(SYMBOL, TABLE.ctypes.data)

MACHINES = {"x86_64": "x86", "amd64": "x86", "arm64": "arm", "aarch64": "arm"}
MACHINE = MACHINES.get(platform.machine().lower())

_word = ir.IntType(64)


@intrinsic
def table(typingctx: Any) -> Any:
    """Return where TABLE lies in this process."""

    def code(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        found = builder.module.globals.get(SYMBOL)
        if found is None:
            found = ir.GlobalVariable(builder.module, _word, SYMBOL)
        return builder.ptrtoint(found, _word)

    return types.int64(), code


@intrinsic
def call_c(typingctx: Any, address: Any, argument: Any) -> Any:
    """Call a C function of one pointer, or one size."""

    def code(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        kind = ir.FunctionType(_word, (_word,)).as_pointer()
        return builder.call(builder.inttoptr(args[0], kind), (args[1],))

    return types.int64(types.int64, types.int64), code


@intrinsic
def call_c3(typingctx: Any, address: Any, a: Any, b: Any, c: Any) -> Any:
    """Call a C function of an address, a size and an int."""

    def code(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        number = ir.IntType(32)
        kind = ir.FunctionType(number, (_word, _word, number)).as_pointer()
        given = (args[1], args[2], builder.trunc(args[3], number))
        return builder.sext(builder.call(builder.inttoptr(args[0], kind), given), _word)

    return types.int64(types.int64, types.int64, types.int64, types.int64), code


@intrinsic
def call_kernel(typingctx: Any, address: Any, like: Any, first: Any, second: Any) -> Any:
    """Call a compiled kernel by its address; return its status, 0 for success."""

    def code(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        kinds = (signature.args[1], *signature.args[2].types, *signature.args[3].types)
        convention = context.call_conv
        kind = convention.get_function_type(types.none, kinds)
        callee = builder.inttoptr(args[0], kind.as_pointer())
        given = [args[1]]
        for pack, packed in zip(signature.args[2:], args[2:], strict=True):
            given += [builder.extract_value(packed, i) for i in range(len(pack.types))]
        status, _ = convention.call_function(builder, callee, types.none, kinds, given)
        return builder.sext(status.code, _word)

    return types.int64(types.int64, like, first, second), code


@intrinsic
def fetch_add(typingctx: Any, address: Any, number: Any) -> Any:
    """Add to a word that threads share; return what it was."""

    def code(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        at = builder.inttoptr(args[0], _word.as_pointer())
        return builder.atomic_rmw("add", at, args[1], "seq_cst")

    return types.int64(types.int64, types.int64), code


@intrinsic
def usual_floats(typingctx: Any) -> Any:
    """Let this thread's arithmetic keep subnormals, as Python's threads do; return what it did."""

    def code(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        old = _mode(builder)
        # x86: round, flush and denormals-are-zero bits; ARM: round and flush bits.
        usual = ~0xE040 if MACHINE == "x86" else ~(7 << 22)
        _set_mode(builder, builder.and_(old, ir.Constant(_word, usual)))
        return old

    return types.int64(), code


@intrinsic
def restore_floats(typingctx: Any, mode: Any) -> Any:
    """Put back what `usual_floats` found."""

    def code(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        _set_mode(builder, args[0])
        return context.get_dummy_value()

    return types.void(types.int64), code


def _mode(builder: Any) -> Any:
    if MACHINE == "arm":
        kind = ir.FunctionType(_word, ())
        return builder.call(_declared(builder, kind, "llvm.aarch64.get.fpcr"), ())
    room = builder.alloca(ir.IntType(32))
    kind = ir.FunctionType(ir.VoidType(), (ir.IntType(8).as_pointer(),))
    function = _declared(builder, kind, "llvm.x86.sse.stmxcsr")
    builder.call(function, (builder.bitcast(room, ir.IntType(8).as_pointer()),))
    return builder.zext(builder.load(room), _word)


def _set_mode(builder: Any, mode: Any) -> None:
    if MACHINE == "arm":
        kind = ir.FunctionType(ir.VoidType(), (_word,))
        builder.call(_declared(builder, kind, "llvm.aarch64.set.fpcr"), (mode,))
        return
    room = builder.alloca(ir.IntType(32))
    builder.store(builder.trunc(mode, ir.IntType(32)), room)
    kind = ir.FunctionType(ir.VoidType(), (ir.IntType(8).as_pointer(),))
    function = _declared(builder, kind, "llvm.x86.sse.ldmxcsr")
    builder.call(function, (builder.bitcast(room, ir.IntType(8).as_pointer()),))


def _declared(builder: Any, kind: Any, name: str) -> Any:
    found = builder.module.globals.get(name)
    return ir.Function(builder.module, kind, name) if found is None else found


@inline()
def word(address: int, offset: int) -> int:
    """Read a word of a structure."""
    return stored(address + offset, 1, i8(0))[0]


@inline()
def half(address: int, offset: int) -> int:
    """Read an int of a structure."""
    return stored(address + offset, 1, i8(0))[0] & 0xFFFFFFFF


@inline()
def error(api: int, what: int) -> int:
    """Make an XLA_FFI_Error."""
    known = stored(table(), 64, i8(0))
    room = call_c(known[ALLOCATE], 32)
    if room == 0:
        return 0
    made = stored(room, 4, i8(0))
    made[0], made[1], made[2] = 28, 0, known[MESSAGES + what]
    made[3] = 3 if what == OPERANDS else 8 if what == MEMORY else 13
    got = call_c(word(api, 48), room)
    call_c(known[FREE], room)
    return got
