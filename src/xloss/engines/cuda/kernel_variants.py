"""Compiled kernels, found by the constants they are compiled for, and a stream's room for sums."""

from __future__ import annotations

from functools import cache
from typing import Any, NamedTuple

from ..._arrays.context import Context
from ..._arrays.inspect import Array, dtype_name
from . import driver
from .launch_plan import ITEMSIZES, Asked, Step, constants, left, plan, steps, sums
from .pixel_plan import held, pixel_memory, pixel_plan

_FEW = 1024  # rows, at most, that are added up by the same launch that computes them
_SMALL = 2**22  # logits, at most: beyond, a second launch costs less than every block's counting
SHARED = 3 + 2 * _FEW  # float64 of a stream's shared room
_STREAMS = 64  # streams, at most, that have a room of their own
_shared_rooms: dict[tuple[Any, int, int], tuple[int, Array]] = {}


class Kernels(NamedTuple):
    """The kernels that compute rows, launched one after another."""

    kernels: list[tuple[Any, Step]]
    left: int  # bytes that they leave for each other, of every row
    adds: bool  # the launch also adds up the rows
    pixels: int = 0  # rows of a thread of pixels.cuh; 0: the kernel is that of rows.cuh


def shared_room(arrays: Any, index: int, stream: int, cx: Context | None = None) -> int:
    """Return the address where the launches of a stream count blocks and leave losses, or 0.

    They are made one after another, and each leaves the counter at 0. A graph may run beside the
    stream that it was captured from: it must not take this. With `cx` it is made if need be.
    """
    if not arrays.in_turn(index, stream):
        return 0
    found = _shared_rooms.get((arrays, index, stream))
    if found is None:
        if cx is None or len(_shared_rooms) >= _STREAMS:
            return 0  # a room is never freed, because another thread may be about to launch with it
        made = cx.xp.zeros((SHARED,), dtype=cx.xp.float64, device=cx.device)
        found = _shared_rooms[arrays, index, stream] = arrays.address(made), made
    return found[0]


def is_few(count: int, classes: int) -> bool:
    """Tell whether the launch that computes these rows adds them up."""
    return count <= _FEW and count * classes <= _SMALL


@cache
def kernels_of(
    asked: Asked, classes: int, apart: bool, few: bool, arrays: Any, index: int
) -> Kernels:
    """Return the kernels for such rows; few: the launch adds the rows up too, if it is one."""
    p = plan(classes, ITEMSIZES[asked.stored], apart)
    capability = arrays.capability(index)
    launches = steps(p, asked, capability, few)
    adds = few and len(launches) == 1
    found = [
        (driver.load(constants(s.plan, asked, s.stage, adds), capability, index, s.plan.shared), s)
        for s in launches
    ]
    return Kernels(found, p.parts * left(p, asked) if len(found) > 1 else 0, adds)


@cache
def pixels_of(
    asked: Asked, classes: int, pixels: int, adds: bool, arrays: Any, index: int
) -> Kernels:
    """Return the kernel for rows that lie side by side, so many of them a thread."""
    p = pixel_plan(classes, asked)
    assert p is not None
    own = ("PIXELS", pixels), ("IN_REGISTERS", held(classes, asked))
    kernel = driver.load(
        (*constants(p, asked, 0, adds), *own),
        arrays.capability(index),
        index,
        pixel_memory(p, classes, asked),
    )
    return Kernels([(kernel, Step(p, 0, p.threads * pixels, 1))], 0, adds, pixels)


@cache
def sums_of(acc: Any, labels: int, weighed: bool, arrays: Any, index: int) -> Any:
    """Return the kernel that adds up row losses of this dtype, and weights by their labels."""
    return driver.load(sums(dtype_name(acc), labels, weighed), arrays.capability(index), index)
