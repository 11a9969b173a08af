"""The CUDA engine's kernels by what they are compiled for, and where launches leave sums."""

from __future__ import annotations

from functools import cache
from typing import Any, NamedTuple

from ..._arrays.context import Context
from ..._arrays.inspect import Array, dtype_name
from . import driver
from .launch_plan import ITEMSIZES, Asked, constants, plan, stages, sums

_FEW = 1024  # rows, at most, whose losses the launch that computes them adds up
_SMALL = 2**22  # logits, at most, where a launch less is worth each block's time for the sum
_STREAMS = 64  # that have a room
_shared_rooms: dict[tuple[Any, int, int], tuple[int, Array]] = {}


class Kernels(NamedTuple):
    """The kernels of one launch of rows, or of the three where a GPU has no clusters."""

    kernels: tuple[Any, ...]
    threads: int  # of a block
    together: int  # rows to a block
    parts: int  # blocks to a row
    adds: bool  # it can also add up the rows


def shared_room(home: Any, index: int, stream: int, cx: Context | None = None) -> int:
    """Return where all launches of a stream count their blocks and leave their losses, or 0.

    They are made one after another, and each leaves the counter at 0. A graph may run beside the
    stream that it was captured from: it must not take this. With `cx` it is made if need be.
    """
    if not home.in_turn(index, stream):
        return 0
    found = _shared_rooms.get((home, index, stream))
    if found is None:
        if cx is None or len(_shared_rooms) >= _STREAMS:
            return 0  # none is ever taken back: another thread may be about to launch with it
        made = cx.xp.zeros((3 + 2 * _FEW,), dtype=cx.xp.float64, device=cx.device)
        found = _shared_rooms[home, index, stream] = home.address(made), made
    return found[0]


def is_few(count: int, classes: int) -> bool:
    """Tell whether the launch that computes these rows adds them up."""
    return count <= _FEW and count * classes <= _SMALL


def kept_stats(kept: int, count: int) -> tuple[int, int]:
    """Return where maxima and tail sums lie in what is kept: a row factor, tail sums, maxima."""
    return kept + 16 + 8 * count, kept + 16


@cache
def kernels_of(
    asked: Asked, classes: int, apart: bool, few: bool, home: Any, index: int
) -> Kernels:
    """Return what computes such rows; few: and adds them up, if one launch can."""
    p = plan(classes, ITEMSIZES[asked.stored], apart)
    capability = home.capability(index)
    steps = stages(p, capability)
    adds = few and len(steps) == 1
    found = [
        driver.load(constants(p, asked, stage, adds), capability, index, p.shared)
        for stage in steps
    ]
    return Kernels(tuple(found), p.threads, p.threads // p.group, p.parts, adds)


@cache
def sums_of(acc: Any, home: Any, index: int) -> Any:
    """Return what adds up row losses of this dtype."""
    capability = home.capability(index)
    return driver.load(sums(dtype_name(acc)), capability, index)
