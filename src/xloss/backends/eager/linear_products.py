"""The three matrix products of linear cross-entropy, and what they are computed in.

16-bit features and a weight of the same dtype multiply as they are where a library's product adds
up in float32; all else in the dtype of the arithmetic, the weight converted piece by piece.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Protocol

from ..._arrays.context import Context
from ..._arrays.inspect import Array
from ...core import linear as cutting

ALIGNED = 8  # 16-bit elements: where rows begin at multiples of 16 bytes, tensor cores load faster


class Products(Protocol):
    """What multiplies; logits z (rows, classes) and gradients to features are in the wide dtype."""

    dtype: Any  # of features and of a logit's gradient
    lifted: bool  # a gradient must be lifted into the range of that dtype

    def gradient(self, z: Array) -> Array:
        """Return where a block's gradient goes: in front of its logits, in their memory.

        Row i of n-byte gradients ends before row i + 1 of 2n-byte logits begins, so that rows may
        be written in their order while later ones are still to be read.
        """

    def logits(self, x: Array, z: Array) -> None:
        """Put x @ weight.T into z."""

    def features(self, g: Array, out: Array) -> None:
        """Put g @ weight into the gradient to some rows of features."""

    def add(self, total: Array, g: Array, x: Array, first: bool) -> None:
        """Add g.T @ x to the gradient to the weight, which holds nothing before the first block."""


class Converted:
    """Products in the dtype of the arithmetic."""

    lifted = False

    def __init__(self, cx: Context, weight: Array) -> None:
        self.cx, self.weight, self.dtype = cx, weight, cx.compute_dtype
        self.classes = weight.shape[0]
        # Classes whose weights are converted at once: never all of a large weight.
        self.few = max(1, min(self.classes, cutting.WEIGHT_CHUNK // max(1, weight.shape[1])))

    def pieces(self) -> Iterator[tuple[slice, Array]]:
        """Yield the weight, converted in pieces where it must be."""
        if self.weight.dtype == self.cx.compute_dtype:
            if self.classes:
                yield slice(0, self.classes), self.weight
            return
        # One room for all pieces: fresh ones, freed, stay with the process as fragments, several
        # times a piece's size.
        shape = self.few, self.weight.shape[1]
        room = self.cx.xp.empty(shape, dtype=self.cx.compute_dtype, device=self.cx.device)
        for c in cutting.spans(self.classes, self.few):
            w = room[: c.stop - c.start, ...]
            self.cx.cast_into(self.weight[c, ...], w)
            yield c, w

    def gradient(self, z: Array) -> Array:
        """Let it replace the logits."""
        return z

    def logits(self, x: Array, z: Array) -> None:
        """Put x @ weight.T into z."""
        for c, w in self.pieces():
            self.cx.matmul_into(x, w.T, z[:, c])

    def features(self, g: Array, out: Array) -> None:
        """Put g @ weight into out."""
        if not self.classes:  # a rank without any
            out[...] = 0.0
        for i, (c, w) in enumerate(self.pieces()):
            if i:
                self.cx.matmul_add(out, g[:, c], w, g.shape[0])
            else:
                self.cx.matmul_into(g[:, c], w, out)

    def add(self, total: Array, g: Array, x: Array, first: bool) -> None:
        """Add g.T @ x to a sum that began as zeros."""
        self.cx.matmul_add(total, g.T, x, self.few)


def row_length(classes: int) -> int:
    """Return the 16-bit elements from one row of gradients to the next, at most twice as many."""
    return -(-classes // ALIGNED) * ALIGNED if classes >= ALIGNED else classes
