"""Repeats the launches of a call like an earlier one, from which it differs in addresses alone.

A GPU often computes a loss in less time than the host needs to plan it. What the first call found
out is kept in `memory`, which the backend shares among calls of the same dtypes, shapes, device and
options.
"""

from __future__ import annotations

from typing import Any

from ..._arrays.inspect import Array
from .call_arrays import PLACES, SHARED, CallArrays
from .kernel_variants import shared_room
from .pixel_plan import WORD as PAIR

Memory = dict[Any, Any]
# A backward launch computes the gradient, or finds the one for a cotangent of 1 already written.
ANEW, WRITTEN = "anew", "written"


class Remembered:
    """The launches of a call, for another that differs from it in addresses alone."""

    def __init__(self, call: CallArrays, cotangent: Array | None) -> None:
        targets: Any = call.o.targets
        wide = call.cx.sum_dtype
        self.planned = call.planned
        self.arrays, self.index = call.arrays, call.index
        self.counts = call.at[SHARED] != 0
        self.in_order = call.x.class_step == 1
        self.pairs = call.pixels_each == 2
        self.cotangent = None if cotangent is None else cotangent.dtype
        self.size = call.count * call.classes * call.o.x.dtype.itemsize
        self.target_size = call.count * targets.dtype.itemsize
        self.loss = call.pattern(call.cx.compute_dtype)
        self.kept = call.pattern(wide, 2 + 2 * call.count)

    def fits(self, x: Array, targets: Array) -> bool:
        """Tell whether the memory of arrays of these shapes is there, and begins at a word."""
        if self.pairs and self.arrays.address(x) % PAIR:
            return False
        holds = self.arrays.holds
        return bool(holds(x, self.size) and holds(targets, self.target_size))


def remember(memory: Memory, key: Any, call: CallArrays, cotangent: Array | None = None) -> None:
    """Keep the launches of a call for calls like it, unless those may need other launches.

    They do where an address lies in no array that they have too: in another argument, or in a copy
    of one. And in a graph's capture blocks are not counted, which takes one launch more.
    """
    if key not in memory and not call.uncounted and len(call.at) == 1 + len(PLACES):
        memory[key] = Remembered(call, cotangent)


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
    q.planned.launch(stream, [0, address(x), address(targets), 0, to, address(loss), at, shared, 0])
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
    starts = address(x), address(targets), address(cotangent), address(made)
    q.planned.launch(arrays.stream(q.index), [0, *starts, 0, address(kept), 0, 0])
    return made
