"""What compiled loops do not do by themselves: fetch lines ahead, transpose tiles in registers."""

from __future__ import annotations

from typing import Any

from llvmlite import ir
from numba import types
from numba.extending import intrinsic

from .bits import by_type

LINE = 64  # bytes
TILE = 8  # rows and columns: a vector of float32
_I32 = ir.IntType(32)
_I8 = ir.IntType(8)


def element_pointer(
    context: Any, builder: Any, array_type: Any, array: Any, at: Any, kind: Any
) -> Any:
    """Return a pointer of a kind to an array's element."""
    data = context.make_array(array_type)(context, builder, array).data
    return builder.bitcast(builder.gep(data, [at]), kind.as_pointer())


@intrinsic
def fetch(typingctx: Any, stored: Any, at: Any) -> Any:
    """Ask for the cache line of an array's element; beyond the array's end it does no harm."""

    def code(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        address = element_pointer(context, builder, signature.args[0], args[0], args[1], _I8)
        kind = ir.FunctionType(ir.VoidType(), [_I8.as_pointer(), _I32, _I32, _I32])
        name = "llvm.prefetch.p0"
        function = builder.module.globals.get(name) or ir.Function(builder.module, kind, name)
        # For reading, into the second-level cache, of data and not of code.
        builder.call(function, [address, _I32(0), _I32(2), _I32(1)])
        return context.get_dummy_value()

    return types.void(stored, types.int64), code


@by_type()
def in_line(stored: Any) -> Any:
    """Return how many numbers of an array are in a cache line."""
    n = LINE * 8 // stored.dtype.bitwidth
    return lambda stored: n


@intrinsic
def _transpose_tile(
    typingctx: Any, source: Any, at: Any, step: Any, target: Any, to: Any, to_step: Any
) -> Any:
    """Write TILE rows of TILE float32, `step` apart, as columns, `to_step` apart."""

    def code(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        vector = ir.VectorType(ir.FloatType(), TILE)
        source, at, step, target, to, to_step = args

        def pointer_to(kind: Any, array: Any, start: Any, gap: Any, i: int) -> Any:
            index = builder.add(start, builder.mul(gap, gap.type(i)))
            return element_pointer(context, builder, kind, array, index, vector)

        rows = [
            builder.load(pointer_to(signature.args[0], source, at, step, i), align=4)
            for i in range(TILE)
        ]
        # Halves of the tile change places across its diagonal, then quarters, then single numbers.
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
            builder.store(row, pointer_to(signature.args[3], target, to, to_step, i), align=4)
        return context.get_dummy_value()

    i8 = types.int64
    return types.void(source, i8, i8, target, i8, i8), code


@by_type()
def transposed(
    source: Any, at: Any, step: Any, target: Any, to: Any, to_step: Any, n: Any, width: Any
) -> Any:
    """Write n rows of `width` numbers, `step` apart, as columns; return False if that is not done.

    It takes float32 only, and a tile of it at least. Tiles at the ends overlap, so that a number
    may be written twice, but none beyond the n rows and `width` columns.
    """
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
                _transpose_tile(
                    source, at + r * step + c, step, target, to + c * to_step + r, to_step
                )
        return True

    return tiles
