"""How a row is divided among the threads of a GPU: by its classes alone, so that bits are too."""

from __future__ import annotations

from typing import NamedTuple

Constants = tuple[tuple[str, int], ...]

VECTOR = 16  # bytes that a thread reads or writes at once
KINDS = {"float16": 0, "bfloat16": 1, "float32": 2, "float64": 3}
# (16-byte vectors in a row, threads to a row, blocks to a row, vectors a thread has in flight).
# Up to the last line a row is read once: its threads keep it until its gradient is written.
_SHAPES = (
    (2, 1, 1, 4), (16, 4, 1, 4), (32, 8, 1, 4), (64, 16, 1, 4), (128, 32, 1, 4), (256, 64, 1, 4),
    (512, 128, 1, 4), (1024, 256, 1, 4), (2048, 512, 1, 4), (4096, 512, 2, 4), (8192, 512, 4, 4),
    (16384, 512, 8, 4), (32768, 512, 8, 8),
)  # fmt: skip
_BLOCK = 128  # threads, where several rows share a block


class Plan(NamedTuple):
    """What a kernel of rows is compiled for, and how it is launched."""

    threads: int
    group: int  # threads to a row
    parts: int  # blocks to a row
    vectors: int
    apart: bool  # the classes of a row do not lie side by side, or are few


def plan(classes: int, itemsize: int, apart: bool) -> Plan:
    """Divide rows of so many classes."""
    vectors = -(-classes * itemsize // VECTOR)
    if apart or vectors <= _SHAPES[0][0]:
        return Plan(_BLOCK, 1, 1, 4, True)
    _, group, parts, held = next((s for s in _SHAPES if vectors <= s[0]), _SHAPES[-1])
    return Plan(max(group, _BLOCK if group <= 32 else 0), group, parts, held, False)


def constants(
    p: Plan, stored: str, soft: str | None, *, smooth: bool, cap: bool, grad: bool, stage: int
) -> Constants:
    """Name the constants of rows.cuh; stage: 0 where the blocks of a row are a cluster."""
    values = {
        "STORED": KINDS[stored], "SOFT": -1 if soft is None else KINDS[soft],
        "THREADS": p.threads, "GROUP": p.group, "PARTS": p.parts, "VECTORS": p.vectors,
        "APART": p.apart, "SMOOTH": smooth, "CAP": cap, "GRAD": grad, "STAGE": stage,
        "FAST": stored in ("float16", "bfloat16"),
    }  # fmt: skip
    return tuple((name, int(value)) for name, value in values.items())


def stages(p: Plan, capability: int) -> tuple[int, ...]:
    """Say in which launches rows are computed: one, or three where a GPU has no clusters."""
    return (0,) if p.parts == 1 or capability >= 90 else (1, 2, 3)


def sums(acc: str) -> Constants:
    """Name the constants of sums.cuh."""
    return (("SUMS", 1), ("STORED", KINDS[acc]))
