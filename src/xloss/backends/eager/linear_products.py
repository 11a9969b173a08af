"""The three matrix products of linear cross-entropy, and the dtype that each is computed in.

Features and a weight that are both float16, or both bfloat16, are multiplied in that dtype where
the library's product adds up in float32. Everything else is multiplied in the dtype of the
arithmetic, to which the weight is converted a few classes at a time.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Protocol

from ..._arrays.context import Context
from ..._arrays.inspect import Array
from ...core import linear as cutting

ALIGNED = 8  # 16-bit elements, or 16 bytes: tensor cores load rows faster that begin at a multiple


class Products(Protocol):
    """What multiplies the matrices of one call.

    x: (rows, features) and g: (rows, classes), the gradient to logits, are in `dtype`.
    z: (rows, classes), the logits, and the gradient to features are in the dtype of the arithmetic.
    """

    dtype: Any
    lifted: bool  # gradients to logits must be scaled up, to be within the range of `dtype`

    def gradient(self, z: Array) -> Array:
        """Return the memory of a block's gradient: it begins where the memory of its logits does.

        Row i of a gradient of n-byte elements ends before row i + 1 of logits of 2n-byte elements
        begins. Rows that are written in order overwrite no logits that are still to be read.
        """

    def logits(self, x: Array, z: Array) -> None:
        """Put x @ weight.T into z."""

    def features(self, g: Array, out: Array) -> None:
        """Put g @ weight into out: (rows, features)."""

    def add(self, total: Array, g: Array, x: Array, first: bool) -> None:
        """Add g.T @ x to total: (classes, features), whose values before `first` mean nothing."""


class Converted:
    """Products in the dtype of the arithmetic."""

    lifted = False

    def __init__(self, cx: Context, weight: Array) -> None:
        self.cx, self.weight, self.dtype = cx, weight, cx.compute_dtype
        self.classes = weight.shape[0]
        # How many classes are converted at once: never all of a large weight.
        self.few = max(1, min(self.classes, cutting.WEIGHT_CHUNK // max(1, weight.shape[1])))

    def class_slices(self) -> Iterator[tuple[slice, Array]]:
        """Yield slices of the classes with their weights, converted where that is necessary."""
        if self.weight.dtype == self.cx.compute_dtype:
            if self.classes:
                yield slice(0, self.classes), self.weight
            return
        # One buffer for all slices. A new array for each, freed again, would leave fragments in
        # the process that add up to several times a slice's size.
        shape = self.few, self.weight.shape[1]
        buffer = self.cx.xp.empty(shape, dtype=self.cx.compute_dtype, device=self.cx.device)
        for c in cutting.spans(self.classes, self.few):
            w = buffer[: c.stop - c.start, ...]
            self.cx.cast_into(self.weight[c, ...], w)
            yield c, w

    def gradient(self, z: Array) -> Array:
        """Return the logits themselves: the gradient replaces them."""
        return z

    def logits(self, x: Array, z: Array) -> None:
        """Put x @ weight.T into z."""
        for c, w in self.class_slices():
            self.cx.matmul_into(x, w.T, z[:, c])

    def features(self, g: Array, out: Array) -> None:
        """Put g @ weight into out."""
        if not self.classes:  # this rank holds none, and the loop below would write nothing
            out[...] = 0.0
        for i, (c, w) in enumerate(self.class_slices()):
            if i:
                self.cx.matmul_add(out, g[:, c], w, g.shape[0])
            else:
                self.cx.matmul_into(g[:, c], w, out)

    def add(self, total: Array, g: Array, x: Array, first: bool) -> None:
        """Add g.T @ x to a sum that began as zeros."""
        self.cx.matmul_add(total, g.T, x, self.few)


def row_length(classes: int) -> int:
    """Return how many 16-bit elements lie from one row of a gradient to the next.

    At most twice the number of classes, so that the gradient has room in its logits' memory.
    """
    return -(-classes // ALIGNED) * ALIGNED if classes >= ALIGNED else classes
