"""Which calls the kernel of pixels.cuh takes, and how rows are divided among threads there."""

from __future__ import annotations

from ..row_layout import RowLayout
from .launch_plan import ITEMSIZES, VECTOR, Asked, Plan, plan

_HELD = 24  # classes, at most, that a thread holds in registers
_HOLDING, _STAGING = 128, 64  # threads of a block that holds them, and of one that stages them
WORD = 4  # bytes that a thread reads of each class
_MOST_STAGED = 96 * 1024  # bytes of shared memory, at most, that a block may have on every GPU


def rows_of_thread(
    asked: Asked, count: int, classes: int, x: RowLayout, to: RowLayout | None
) -> int:
    """Return how many rows a thread takes, one or two; 0 where the kernel does not take the call.

    to: where the gradient's rows lie.
    """
    itemsize = ITEMSIZES[asked.stored]
    plain = asked.soft is None and not (asked.smooth or asked.cap or asked.z_loss)
    if not plain or itemsize == 8 or x.class_step == 1 or pixel_plan(classes, itemsize) is None:
        return 0
    if count >= 2**31:
        return 0
    places = [x] if to is None else [x, to]
    if any(p.class_step * itemsize >= 2**32 or p.inner != x.inner for p in places):
        return 0
    return 2 if itemsize == 2 and count % 2 == 0 and all(map(_in_pairs, places)) else 1


def _in_pairs(p: RowLayout) -> bool:
    """Tell whether every second row of 16-bit numbers begins a word that its neighbour ends."""
    return p.inner_step == 1 and not (
        p.address % WORD or p.inner % 2 or p.outer_step % 2 or p.class_step % 2
    )


def inner_inverse(inner: int) -> int:
    """Return, as a signed word, what the kernel multiplies by instead of dividing by `inner`."""
    found: int = 2**64 // inner + 1
    return (found + 2**63) % 2**64 - 2**63


def held(classes: int) -> int:
    """Return how many classes a thread holds in registers: all, or 0 where they are too many."""
    return classes if classes <= _HELD else 0


def pixel_plan(classes: int, itemsize: int) -> Plan | None:
    """Return the plan for rows of so many classes; None where they are too many to be staged."""
    found = plan(classes, itemsize, True)._replace(threads=_HOLDING if held(classes) else _STAGING)
    return found if pixel_memory(found, classes, itemsize) <= _MOST_STAGED else None


def pixel_memory(p: Plan, classes: int, itemsize: int) -> int:
    """Return the bytes of shared memory of a block."""
    if held(classes):
        return p.shared
    vector = VECTOR // itemsize
    return max(p.shared, -(-classes // vector) * vector * WORD * p.threads)
