"""What compiled code needs to talk to XLA: memory, calls by address, this process's table."""

from __future__ import annotations

import ctypes
import sys
from typing import Any

import llvmlite.binding
import numpy as np
from llvmlite import ir
from numba import types
from numba.extending import intrinsic

from ..kernel_cache import inline
from . import xla_layout as at
from .bits import i4, i8, stored
from .memory import element_pointer

# Compiled code that is kept on disk finds the table of each process by the symbol's name.
SYMBOL = "xloss_xla_table"
TABLE: Any = np.zeros(at.TABLE_SIZE, np.int64)

_errors = {
    at.NOT_AS_LOWERED: (
        at.INVALID_ARGUMENT,
        b"xloss: the compiled row kernels got other arrays than the program said",
    ),
    at.NO_MEMORY: (
        at.RESOURCE_EXHAUSTED,
        b"xloss: no memory for the buffers of the compiled row kernels",
    ),
}
# What XLA makes each error of, ready: where there is no memory, none can be asked for.
_held: list[Any] = []
for _what, (_code, _sentence) in _errors.items():
    _text = ctypes.create_string_buffer(_sentence)
    _request = (ctypes.c_int64 * 4)(at.ERROR_REQUEST, 0, ctypes.addressof(_text), _code)
    _held += [_text, _request]
    TABLE[at.MESSAGES + _what] = ctypes.addressof(_request)

_library = ctypes.CDLL("ucrtbase" if sys.platform == "win32" else None)
# How a thread of Python's rounds, and that it keeps subnormals, which XLA's threads may not.
_floats = ctypes.create_string_buffer(at.FLOATS_SIZE)
_library.fegetenv(_floats)
TABLE[at.PYTHON_FLOATS] = ctypes.addressof(_floats)
_functions = {
    at.ALLOCATE: ctypes.pythonapi.PyMem_RawMalloc,
    at.FREE: ctypes.pythonapi.PyMem_RawFree,
    at.GET_FLOATS: _library.fegetenv,
    at.SET_FLOATS: _library.fesetenv,
}
if sys.platform == "linux" and hasattr(_library, "madvise"):
    _functions[at.ADVISE] = _library.madvise
for _place, _function in _functions.items():
    TABLE[_place] = ctypes.cast(_function, ctypes.c_void_p).value
llvmlite.binding.add_symbol(SYMBOL, TABLE.ctypes.data)

_word = ir.IntType(64)


@intrinsic
def _table_address(typingctx: Any) -> Any:
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
def call_kernel(typingctx: Any, address: Any, like: Any, records: Any) -> Any:
    """Call a compiled kernel by its address; return its status, 0 for success."""

    def code(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        kinds, given = [signature.args[1]], [args[1]]
        for i, record in enumerate(signature.args[2].types):
            kinds += record.types
            given += [builder.extract_value(args[2], (i, j)) for j in range(len(record.types))]
        convention = context.call_conv
        kind = convention.get_function_type(types.none, kinds).as_pointer()
        callee = builder.inttoptr(args[0], kind)
        status, _ = convention.call_function(builder, callee, types.none, kinds, given)
        return builder.sext(status.code, _word)

    return types.int64(types.int64, like, records), code


@intrinsic
def fetch_add(typingctx: Any, words: Any, place: Any, number: Any) -> Any:
    """Add to a word that threads share; return what it was."""

    def code(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        words, place, number = args
        pointer = element_pointer(context, builder, signature.args[0], words, place, _word)
        return builder.atomic_rmw("add", pointer, number, "seq_cst")

    return types.int64(words, types.int64, types.int64), code


@inline()
def table() -> Any:
    """Return TABLE as compiled code reads and writes it."""
    return stored(_table_address(), at.TABLE_SIZE, i8(0))


@inline()
def word(address: int, offset: int) -> Any:
    """Read a word of a structure of XLA's."""
    return stored(address + offset, 1, i8(0))[0]


@inline()
def half(address: int, offset: int) -> Any:
    """Read an int of one."""
    return i8(stored(address + offset, 1, i4(0))[0])


@inline()
def allocate(size: int) -> Any:
    """Return the address of so many bytes, or 0."""
    return call_c(table()[at.ALLOCATE], size)


@inline()
def free(address: int) -> None:
    """Give memory back."""
    call_c(table()[at.FREE], address)


@inline()
def error(api: int, what: int) -> Any:
    """Make an XLA_FFI_Error."""
    return call_c(word(api, at.ERROR_CREATE), table()[at.MESSAGES + what])


@inline()
def ask(api: int, function: int, size: int, request: Any, a: int, b: int, c: int) -> Any:
    """Call a function of XLA's; return False where it refuses.

    request: room for its arguments, of which it takes `size` bytes: two words that are the same in
    every call, then those of a, b and c that there are.
    """
    request[0], request[1], request[2], request[3], request[4] = size, 0, a, b, c
    refused = call_c(word(api, function), request.ctypes.data)
    if refused != 0:
        request[0], request[2] = at.SHORT_REQUEST, refused
        call_c(word(api, at.ERROR_DESTROY), request.ctypes.data)
    return refused == 0
