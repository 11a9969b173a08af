"""What a loss over a sharded vocabulary moves and holds, by formula: `docs/scale.md` in figures.

Held against counts of real processes in `conformance/test_scale.py`: torch's, and xloss's.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from math import ceil, log2

HEADER = 13 * 8  # what a rank tells of its call, so that all agree: 13 integers
HELD = 160 * 2**20  # bytes of float32 logits that linear_cross_entropy holds at once


@dataclass(frozen=True)
class Network:
    """A network as stated by who sells it, and the latency of a hop as stated below."""

    name: str
    speed: float  # bytes a second, each way, of one rank
    hop: float  # seconds


@dataclass(frozen=True)
class Collective:
    """One collective, and the bytes that each rank puts into it."""

    kind: str  # "all-reduce", "all-gather"
    nbytes: int

    def moved(self, ranks: int) -> float:
        """Return the bytes that each rank sends: what any algorithm must move, and a ring does."""
        if self.kind == "all-reduce":
            return 2 * (ranks - 1) / ranks * self.nbytes
        return (ranks - 1) * self.nbytes

    def seconds(self, ranks: int, network: Network, start: float) -> float:
        """Return the time of a tree's hops, up and down, and of the bytes at full speed."""
        if ranks == 1:
            return 0.0
        hops = ceil(log2(ranks)) * (2 if self.kind == "all-reduce" else 1)
        return start + hops * network.hop + self.moved(ranks) / network.speed


Collectives = tuple[Collective, ...]


def moved(collectives: Iterable[Collective], ranks: int) -> float:
    return sum(each.moved(ranks) for each in collectives)


def seconds(collectives: Iterable[Collective], ranks: int, network: Network, start: float) -> float:
    return sum(each.seconds(ranks, network, start) for each in collectives)


def fields(weighted: bool = False, smoothed: bool = False) -> int:
    """Return how many float64 sums of a row go round in xloss's one SUM.

    The exponentials below the maximum, the ranks that have it, the label's gap and whether the
    label is there; class weights add one, label smoothing three.
    """
    return 4 + weighted + 3 * smoothed


def xloss(rows: int, size: int, weighted: bool = False, smoothed: bool = False) -> Collectives:
    """Return the collectives of vocab_parallel_cross_entropy, logits of `size` bytes an element.

    A header, the rows' maxima, their sums. The backward has none: every rank has all that its own
    slice of the gradient needs.
    """
    return (
        Collective("all-gather", HEADER),
        Collective("all-reduce", rows * max(size, 4)),
        Collective("all-reduce", rows * 8 * fields(weighted, smoothed)),
    )


def megatron(rows: int, size: int, fused: bool = False) -> Collectives:
    """Return Megatron-LM's: maxima, logits at the labels, sums, all of float32; fused: the last two
    in one."""
    del size  # whatever comes is made float32
    sizes = (4, 8) if fused else (4, 4, 4)
    return tuple(Collective("all-reduce", rows * each) for each in sizes)


def loss_parallel(rows: int, size: int) -> Collectives:
    """Return torch's: maxima and sums in float32 at least, the labels' in the logits' dtype."""
    wide = max(size, 4)
    return tuple(Collective("all-reduce", rows * each) for each in (wide, wide, size))


def features_gradient(rows: int, hidden: int, size: int) -> Collectives:
    """Return what any vocabulary-sharded head moves in its backward: the gradient to its input."""
    return (Collective("all-reduce", rows * hidden * size),)


def blocks(rows: int, classes: int, held: int = HELD) -> int:
    """Return in how many blocks of rows linear_cross_entropy takes so many local classes."""
    return ceil(rows / max(1, min(rows, held // (4 * classes))))


def linear(rows: int, classes: int) -> Collectives:
    """Return the forward's of linear_cross_entropy: one header, two all-reduces a block."""
    count = blocks(rows, classes)
    each = [rows // count + (i < rows % count) for i in range(count)]
    return xloss(0, 4)[:1] + tuple(c for n in each for c in xloss(n, 4)[1:])


@dataclass(frozen=True)
class Held:
    """Bytes an element of the shard: what the backward keeps, and the most that is held at once.

    The latter with logits and gradient, where nobody else keeps the logits. What is held for each
    row is not in it.
    """

    saved: int
    forward: int
    backward: int

    @property
    def peak(self) -> int:
        return max(self.forward, self.backward)


def xloss_held(size: int) -> Held:
    """Return xloss's: it saves its input, and makes the gradient a block of rows at a time."""
    return Held(saved=size, forward=size, backward=2 * size)


def megatron_held(size: int) -> Held:
    """Return Megatron-LM's: its float32 softmax, over the logits themselves where they are float32.

    The gradient takes the softmax's place; logits of another dtype get theirs in that dtype beside.
    """
    beside = 0 if size == 4 else size
    return Held(saved=4, forward=4 + beside, backward=4 + beside)


def loss_parallel_held(size: int) -> Held:
    """Return torch's: log-probabilities; beside them two arrays of the shard, three in backward.

    Logits of 16 bits first become float32: logits, shifted and result of 4 bytes, then the result.
    """
    forward = 2 * 4 if size == 4 else 3 * 4 + size
    return Held(saved=size, forward=size + forward, backward=size + 3 * size)
