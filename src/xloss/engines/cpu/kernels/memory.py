"""Memory, where a loop leaves something to win: lines fetched ahead, tiles turned in registers."""

from __future__ import annotations

from typing import Any

from llvmlite import ir
from numba import types
from numba.extending import intrinsic, overload

LINE = 64  # bytes
TILE = 8  # rows and columns: a vector of float32
_I32 = ir.IntType(32)
_BYTES = ir.IntType(8).as_pointer()


def _address(context: Any, builder: Any, array_type: Any, array: Any, at: Any, made: Any) -> Any:
    data = context.make_array(array_type)(context, builder, array).data
    return builder.bitcast(builder.gep(data, [at]), made)


@intrinsic
def fetch(typingctx: Any, stored: Any, at: Any) -> Any:
    """Ask for the cache line of an array's element; beyond its end that does nothing."""

    def code(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        address = _address(context, builder, signature.args[0], args[0], args[1], _BYTES)
        kind = ir.FunctionType(ir.VoidType(), [_BYTES, _I32, _I32, _I32])
        name = "llvm.prefetch.p0"
        function = builder.module.globals.get(name) or ir.Function(builder.module, kind, name)
        builder.call(function, [address, _I32(0), _I32(2), _I32(1)])  # to read, a second cache
        return context.get_dummy_value()

    return types.void(stored, types.int64), code


def in_line(stored: Any) -> int:
    """Return how many numbers of an array are in a cache line."""
    raise NotImplementedError("compiled code only")


@overload(in_line, strict=False)
def _in_line(stored: Any) -> Any:
    n = LINE * 8 // stored.dtype.bitwidth
    return lambda stored: n


@intrinsic
def _turn(
    typingctx: Any, source: Any, at: Any, step: Any, target: Any, to: Any, to_step: Any
) -> Any:
    """Write TILE rows of TILE float32, `step` apart, as columns, `to_step` apart."""

    def code(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        vector = ir.VectorType(ir.FloatType(), TILE)
        source, at, step, target, to, to_step = args

        def place(kind: Any, array: Any, start: Any, gap: Any, i: int) -> Any:
            index = builder.add(start, builder.mul(gap, gap.type(i)))
            return _address(context, builder, kind, array, index, vector.as_pointer())

        rows = [
            builder.load(place(signature.args[0], source, at, step, i), align=4)
            for i in range(TILE)
        ]
        # Blocks of half the size change places across the diagonal, then quarters, then numbers.
        for half in (4, 2, 1):
            lanes = range(TILE)
            upper = ir.Constant(
                ir.VectorType(_I32, TILE), [TILE + j - half if j & half else j for j in lanes]
            )
            lower = ir.Constant(
                ir.VectorType(_I32, TILE), [TILE + j if j & half else j + half for j in lanes]
            )
            for i in lanes:
                if not i & half:
                    a, b = rows[i], rows[i + half]
                    rows[i] = builder.shuffle_vector(a, b, upper)
                    rows[i + half] = builder.shuffle_vector(a, b, lower)
        for i, row in enumerate(rows):
            builder.store(row, place(signature.args[3], target, to, to_step, i), align=4)
        return context.get_dummy_value()

    i8 = types.int64
    return types.void(source, i8, i8, target, i8, i8), code


def turned(
    source: Any, at: int, step: int, target: Any, to: int, to_step: int, n: int, width: int
) -> bool:
    """Write n rows of `width` numbers, `step` apart, as columns; say whether that was possible.

    float32 alone, and a tile of it at least. Numbers may be written twice, beside none are.
    """
    raise NotImplementedError("compiled code only")


@overload(turned, strict=False)
def _turned(
    source: Any, at: Any, step: Any, target: Any, to: Any, to_step: Any, n: Any, width: Any
) -> Any:
    if source.dtype != types.float32 or target.dtype != types.float32:
        return lambda source, at, step, target, to, to_step, n, width: False

    def tiles(
        source: Any, at: Any, step: Any, target: Any, to: Any, to_step: Any, n: Any, width: Any
    ) -> Any:
        if width < TILE or n < TILE:
            return False
        for j in range(0, n, TILE):
            r = min(j, n - TILE)
            for k in range(0, width, TILE):
                c = min(k, width - TILE)
                _turn(source, at + r * step + c, step, target, to + c * to_step + r, to_step)
        return True

    return tiles
