"""Arrays from addresses, the bits of floats, and the 16-bit formats, for compiled code.

A kernel is specialised by a scalar `like` of the logits' storage format: float32, float64, uint16
for the bits of bfloat16, int16 for those of float16. The compute dtype is float64 for float64 and
float32 for the others.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import Any

import numpy as np
from llvmlite import ir
from numba import carray, types
from numba.extending import intrinsic, overload
from numba.np.numpy_support import as_dtype

f4: Any = np.float32
f8: Any = np.float64
i4: Any = np.int32
i8: Any = np.int64
u1: Any = np.uint8
u2: Any = np.uint16
i2: Any = np.int16
NO_BOUND = 1 << 60  # the length of a view that the caller has checked to be long enough


def by_type(**options: Any) -> Callable[[Any], Any]:
    """Make a function for compiled code of one that returns the code for its arguments' types.

    options: Numba's, for that code.
    """

    def decorate(choose: Any) -> Any:
        @wraps(choose)
        def function(*_: Any) -> Any:
            raise NotImplementedError("compiled code only")

        overload(function, strict=False, jit_options=options)(choose)
        return function

    return decorate


@intrinsic
def pointer(typingctx: Any, address: Any) -> Any:
    """Turn an address into a pointer."""

    def code(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        return builder.inttoptr(args[0], ir.IntType(8).as_pointer())

    return types.voidptr(types.int64), code


def _bitcast(source: Any, target: Any, llvm_type: Any) -> Any:
    """Make a function that reads the bits of one type as another of the same size."""

    @intrinsic
    def cast(typingctx: Any, x: Any) -> Any:
        def code(context: Any, builder: Any, signature: Any, args: Any) -> Any:
            return builder.bitcast(args[0], llvm_type)

        return target(source), code

    return cast


bits4 = _bitcast(types.float32, types.int32, ir.IntType(32))
float4 = _bitcast(types.int32, types.float32, ir.FloatType())
bits8 = _bitcast(types.float64, types.int64, ir.IntType(64))
float8 = _bitcast(types.int64, types.float64, ir.DoubleType())


@by_type()
def stored(address: Any, n: Any, like: Any) -> Any:
    """View the n numbers at an address, of the dtype of `like`, as an array; nothing is copied."""
    dtype = as_dtype(like)
    return lambda address, n, like: carray(pointer(address), n, dtype)


@by_type()
def empty(n: Any, like: Any) -> Any:
    """Make an array of n numbers of the compute dtype, or of a shape."""
    dtype = f8 if like == types.float64 else f4
    return lambda n, like: np.empty(n, dtype)


@by_type()
def to_compute(v: Any, like: Any) -> Any:
    """Round a float64 to the compute dtype."""
    dtype = f8 if like == types.float64 else f4
    return lambda v, like: dtype(v)


@by_type()
def widen(v: Any) -> Any:
    """Return a stored number in the compute dtype, which is exact."""
    if v == types.uint16:
        return lambda v: float4(i4(v) << i4(16))
    if v == types.int16:

        def float16(v: Any) -> Any:
            h = i4(v)
            # The product moves the exponent from float16's bias to float32's, subnormals included.
            magnitude = float4((h & i4(0x7FFF)) << i4(13)) * f4(2.0**112)
            b = bits4(magnitude)
            # From 2^16 on the number was infinite or NaN, whose exponent is all ones.
            b = b | i4(0x7F800000) if magnitude >= f4(65536.0) else b
            return float4(b | ((h & i4(0x8000)) << i4(16)))

        return float16
    return lambda v: v


@by_type()
def narrow(v: Any, like: Any) -> Any:
    """Round a number of the compute dtype to the storage format, ties to even."""
    if like == types.uint16:

        def bfloat16(v: Any, like: Any) -> Any:
            b = bits4(v)
            rounded = b + i4(0x7FFF) + ((b >> i4(16)) & i4(1))
            rounded = i4(0x7FC00000) if v != v else rounded
            return u2((rounded >> i4(16)) & i4(0xFFFF))

        return bfloat16
    if like == types.int16:

        def float16(v: Any, like: Any) -> Any:
            b = bits4(v)
            sign = (b >> i4(16)) & i4(0x8000)
            b = b & i4(0x7FFFFFFF)
            # Adding 0.5 leaves a subnormal's bits, rounded by the hardware, in the low mantissa.
            small = bits4(float4(b) + f4(0.5)) - i4(0x3F000000)
            usual = (b - i4(0x38000000) + i4(0xFFF) + ((b >> i4(13)) & i4(1))) >> i4(13)
            rounded = small if b < i4(0x38800000) else usual
            rounded = i4(0x7C00) if b >= i4(0x477FF000) else rounded  # from 65520 on: infinite
            rounded = i4(0x7E00) if b > i4(0x7F800000) else rounded  # NaN
            return i2(rounded | sign)

        return float16
    return lambda v, like: v
