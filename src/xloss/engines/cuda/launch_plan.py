"""How a row is divided among the threads of a GPU.

The number of classes alone decides, so that a row's bits do not depend on the batch.
"""

from __future__ import annotations

from typing import NamedTuple

Constants = tuple[tuple[str, int], ...]

VECTOR = 16  # bytes that a thread reads or writes at once
KINDS = {"float16": 0, "bfloat16": 1, "float32": 2, "float64": 3}
ITEMSIZES = {"float16": 2, "bfloat16": 2, "float32": 4, "float64": 8}
# (16-byte vectors in a row at most, threads of a block that share a row, blocks that share a row,
# vectors that a thread stages). Rows up to the last line's length are read from memory once: they
# stay staged until their gradient is written.
_SHAPES = (
    (2, 1, 1, 4),
    (16, 4, 1, 4),
    (32, 4, 1, 8),
    (64, 4, 1, 16),
    (128, 8, 1, 16),
    (256, 16, 1, 16),
    (512, 32, 1, 16),
    (1024, 64, 1, 16),
    (2048, 128, 1, 16),
    (4096, 128, 2, 16),
    (8192, 256, 2, 16),
    (16384, 256, 4, 16),
    (32768, 256, 8, 16),
)
_BLOCK = 64  # threads of a block with several rows: small blocks use shared memory completely
_APART_BLOCK, _APART = 128, 16  # threads, and vectors a thread stages, where classes lie apart


class Plan(NamedTuple):
    """What a kernel of rows is compiled for, and how it is launched."""

    threads: int
    group: int  # threads of a block that share a row
    parts: int  # blocks that share a row
    vectors: int  # vectors that a thread stages
    apart: bool  # the classes of a row do not lie side by side, or are few
    once: bool  # all of a row is staged at once

    @property
    def shared(self) -> int:
        """Return the bytes of shared memory in which a block stages its rows."""
        return VECTOR * self.vectors * self.threads


def plan(classes: int, itemsize: int, apart: bool) -> Plan:
    """Return the plan for rows of so many classes; apart: they do not lie side by side."""
    vectors = -(-classes * itemsize // VECTOR)
    if apart or vectors <= _SHAPES[0][0]:
        staged = next((n for n in (2, 4, 8) if vectors <= n), _APART)
        return Plan(_APART_BLOCK, 1, 1, staged, True, vectors <= staged)
    most, group, parts, staged = next((s for s in _SHAPES if vectors <= s[0]), _SHAPES[-1])
    threads = max(group, _BLOCK if group <= 32 else 0)
    return Plan(threads, group, parts, staged, False, vectors <= most)


class Asked(NamedTuple):
    """What a kernel of rows computes, beside its plan: the rest of its compile-time constants."""

    stored: str  # the logits' dtype
    soft: str | None  # the soft targets' dtype; None: labels
    labels: int  # how class indices are stored, as `integer_at` of memory.cuh counts
    weighed: bool  # there are weights of rows or classes, or `where`
    flat: bool  # rows follow each other at one step
    smooth: bool
    cap: bool
    z_loss: bool
    grad: bool


def constants(p: Plan, asked: Asked, stage: int = 0, adds: bool = False) -> Constants:
    """Name the constants of passes.cuh; stage: 0 where the blocks of a row are a cluster."""
    values = {
        "STORED": KINDS[asked.stored],
        "SOFT": -1 if asked.soft is None else KINDS[asked.soft],
        "LABELS": asked.labels,
        "WEIGHED": asked.weighed,
        "FLAT": asked.flat,
        "THREADS": p.threads,
        "GROUP": p.group,
        "PARTS": p.parts,
        "VECTORS": p.vectors,
        "APART": p.apart,
        "ONCE": p.once,
        "SMOOTH": asked.smooth,
        "CAP": asked.cap,
        "Z_LOSS": asked.z_loss,
        "GRAD": asked.grad,
        "STAGE": stage,
        "ADDS": adds,
    }
    return tuple((name, int(value)) for name, value in values.items())


def stages(p: Plan, capability: int) -> tuple[int, ...]:
    """Say in which launches rows are computed: one, or three where a GPU has no clusters."""
    return (0,) if p.parts == 1 or capability >= 90 else (1, 2, 3)


def sums(acc: str, labels: int | None = None) -> Constants:
    """Name the constants of sums.cuh; labels: the type of labels, by which rows are counted."""
    given = ("SUMS", 1), ("STORED", KINDS[acc])
    return given if labels is None else (*given, ("LABELS", labels))
