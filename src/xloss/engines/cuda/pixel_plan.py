"""Which calls the kernel of pixels.cuh takes, and how rows are divided among threads there."""

from __future__ import annotations

from ..row_layout import RowLayout
from .launch_plan import ITEMSIZES, VECTOR, Asked, Plan, plan

_HELD = 24  # classes, at most, that a thread holds in registers
# Threads of a block: the most whose rows fit into so many bytes of shared memory. The last block
# adds up a number of every block, so that few large blocks end sooner; but several blocks must fit
# a multiprocessor.
_THREADS, _ROOMY = (256, 128, 64), 64 * 1024
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
    if not plain or itemsize == 8 or x.class_step == 1 or pixel_plan(classes, asked) is None:
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


def held(classes: int, asked: Asked) -> int:
    """Return how many classes a thread holds in registers: all, or 0 where it stages them.

    It stages them where they are too many, and where the rest of its work takes so many registers
    that too few threads would fit a multiprocessor. The conversion of float16 does, and so do the
    factors of the gradients of a thread's two rows of 16 bits.
    """
    crowded = asked.stored == "float16" or (asked.stored == "bfloat16" and asked.grad)
    return 0 if crowded or classes > _HELD else classes


def pixel_plan(classes: int, asked: Asked) -> Plan | None:
    """Return the plan for rows of so many classes; None where they are too many to be staged."""
    p = plan(classes, ITEMSIZES[asked.stored], True)
    each = 0 if held(classes, asked) else _row_memory(classes, asked)
    threads = next((n for n in _THREADS if each * n <= _ROOMY), _THREADS[-1])
    p = p._replace(threads=threads)
    return p if pixel_memory(p, classes, asked) <= _MOST_STAGED else None


def pixel_memory(p: Plan, classes: int, asked: Asked) -> int:
    """Return the bytes of shared memory of a block."""
    if held(classes, asked):
        return p.shared
    return max(p.shared, _row_memory(classes, asked) * p.threads)


def _row_memory(classes: int, asked: Asked) -> int:
    """Return the bytes of shared memory in which a thread stages its rows, in whole vectors."""
    vector = VECTOR // ITEMSIZES[asked.stored]
    return -(-classes // vector) * vector * WORD
