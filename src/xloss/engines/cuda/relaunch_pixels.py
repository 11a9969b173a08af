"""Repeats the launches of a call whose classes lie apart, as `relaunch` does those of few rows.

Such a call of a few million pixels takes the GPU tens of microseconds, less than the host needs to
plan it.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from typing import Any

from ..._arrays.inspect import Array
from . import driver
from .arguments import CALL, SUMS, WORD, row_word, sum_word
from .kernel_variants import kept_stats, shared_room
from .pixel_plan import WORD as PAIR

_FIRST_SUM = CALL.size // WORD
# The words that hold addresses: of a launch of rows, and of the one before it that counts labels.
_ROWS = (
    *map(row_word, ("x.address", "gradient.address", "labels.address", "cotangent.address")),
    *map(row_word, ("row_factor", "maxima", "tail_sums")),
    *map(sum_word, ("partial", "loss", "row_factor", "counter")),
)
_COUNTED = (
    *(sum_word(name) - _FIRST_SUM for name in ("partial", "row_factor", "counter")),
    SUMS.size // WORD + row_word("labels.address"),
)


class Repeated:
    """A launch whose addresses are replaced each time."""

    __slots__ = ("blocks", "index", "kernel", "pack", "parts", "second", "threads")

    def __init__(self, launch: Any, index: int, words: Sequence[int], second: int) -> None:
        self.kernel, self.blocks, self.threads, packed = launch
        self.index, self.second = index, second
        form, parts, start = "<", [], 0
        for word in words:
            at = WORD * word
            form += f"{at - start}sQ"
            parts += [packed[start:at], 0]
            start = at + WORD
        parts.append(packed[start:])
        self.pack = struct.Struct(f"{form}{len(packed) - start}s").pack
        self.parts: list[Any] = parts

    def launch(self, stream: int, *addresses: int, follows: bool = False) -> None:
        """Launch it with these addresses; follows: as `driver.launch` says."""
        parts = self.parts[:]
        parts[1::2] = addresses
        packed = self.pack(*parts)
        driver.launch(
            self.kernel,
            self.index,
            self.blocks,
            self.threads,
            stream,
            packed,
            self.second,
            follows=follows,
        )


class QuickPixels:
    """The launches of one call, of which another may differ in addresses alone."""

    __slots__ = ("acc", "arrays", "averages", "count", "counted", "index", "pairs", "rows", "wide")

    def __init__(self, call: Any) -> None:
        self.arrays, self.index, self.count = call.arrays, call.index, call.count
        self.acc, self.wide = call.cx.compute_dtype, call.cx.sum_dtype
        self.averages = call.options.reduction == "mean"
        self.pairs = call.pixels_each == 2
        self.rows = Repeated(call.last, call.index, _ROWS, CALL.size)
        self.counted = None
        if call.counted is not None:
            self.counted = Repeated(call.counted, call.index, _COUNTED, SUMS.size)

    def fits(self, *arrays: Array) -> bool:
        """Tell whether two rows of a thread begin at a word in these arrays, too."""
        return not (self.pairs and any(self.arrays.address(a) % PAIR for a in arrays))

    def reduced(
        self, x: Array, targets: Array, grad: bool, keep: bool
    ) -> tuple[Array, Array | None, Array | None] | None:
        """Return what `Launcher.reduced` would; None where the launches do not fit."""
        arrays, address = self.arrays, self.arrays.address
        stream = arrays.stream(self.index)
        counter = shared_room(arrays, self.index, stream)
        if not counter or not self.fits(x):
            return None
        blocks, first = self.rows.blocks, self.counted
        loss = arrays.empty((), self.acc, x)
        room = arrays.empty((2 + 2 * (blocks + (first.blocks if first else 0)),), self.wide, x)
        gradient = kept = None
        to = maxima = rests = 0
        row_factor = at = address(room)
        partial = at + 16
        if grad:
            gradient = arrays.empty_like(x)
            to = address(gradient)
            if not self.fits(gradient):
                return None
        if keep:
            kept = arrays.empty((2 + 2 * self.count,), self.wide, x)
            row_factor = address(kept)
            maxima, rests = kept_stats(row_factor, self.count)
        labels = address(targets)
        if first is not None:
            # One block counts no blocks.
            of_blocks = counter if first.blocks > 1 else 0
            first.launch(stream, partial + 16 * blocks, row_factor, of_blocks, labels)
        before = row_factor if self.averages and grad else 0
        after = row_factor if self.averages and keep and not grad else 0
        given = address(x), to, labels, 0, before, maxima, rests
        follows = first is not None and arrays.capability(self.index) >= 90
        self.rows.launch(stream, *given, partial, address(loss), after, counter, follows=follows)
        return loss, gradient, kept

    def again(
        self, x: Array, targets: Array, cotangent: Array, kept: Array, grad: Array | None
    ) -> Array | None:
        """Return what `Launcher.again` would; None where the launch does not fit."""
        arrays, address = self.arrays, self.arrays.address
        made = arrays.empty_like(x) if grad is None else grad
        if not self.fits(x, made):
            return None
        at = address(kept)
        maxima, rests = kept_stats(at, self.count)
        row_factor = at if self.averages else 0
        given = address(x), address(made), address(targets), address(cotangent)
        stream = arrays.stream(self.index)
        self.rows.launch(stream, *given, row_factor, maxima, rests, 0, 0, 0, 0)
        return made
