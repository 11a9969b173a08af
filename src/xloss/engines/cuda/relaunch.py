"""Repeats the launches of a call like an earlier one, from which it differs in addresses alone.

A GPU often computes a loss in less time than the host needs to plan it. What the first call found
out is kept in `memory`, which the backend shares among calls of the same dtypes, shapes, device and
options.
"""

from __future__ import annotations

import struct
from operator import itemgetter
from typing import Any, NamedTuple

from ..._arrays.inspect import Array
from . import driver
from .arguments import WORD, addresses
from .call_arrays import CallArrays, Launch
from .kernel_variants import SHARED, shared_room
from .pixel_plan import WORD as PAIR

Memory = dict[Any, Any]
# A backward launch computes the gradient, or finds the one for a cotangent of 1 already written.
ANEW, WRITTEN = "anew", "written"

# What an address may point into: arrays that launches are given by their first element, and memory
# that the launches of a call divide among themselves.
_PLACES = _X, _TARGETS, _COTANGENT, _GRADIENT, _LOSS, _KEPT, _SHARED, _ROOM = range(8)
_ARRAYS = {
    "x.address": _X,
    "labels.address": _TARGETS,
    "cotangent.address": _COTANGENT,
    "gradient.address": _GRADIENT,
    "loss": _LOSS,
}
_DIVIDED = frozenset(
    ("row_factor", "losses", "weights", "maxima", "tail_sums", "work", "partial", "counter")
)
_ALIGNED = 256  # bytes: a part of a room begins where an allocation of its own might

# A number of each dtype on each GPU, which arrays are made like: that takes half as long as to make
# one of a shape, a dtype and a device that are given.
_numbers: dict[tuple[Any, int, Any], Array] = {}


def _pattern(call: CallArrays, dtype: Any, *shape: int) -> Array:
    """Return an array of one number that others of this dtype and shape are made like."""
    key = call.arrays, call.index, dtype
    if key not in _numbers:
        _numbers[key] = call.empty(dtype)
    return call.cx.xp.broadcast_to(_numbers[key], shape) if shape else _numbers[key]


class _Span(NamedTuple):
    """Memory that the launches of a call were given."""

    place: int  # what it is part of
    start: int  # its address
    size: int  # bytes
    before: int = 0  # bytes of the whole that come before it


def _found(name: str, address: int, spans: list[_Span]) -> tuple[int, int] | None:
    """Return what an address points into, and how far behind its beginning; None: nothing."""
    for s in spans:
        if name in _DIVIDED and s.place >= _KEPT and 0 <= address - s.start < s.size:
            return s.place, address - s.start + s.before
        if s.place == _ARRAYS.get(name) and s.start == address:
            return s.place, 0
    return None


class _Repeated:
    """A launch whose addresses are replaced each time."""

    def __init__(self, launch: Launch, words: dict[int, int], given: int) -> None:
        """words: which of the addresses is in which word; given: how many addresses there are."""
        self.launch = launch
        form, order, start = "<", [], 0
        self.constants: list[Any] = []
        for word, number in words.items():
            at = WORD * word
            if start < at:
                form += f"{at - start}s"
                order.append(given + len(self.constants))
                self.constants.append(launch.packed[start:at])
            form += "Q"
            order.append(number)
            start = at + WORD
        order.append(given + len(self.constants))
        self.constants.append(launch.packed[start:])
        self.pack = struct.Struct(f"{form}{len(launch.packed) - start}s").pack
        self.pick: Any = itemgetter(*order)


