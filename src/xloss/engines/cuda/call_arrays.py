"""One call of the CUDA engine: its arrays as addresses, the memory that it makes, its launches."""

from __future__ import annotations

from math import prod
from typing import Any, NamedTuple

from ..._arrays.inspect import INTEGERS, Array, dtype_name
from ...core.call import LossCall
from .. import gpu_arrays, memory_checks
from ..row_layout import RowLayout, gpu_row_layout
from . import driver
from .arguments import NOT_GIVEN, Column, TargetArguments
from .kernel_variants import shared_room
from .launch_plan import KINDS

_INTEGERS = {n: i for i, n in enumerate(INTEGERS)}


class Launch(NamedTuple):
    """One launch, as `driver.launch` is given it."""

    kernel: Any
    grid: int
    threads: int
    packed: bytes
    second: int
    follows: bool


class CallArrays:
    """What the launches of one call read and write, how long it lives, and what was launched.

    The launches are noted down so that they can be repeated for a call like it.
    """

    pixels_each = 0  # rows of a thread of pixels.cuh, if that kernel was launched
    uncounted = False  # blocks could not be counted, as in the capture of a graph

    def __init__(self, call: LossCall) -> None:
        self.shape = memory_checks.check_operands(call)
        self.o, self.options, self.cx = o, options, cx = call.operands, call.options, call.cx
        self.classes = call.classes
        self.arrays: Any = gpu_arrays.of(cx.library)
        arrays = self.arrays
        x: Any = o.x
        self.launches: list[Launch] = []
        self.index = index = arrays.index(x)
        self.stream = arrays.stream(index)
        self.count = prod(self.shape)
        # Arrays that must live until the last launch. They may be freed after it, because the
        # library reuses their memory on the same stream only.
        self.held: list[Any] = []
        # Made for the launches, while `held` are arguments: address, bytes, and what holds them.
        self.rooms: list[tuple[int, int, Array]] = []
        self.x: Any = gpu_row_layout(arrays, x)
        if self.x is None:
            x = arrays.in_order(x)
            self.held.append(x)
            self.x = gpu_row_layout(arrays, x)
        ignore = ignores = 0
        labels = soft = class_weight = sample_weight = NOT_GIVEN
        self.soft: str | None = None
        t: Any = o.targets
        if options.indexed:
            labels = self.column(t, _INTEGERS)
            if options.ignore_index is not None:
                low, high = INTEGERS[dtype_name(t.dtype)]
                if low <= options.ignore_index <= high:
                    ignores, ignore = 1, (options.ignore_index + 2**63) % 2**64 - 2**63
        else:
            if dtype_name(t.dtype) not in (dtype_name(x.dtype), dtype_name(cx.compute_dtype)):
                t = cx.cast(t, cx.compute_dtype)
            self.soft = dtype_name(t.dtype)
            soft = self.column(t, KINDS)
        if o.class_weight is not None:
            class_weight = self.column(o.class_weight, KINDS)
        if o.sample_weight is not None:
            sample_weight = self.column(o.sample_weight, KINDS)
        where = 0 if o.where is None else self.address(o.where)
        self.targets = TargetArguments(
            labels, ignores, ignore, where, sample_weight, class_weight, soft
        )

    def address(self, a: Array) -> int:
        """Return the address of an array, copied to C order where it is in another."""
        a = self.arrays.in_order(a)
        self.held.append(a)
        return int(self.arrays.address(a))

    def column(self, a: Array, kinds: dict[str, int]) -> Column:
        """Return the address of an array, and how its elements are stored."""
        kind = kinds.get(dtype_name(a.dtype))
        if kind is None:
            a = self.cx.cast(a, self.cx.compute_dtype)
            kind = kinds[dtype_name(self.cx.compute_dtype)]
        return Column(self.address(a), kind)

    def empty(self, dtype: Any, *shape: int) -> Array:
        """Make an array on the GPU."""
        return self.arrays.empty(shape, dtype, self.o.x)

    def like_x(self) -> tuple[Array, RowLayout]:
        """Make an array for the gradient to the logits; return it and where its rows lie."""
        x: Any = self.o.x
        if self.x.class_step != 1:
            # In the memory order of the logits. Neighbouring threads read neighbouring numbers of
            # one class; in C order they would write far from each other, at a sixth of the speed.
            made = self.arrays.empty_like(x)
            place = gpu_row_layout(self.arrays, made)
            if place is not None:
                return made, place
        made = self.arrays.empty(tuple(x.shape), x.dtype, x)
        return made, RowLayout(self.arrays.address(made), self.count, 0, self.classes, 1)

    def room(self, dtype: Any, count: int) -> int:
        """Return the address of a new array that only this call's launches use."""
        made = self.arrays.empty((count,), dtype, self.o.x)
        at = int(self.arrays.address(made))
        self.rooms.append((at, count * dtype.itemsize, made))
        return at

    def launch(self, kernel: Any, grid: int, threads: int, packed: bytes, second: int) -> None:
        """Launch a kernel; it may begin before this call's launch before it has ended."""
        stream = self.stream
        # Not in the capture of a graph, of which older drivers refuse such a launch.
        follows = (
            bool(self.launches)
            and self.arrays.capability(self.index) >= 90
            and self.arrays.in_turn(self.index, stream)
        )
        driver.launch(kernel, self.index, grid, threads, stream, packed, second, follows=follows)
        self.launches.append(Launch(kernel, grid, threads, packed, second, follows))

    def shared_room(self) -> int:
        """Return where this stream's launches count blocks and leave losses; 0: nowhere."""
        found = shared_room(self.arrays, self.index, self.stream, self.cx)
        self.uncounted = self.uncounted or not found
        return found
