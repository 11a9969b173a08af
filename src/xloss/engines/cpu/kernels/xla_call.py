"""What compiled code needs to talk to XLA: memory, calls by address, this process's table."""

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

from ..kernel_cache import inline
from . import xla_layout as at
from .bits import i4, i8

# Compiled code that is kept on disk finds the table of each process by the symbol's name.
SYMBOL = "xloss_xla_table"
TABLE: Any = np.zeros(at.TABLE_SIZE, np.int64)

_sentences = {
    at.NOT_AS_LOWERED: b"xloss: the compiled row kernels got other arrays than the program said",
    at.NO_MEMORY: b"xloss: no memory for the buffers of the compiled row kernels",
    at.KERNEL_FAILED: b"xloss: a compiled row kernel failed for want of memory",
}
_codes = {at.NOT_AS_LOWERED: at.INVALID_ARGUMENT}
# What XLA makes each error of, ready: where there is no memory, none can be asked for.
_held = []
for _what, _sentence in _sentences.items():
    _text = ctypes.create_string_buffer(_sentence)
    _code = _codes.get(_what, at.RESOURCE_EXHAUSTED)
    _request = (ctypes.c_int64 * 4)(at.ERROR_REQUEST, 0, ctypes.addressof(_text), _code)
    _held += [_text, _request]
    TABLE[at.MESSAGES + _what] = ctypes.addressof(_request)

_raw = ctypes.pythonapi
TABLE[at.ALLOCATE] = ctypes.cast(_raw.PyMem_RawMalloc, ctypes.c_void_p).value
TABLE[at.FREE] = ctypes.cast(_raw.PyMem_RawFree, ctypes.c_void_p).value
if sys.platform == "linux":
    with suppress(AttributeError):  # a C library without it
        TABLE[at.ADVISE] = ctypes.cast(ctypes.CDLL(None).madvise, ctypes.c_void_p).value
llvmlite.binding.add_symbol(SYMBOL, TABLE.ctypes.data)

MACHINES = {"x86_64": "x86", "amd64": "x86", "arm64": "arm", "aarch64": "arm"}
MACHINE = MACHINES.get(platform.machine().lower())

_word = ir.IntType(64)


@intrinsic
def load(typingctx: Any, address: Any, like: Any) -> Any:
    """Read a number at an address."""

    def code(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        kind = context.get_value_type(signature.return_type)
        return builder.load(builder.inttoptr(args[0], kind.as_pointer()), align=1)

    return like(types.int64, like), code


@intrinsic
def store(typingctx: Any, address: Any, value: Any) -> Any:
    """Write a number at an address."""

    def code(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        pointer = builder.inttoptr(args[0], args[1].type.as_pointer())
        builder.store(args[1], pointer, align=1)
        return context.get_dummy_value()

    return types.void(types.int64, value), code


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
def call_c(typingctx: Any, address: Any, *arguments: Any) -> Any:
    """Call a C function of pointers, sizes and ints; of what it returns an int is the low half."""

    def code(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        (given,) = args[1:]
        values = [builder.extract_value(given, i) for i in range(len(arguments))]
        kind = ir.FunctionType(_word, [v.type for v in values]).as_pointer()
        return builder.call(builder.inttoptr(args[0], kind), values)

    return types.int64(types.int64, types.BaseTuple.from_types(arguments)), code


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
def word(address: int, offset: int) -> Any:
    """Read a word of a structure of XLA's."""
    return load(address + offset, i8(0))


@inline()
def half(address: int, offset: int) -> Any:
    """Read an int of one."""
    return i8(load(address + offset, i4(0)))


@inline()
def get(s: int, i: int) -> Any:
    """Read a word of a state, or of the table."""
    return load(s + 8 * i, i8(0))


@inline()
def put(s: int, i: int, value: int) -> None:
    """Write a word of a state."""
    store(s + 8 * i, i8(value))


@inline()
def allocate(size: int) -> Any:
    """Return so many bytes, or 0."""
    return call_c(get(table(), at.ALLOCATE), size)


@inline()
def free(address: int) -> None:
    """Give memory back."""
    call_c(get(table(), at.FREE), address)


@inline()
def error(api: int, what: int) -> Any:
    """Make an XLA_FFI_Error."""
    return call_c(word(api, at.ERROR_CREATE), get(table(), at.MESSAGES + what))


@inline()
def destroy(api: int, what: int, request: int) -> None:
    """Destroy an XLA_FFI_Error; `request` is room for three words."""
    put(request, 0, at.SHORT_REQUEST)
    put(request, 1, 0)
    put(request, 2, what)
    call_c(word(api, at.ERROR_DESTROY), request)
