"""How a row is divided among the threads of a GPU.

The number of classes alone decides, so that a row's bits do not depend on the batch.
"""

from __future__ import annotations

from typing import NamedTuple

Constants = tuple[tuple[str, int], ...]

VECTOR = 16  # bytes that a thread reads or writes at once
ROOM = 228 * 1024  # bytes of a multiprocessor's shared memory
REGISTERS = 65536  # of a multiprocessor
TAKEN = 1024 + 512  # of them, what a block takes beside its rows: the system's, and statistics
KINDS = {"float16": 0, "bfloat16": 1, "float32": 2, "float64": 3}
ITEMSIZES = {"float16": 2, "bfloat16": 2, "float32": 4, "float64": 8}
# (16-byte vectors in a row at most, threads of a block that share a row, blocks that share a row,
# vectors that a thread stages, how many of them in registers). Rows up to the last line's length
# are read from memory once: they stay staged until their gradient is written.
_SHAPES = (
    (2, 1, 1, 4, 0),
    (16, 4, 1, 4, 0),
    (32, 4, 1, 8, 0),
    (64, 4, 1, 16, 0),
    (128, 8, 1, 16, 0),
    (256, 16, 1, 16, 0),
    (512, 32, 1, 16, 0),
    (1024, 64, 1, 16, 0),
    (2048, 128, 1, 16, 2),
    (4096, 128, 2, 16, 2),
    (8192, 256, 2, 16, 0),
    (16384, 256, 4, 16, 0),
    (32768, 256, 8, 16, 0),
    (65536, 256, 16, 16, 0),
)
# Where so many threads share a row, a launch with the gradient has twice as many, each with half
# the vectors: it writes faster. Losses alone are faster with these. Their launch adds up every
# second of a thread's vectors apart, so that a loss has the same bits in both.
_DOUBLED = (8, 16)
# Parts of rows, or rows, that a block computes one after another, at most: where it reads the next
# part while it adds up this one, and where it is one of a cluster.
_ROUNDS_OF_PARTS, _ROUNDS_OF_CLUSTERS = 2, 4
_ENOUGH = 2048  # blocks, at least, of a launch whose blocks compute several rows
_FEW_THREADS = 64  # of a row, at most, which wait for each other at no great cost
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
    held: int = 0  # vectors, of those, that stay in registers instead of shared memory
    split: int = 1  # sums that a thread keeps apart: those of every second vector, where it is 2

    @property
    def shared(self) -> int:
        """Return the bytes of shared memory in which a block stages its rows."""
        return VECTOR * (self.vectors - self.held) * self.threads


def plan(classes: int, itemsize: int, apart: bool) -> Plan:
    """Return the plan for rows of so many classes; apart: they do not lie side by side."""
    vectors = -(-classes * itemsize // VECTOR)
    if apart or vectors <= _SHAPES[0][0]:
        staged = next((n for n in (2, 4, 8) if vectors <= n), _APART)
        return Plan(_APART_BLOCK, 1, 1, staged, True, vectors <= staged)
    _, group, parts, staged, held = next((s for s in _SHAPES if vectors <= s[0]), _SHAPES[-1])
    threads = max(group, _BLOCK if group <= 32 else 0)
    once, split = vectors <= group * parts * staged, 2 if group in _DOUBLED else 1
    return Plan(threads, group, parts, staged, False, once, held, split)


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

    @property
    def light(self) -> bool:
        """Tell whether rows need no sum in float64 and no mixture, as `LIGHT` of staging.cuh."""
        mixed = self.soft is not None or self.smooth
        return not (mixed or self.z_loss) and self.stored != "float64"


class Step(NamedTuple):
    """One of the launches that compute rows."""

    plan: Plan
    stage: int  # as staging.cuh counts
    rows: int  # rows that a block computes at the same time
    parts: int  # blocks that share a row
    rounds: int = 1  # rows, at most, that a block computes one after another

    def grid(self, count: int, most: int) -> int:
        """Return the number of blocks for so many rows."""
        blocks = -(-count // self.rows)
        # A GPU must have enough blocks: several for each that it can hold at the same time.
        rounds = max(1, min(self.rounds, blocks * self.parts // _ENOUGH))
        return min(-(-blocks // rounds), most // self.parts) * self.parts


def settling(p: Plan) -> int:
    """Return how many lanes of a warp settle a row in the second launch of losses alone."""
    return min(32, 1 << (p.parts * p.group // 32 - 1).bit_length())


def steps(p: Plan, asked: Asked, capability: int, few: bool) -> tuple[Step, ...]:
    """Say in which launches rows are computed.

    Usually it is one. Losses alone of long rows take two, so that no thread waits for another;
    few rows take one launch all the same, because the second would cost more. The blocks of a row
    are a cluster, or three launches on a GPU without clusters.
    """
    if p.split == 2 and asked.light and asked.grad:
        p = Plan(2 * p.threads, 2 * p.group, 1, p.vectors // 2, False, True)
    rows = p.threads // p.group
    # Beyond 9.x and 10.x, which have 16 blocks a cluster, GPUs have 8.
    clusters = p.parts == 1 or (capability >= 90 and (p.parts <= 8 or capability < 110))
    if not asked.light or asked.cap:
        p = p._replace(held=0)  # registers are needed for other things
    if asked.light and not asked.grad and p.group > _FEW_THREADS and not (few and clusters):
        first, last = p._replace(held=0), p._replace(vectors=2, held=0, once=False)
        rows = p.threads // settling(p)
        return Step(first, 4, 1, p.parts, _ROUNDS_OF_PARTS), Step(last, 5, rows, 1)
    if not clusters:
        return tuple(Step(p, stage, rows, p.parts) for stage in (1, 2, 3))
    return (Step(p, 0, rows, p.parts, 1 if p.parts == 1 else _ROUNDS_OF_CLUSTERS),)


def resident(p: Plan, asked: Asked) -> int:
    """Return how many blocks a multiprocessor should hold: as many as its shared memory does.

    It limits a kernel's registers, but not to fewer than it needs: it would put numbers aside in
    memory.
    """
    if not asked.light or asked.cap:
        return 1
    return min(ROOM // (p.shared + TAKEN), REGISTERS // 64 // p.threads)


def left(p: Plan, asked: Asked) -> int:
    """Return the bytes that a block leaves between launches for the others of its row."""
    size = 8 if asked.stored == "float64" else 4
    pieces = -(-3 * size * (p.group // min(p.group, 32)) // 8) * 8
    sums = 8 if asked.soft is not None or asked.smooth else 2
    return pieces + sums * 2 * size


def constants(p: Plan, asked: Asked, stage: int = 0, adds: bool = False) -> Constants:
    """Name the constants of staging.cuh: the fields of both records, and what follows from them.

    stage: 0 where the blocks of a row are a cluster.
    """
    values = {
        **p._asdict(),
        **asked._asdict(),
        "stored": KINDS[asked.stored],
        "soft": -1 if asked.soft is None else KINDS[asked.soft],
        "resident": resident(p, asked),
        "stage": stage,
        "left": left(p, asked),
        "adds": adds,
    }
    return tuple((name.upper(), int(value)) for name, value in values.items())


def sums(acc: str, labels: int, weighed: bool) -> Constants:
    """Name the constants of sums.cuh; acc: the dtype of the losses; the others as in `Asked`."""
    return ("SUMS", 1), ("STORED", KINDS[acc]), ("LABELS", labels), ("WEIGHED", int(weighed))
