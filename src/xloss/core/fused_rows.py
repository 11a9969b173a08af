"""Maxima and tail sums of rows, in forms that XLA adds up without writing what it adds.

XLA's compiler for processors writes an array of the size of the logits before it adds up terms with
a comparison or a selection, and where two sums share terms. It adds up a plain exponential at full
speed, and a row of 100,000 classes several times faster in pieces than as a whole.

Its compilers for GPUs write no such array. There every pass over the logits counts, and the plain
formula has the fewest: one for the maxima, one for both sums.
"""

from __future__ import annotations

from functools import partial

from .._arrays.context import Context
from .._arrays.inspect import Array

# Classes up to which each is an operation of its own, all of them one loop over the rows.
FEW = 64
# Classes of a piece of a row. A piece is read twice, so that it must be a small part of the row.
LONGEST_PIECE, SHORTEST_PIECE, FEWEST_PIECES = 512, 16, 32


def maximum_and_tail_sum(z: Array, cx: Context) -> tuple[Array, Array]:
    """Return the maxima, (*rows, 1), and the tail sums, (*rows), of logits (*rows, classes)."""
    classes = z.shape[-1]
    on_host = _by_sign  # of a number of classes that is a symbol
    if isinstance(classes, int):
        on_host = _by_class if classes <= FEW else _by_piece
    ways = (partial(way, cx=cx) for way in (on_host, _by_sign, _by_comparison))
    found: tuple[Array, Array] = cx.by_processor(*ways, z)
    return found


def compared(z: Array, m: Array, cx: Context) -> tuple[Array, Array]:
    """Return where z is at its row's maximum, and exp(z - m), which is 0 there by selection.

    Selected, not multiplied: z - m is NaN where m is infinite, and a NaN logit must stay NaN.
    """
    at_max = z == m
    return at_max, cx.fill(cx.xp.exp(z - m), at_max, 0.0)


def _by_comparison(z: Array, cx: Context) -> tuple[Array, Array]:
    """Add up what is below the maximum and what is at it, as every other library does."""
    m = cx.max_last(z)
    at_max, below_max = compared(z, m, cx)
    return m, cx.sum_last(below_max) + (cx.count_true(at_max, m) - 1.0)


def _by_class(z: Array, cx: Context) -> tuple[Array, Array]:
    xp = cx.xp
    columns = [z[..., j] for j in range(z.shape[-1])]
    m = columns[0]
    for column in columns[1:]:
        m = xp.maximum(m, column)
    # Divided by 1, which XLA cannot know: it computes a quotient once for all its uses, and would
    # find a plain maximum anew for every class of a gradient.
    one = xp.where(m == m, 1.0, xp.nan)
    m = m / one
    below, ties = xp.zeros_like(m), xp.full_like(m, -1.0)
    for column in columns:
        at_max = column == m
        below = below + xp.where(at_max, 0.0, xp.exp(column - m))
        ties = ties + xp.where(at_max, 1.0, 0.0)
    tail_sum = (below + ties) / one
    return xp.expand_dims(m, axis=-1), cx.cast(tail_sum, cx.sum_dtype)


def _by_piece(z: Array, cx: Context) -> tuple[Array, Array]:
    """Add up pieces of each row; only in one with the maximum must nothing be lost beside a 1."""
    xp = cx.xp
    classes = z.shape[-1]
    most = min(LONGEST_PIECE, classes // FEWEST_PIECES)
    length = next((n for n in range(most, SHORTEST_PIECE - 1, -1) if classes % n == 0), 0)
    if not length:
        m = cx.max_last(z)
        return m, _selected(z, m, _exact_tail_sum(z, m, cx), cx)
    pieces = xp.reshape(z, (*z.shape[:-1], classes // length, length))
    (maxima,) = cx.apart(xp.max(pieces, axis=-1))  # or XLA would find the rows' maxima anew
    m = cx.max_last(maxima)
    sums = xp.sum(xp.exp(pieces - m[..., None]), axis=-1)
    first = xp.argmax(maxima, axis=-1, keepdims=True)
    own = xp.squeeze(xp.take_along_axis(pieces, first[..., None], axis=-2), axis=-2)
    others = xp.where(cx.arange(classes // length) == first, 0.0, sums)
    own, peak = cx.apart(own, m)
    return m, _selected(z, m, _exact_tail_sum(own, peak, cx) + cx.sum_last(others), cx)


def _exact_tail_sum(z: Array, m: Array, cx: Context) -> Array:
    """Return the tail sums of rows with a finite maximum.

    A term is its fraction and, where it is 1, a tie. exp(0) is 1 exactly, and what is so close to
    the maximum that its exponential is rounded to 1 counts 1 as a tie too.
    """
    xp = cx.xp
    e = xp.exp(z - m)
    fractions = cx.sum_last(e - xp.floor(e))
    z, m = cx.apart(z, m)
    return fractions + (cx.sum_last(xp.floor(xp.exp(z - m))) - 1.0)


def _selected(z: Array, m: Array, tail_sum: Array, cx: Context) -> Array:
    """Return the tail sums where rows may have an infinite maximum, whose gaps are NaN."""
    xp = cx.xp
    peak = xp.squeeze(m, axis=-1)

    def infinities(z: Array) -> Array:
        # Half of the largest number is not taken for infinity.
        most = float(xp.finfo(cx.compute_dtype).max)
        return cx.sum_last(xp.minimum(xp.exp(0.5 * z - most), 1.0)) - 1.0

    infinite = peak == xp.inf
    counted = cx.rarely(xp.any(infinite), infinities, lambda z: xp.zeros_like(tail_sum), z)
    tail_sum = xp.where(infinite, counted, tail_sum)
    # In a row that is all masked every class is at the maximum.
    return xp.where(peak == -xp.inf, z.shape[-1] - 1.0, tail_sum)


def _by_sign(z: Array, cx: Context) -> tuple[Array, Array]:
    """Add up two sums of arithmetic terms without a rare path and without a reshape.

    The sign of a class's gap to the maximum, 0 or 1, takes the place of a comparison. In a row
    whose maximum is infinite finite logits are halved, so that none of them is taken for the
    largest number, which stands for infinity.
    """
    xp = cx.xp
    m = cx.max_last(z)
    most = float(xp.finfo(cx.compute_dtype).max)
    half, top = xp.where(m == xp.inf, 0.5, 1.0), xp.minimum(m, most)
    gap = top - xp.minimum(z * half, most)
    half, top = cx.apart(half, top)
    below = cx.sum_last(xp.sign(top + xp.maximum(z * -half, -most)))
    tail_sum = cx.sum_last(xp.exp(-gap) * xp.sign(gap)) + (z.shape[-1] - 1 - below)
    # In a row that is all masked every class is at the maximum, although the gaps are NaN.
    return m, xp.where(xp.squeeze(m, axis=-1) == -xp.inf, z.shape[-1] - 1.0, tail_sum)
