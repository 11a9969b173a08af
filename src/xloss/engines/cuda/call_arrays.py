"""One call of the CUDA engine: its arrays, the memory that it makes, and its launches.

Launches are planned before any is made, and what stands in them for an address says which array it
is in and how far behind its beginning. So a call like an earlier one repeats the launches of that
one on its own addresses (relaunch.py).
"""

from __future__ import annotations

from array import array
from math import prod
from typing import Any, NamedTuple

from ..._arrays.inspect import INTEGERS, Array, dtype_name
from ...core.call import LossCall
from .. import gpu_arrays, memory_checks
from ..row_layout import RowLayout, gpu_row_layout
from . import driver
from .arguments import ADDRESSES, Arguments, Column
from .kernel_variants import shared_room
from .launch_plan import KINDS

_INTEGERS = {n: i for i, n in enumerate(INTEGERS)}


# What an address may be in: arrays of the call, what its gradient starts from, the stream's shared
# room, and memory that only the call's launches use. Other arrays of the call have higher numbers.
PLACES = X, TARGETS, COTANGENT, GRADIENT, LOSS, KEPT, SHARED, ROOM = range(1, 9)
_OFFSET_BITS = 48  # of an address in a planned launch; above them stands what it is in
_OFFSET = 2**_OFFSET_BITS - 1
_ALIGNED = 256  # bytes: a part of a room begins where an allocation of its own might


class Launch(NamedTuple):
    """One planned launch, as `driver.launch` is given it but for its addresses."""

    kernel: Any
    grid: int
    threads: int
    words: array[int]
    follows: bool  # it may begin before the one before it has ended
    addresses: list[tuple[int, int, int]]  # of each its word, what it is in, and its offset


class Planned(NamedTuple):
    """The launches of a call; made again, they need no more than where its places begin now."""

    launches: list[Launch]
    arrays: Any
    gpu: int
    room: Array | None  # an array like the memory that the launches divide among themselves

    def launch(self, stream: int, at: list[int]) -> None:
        """Launch; at: where in memory each place begins, by its number, but for the room."""
        if self.room is not None:
            room = self.arrays.alike(self.room)  # lives until the last launch
            at[ROOM] = self.arrays.address(room)
        # Not in the capture of a graph, of which older drivers refuse a launch that follows.
        overlaps = len(self.launches) > 1 and self.arrays.in_turn(self.gpu, stream)
        for kernel, grid, threads, planned, follows, into in self.launches:
            words = planned[:]  # another thread may make the same launch
            for word, place, offset in into:
                words[word] = at[place] + offset
            packed, follows = words.tobytes(), follows and overlaps
            driver.launch(kernel, self.gpu, grid, threads, stream, packed, follows=follows)


# A number of each dtype on each GPU, which arrays are made like: that takes half as long as to make
# one of a shape, a dtype and a device that are given.
_numbers: dict[tuple[Any, int, Any], Array] = {}


class CallArrays:
    """What the launches of one call read and write, and the launches."""

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
        self.at = [0] * (1 + len(PLACES))  # where each place begins
        self.room_size = 0
        self.x: Any = gpu_row_layout(arrays, x)
        copied = self.x is None
        if copied:
            x = arrays.in_order(x)
            self.x = gpu_row_layout(arrays, x)
        at = self.place(self.x.address, None if copied else X)
        self.held.append(x)
        given = Arguments(
            self.count,
            self.classes,
            RowLayout(at, *self.x[1:]),
            where=0 if o.where is None else self.address(o.where),
            label_smoothing=options.label_smoothing,
            z_loss=options.z_loss,
            softcap=options.softcap or 0.0,
        )
        self.soft: str | None = None
        t: Any = o.targets
        if options.indexed:
            given = given._replace(labels=self.column(t, _INTEGERS, TARGETS))
            if options.ignore_index is not None:
                low, high = INTEGERS[dtype_name(t.dtype)]
                if low <= options.ignore_index <= high:
                    ignore = (options.ignore_index + 2**63) % 2**64 - 2**63
                    given = given._replace(has_ignore=1, ignore=ignore)
        else:
            if dtype_name(t.dtype) not in (dtype_name(x.dtype), dtype_name(cx.compute_dtype)):
                t = cx.cast(t, cx.compute_dtype)
            self.soft = dtype_name(t.dtype)
            given = given._replace(soft=self.column(t, KINDS))
        if o.class_weight is not None:
            given = given._replace(class_weight=self.column(o.class_weight, KINDS))
        if o.sample_weight is not None:
            given = given._replace(sample_weight=self.column(o.sample_weight, KINDS))
        # Whether there are weights of rows or classes, or `where`.
        self.weighed = not (o.where is o.sample_weight is o.class_weight is None)
        self.given = given  # what all launches are given

    def place(self, at: int, number: int | None = None) -> int:
        """Return what stands for an address in planned launches; a new place without a number."""
        if number is None:
            number = len(self.at)
            self.at.append(at)
        self.at[number] = at
        return number << _OFFSET_BITS

    def address(self, a: Array, place: int | None = None) -> int:
        """Return what stands for the address of an array, copied to C order if it is in another.

        place: its number, which a copy does not get.
        """
        in_order = self.arrays.in_order(a)
        self.held.append(in_order)
        at = self.arrays.address(in_order)
        if place and at != self.arrays.address(a):
            place = None
        return self.place(at, place)

    def column(self, a: Array, kinds: dict[str, int], place: int | None = None) -> Column:
        """Return the address of an array, and how its elements are stored."""
        kind = kinds.get(dtype_name(a.dtype))
        if kind is None:
            a = self.cx.cast(a, self.cx.compute_dtype)
            kind, place = kinds[dtype_name(self.cx.compute_dtype)], None
        return Column(self.address(a, place), kind)

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
        """Return what stands for the address of memory that only this call's launches use."""
        address = (ROOM << _OFFSET_BITS) + self.room_size
        self.room_size += -(-count * dtype.itemsize // _ALIGNED) * _ALIGNED
        return address

    def shared_room(self) -> int:
        """Return where this stream's launches count blocks and leave losses; 0: nowhere."""
        found = shared_room(self.arrays, self.index, self.stream, self.cx)
        self.uncounted = self.uncounted or not found
        return self.place(found, SHARED) if found else 0

    def launch(self, kernel: Any, grid: int, threads: int, given: Arguments) -> None:
        """Plan a launch."""
        follows = bool(self.launches) and self.arrays.capability(self.index) >= 90
        words = array("Q", given.packed())
        into = [(n, words[n] >> _OFFSET_BITS, words[n] & _OFFSET) for n in ADDRESSES if words[n]]
        self.launches.append(Launch(kernel, grid, threads, words, follows, into))

    def pattern(self, dtype: Any, *shape: int) -> Array:
        """Return an array of one number that others of this dtype and shape are made like."""
        key = self.arrays, self.index, dtype
        if key not in _numbers:
            _numbers[key] = self.empty(dtype)
        return self.cx.xp.broadcast_to(_numbers[key], shape) if shape else _numbers[key]

    def launch_all(self) -> None:
        """Make the launches that were planned."""
        wide, size = self.cx.sum_dtype, self.room_size
        room = self.pattern(wide, size // wide.itemsize) if size else None
        self.planned = Planned(self.launches, self.arrays, self.index, room)
        self.planned.launch(self.stream, self.at)