class Remembered:
    """The launches of a call, for another that differs from it in addresses alone."""

    def __init__(
        self,
        call: CallArrays,
        words: list[dict[int, tuple[int, int]]],
        room: int,
        cotangent: Array | None,
    ) -> None:
        """words: what each launch's addresses point into, and how far behind its beginning.

        room: the bytes of what the launches divide among themselves.
        """
        targets: Any = call.o.targets
        wide = call.cx.sum_dtype
        numbers = {(place, 0): place for place in _PLACES}
        numbered = [
            {word: numbers.setdefault(into, len(numbers)) for word, into in each.items()}
            for each in words
        ]
        self.inside = list(numbers)[len(_PLACES) :]
        self.launches = [
            _Repeated(launch, each, len(numbers))
            for launch, each in zip(call.launches, numbered, strict=True)
        ]
        self.arrays, self.index = call.arrays, call.index
        self.counts = any(place == _SHARED for each in words for place, _ in each.values())
        self.in_order = call.x.class_step == 1
        self.pairs = call.pixels_each == 2
        self.cotangent = None if cotangent is None else cotangent.dtype
        self.size = call.count * call.classes * call.o.x.dtype.itemsize
        self.target_size = call.count * targets.dtype.itemsize
        self.loss = _pattern(call, call.cx.compute_dtype)
        self.kept = _pattern(call, wide, 2 + 2 * call.count)
        self.room = _pattern(call, wide, room // wide.itemsize) if room else None

    def fits(self, x: Array, targets: Array) -> bool:
        """Tell whether the memory of arrays of these shapes is there, and begins at a word."""
        if self.pairs and self.arrays.address(x) % PAIR:
            return False
        holds = self.arrays.holds
        return bool(holds(x, self.size) and holds(targets, self.target_size))

    def launch(self, stream: int, addresses: list[int]) -> None:
        """Launch with these addresses of what others point into, in order, but for the room's."""
        at = 0
        if self.room is not None:
            room = self.arrays.alike(self.room)  # lives until the last launch
            at = self.arrays.address(room)
        addresses.append(at)
        for place, offset in self.inside:
            addresses.append(addresses[place] + offset)
        overlaps = len(self.launches) > 1 and self.arrays.in_turn(self.index, stream)
        for again in self.launches:
            kernel, grid, threads, _, second, follows = again.launch
            packed = again.pack(*again.pick(addresses + again.constants))
            follows = follows and overlaps
            driver.launch(
                kernel, self.index, grid, threads, stream, packed, second, follows=follows
            )


def remember(
    memory: Memory,
    key: Any,
    call: CallArrays,
    loss: Array | None = None,
    gradient: Array | None = None,
    kept: Array | None = None,
    cotangent: Array | None = None,
) -> None:
    """Keep the launches of a call for calls like it, unless those may need other launches.

    They do where an address lies in no array that they have too: in another argument, or in a copy
    of one. And in a graph's capture blocks are not counted, which takes one launch more.
    """
    if key in memory or call.uncounted:
        return
    address = call.arrays.address
    arrays = call.o.x, call.o.targets, cotangent, gradient, loss
    spans = [_Span(place, address(a), 0) for place, a in enumerate(arrays) if a is not None]
    wide = call.cx.sum_dtype.itemsize
    if kept is not None:
        spans.append(_Span(_KEPT, address(kept), (2 + 2 * call.count) * wide))
    room = 0
    for start, size, _ in call.rooms:
        spans.append(_Span(_ROOM, start, size, room))
        room += -(-size // _ALIGNED) * _ALIGNED
    shared = shared_room(call.arrays, call.index, call.stream)
    if shared:
        spans.append(_Span(_SHARED, shared, SHARED * WORD))
    words = []
    for launch in call.launches:
        into = {
            word: _found(name, value, spans)
            for word, name, value in addresses(launch.packed, launch.second)
        }
        words.append({word: found for word, found in into.items() if found is not None})
        if len(words[-1]) < len(into):
            return
    memory[key] = Remembered(call, words, room, cotangent)


def reduced(
    memory: Memory, x: Array, targets: Array, grad: bool, keep: bool
) -> tuple[Array, Array | None, Array | None] | None:
    """Return what `Launcher.reduced` would; None where no launches are kept, or they do not fit."""
    q: Remembered | None = memory.get((grad, keep))
    if q is None or not q.fits(x, targets):
        return None
    arrays = q.arrays
    stream = arrays.stream(q.index)
    shared = shared_room(arrays, q.index, stream) if q.counts else 0
    if q.counts and not shared:
        return None
    address = arrays.address
    loss = arrays.alike(q.loss)
    gradient = kept = None
    to = at = 0
    if grad:
        gradient = arrays.alike(x) if q.in_order else arrays.empty_like(x)
        to = address(gradient)
    if keep:
        kept = arrays.alike(q.kept)
        at = address(kept)
    q.launch(stream, [address(x), address(targets), 0, to, address(loss), at, shared])
    return loss, gradient, kept


def again(
    memory: Memory, x: Array, targets: Array, cotangent: Array, kept: Array, grad: Array | None
) -> Array | None:
    """Return what `Launcher.again` would; None where no launches are kept, or they do not fit."""
    q: Remembered | None = memory.get(ANEW if grad is None else WRITTEN)
    if q is None or cotangent.dtype != q.cotangent or cotangent.ndim or not q.fits(x, targets):
        return None
    arrays, made = q.arrays, grad
    if made is None:
        made = arrays.alike(x) if q.in_order else arrays.empty_like(x)
    address = arrays.address
    given = [address(x), address(targets), address(cotangent), address(made), 0, address(kept), 0]
    q.launch(arrays.stream(q.index), given)
    return made
