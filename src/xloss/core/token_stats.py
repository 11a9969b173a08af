"""What a training log needs of each row beside its loss, from the same pass over the logits."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

from .._arrays.context import Context
from .._arrays.inspect import Array, dtype_name
from .options import Options, Outputs
from .row_stats import RowStats, log1p_tail
from .softmax import z_term
from .targets import Targets


class Tokens(NamedTuple):
    """Numbers of each row, (*rows), in the dtype of the arithmetic where nothing else is said."""

    lse: Array  # -inf for a row with no possible class
    correct: Array  # bool
    max_prob: Array
    z_term: Array
    weight: Array  # W, the row's share of the mean's denominator, in the sums' dtype
    entropy: Array | None = None
    rank: Array | None = None  # in the labels' dtype


class Scan(NamedTuple):
    """The sums of a row that no loss needs, (*rows)."""

    gap: Array | None  # Σ exp(z - m) (m - z), in the dtype of the sums; None: no entropy asked for
    ahead: Array  # the target's rank; where it is not asked for, any number but 0 stands for such


def dtypes(cx: Context, asked: Outputs) -> dict[str, Any]:
    """Return the dtypes of the fields that are asked for, by name, in their order."""
    kinds = {"correct": cx.xp.bool, "weight": cx.sum_dtype, "rank": cx.label_dtype}
    there = {"entropy": asked.entropy, "rank": asked.rank}
    names = (name for name in Tokens._fields if there.get(name, True))
    return {name: kinds.get(name, cx.compute_dtype) for name in names}


def of_fields(values: Iterable[Any], asked: Outputs) -> Tokens:
    """Return the fields that are asked for in their places."""
    there, given = {"entropy": asked.entropy, "rank": asked.rank}, iter(values)
    made: Any = (next(given) if there.get(name, True) else None for name in Tokens._fields)
    return Tokens(*made)


def mapped(function: Callable[[Array], Array], tokens: Iterable[Array | None]) -> Tokens:
    """Apply a function to every field that is there."""
    made: Any = (None if a is None else function(a) for a in tokens)
    return Tokens(*made)


def room(rows: tuple[int, ...], cx: Context, asked: Outputs) -> Tokens:
    """Return arrays of our own for rows to be written into."""
    empty = cx.xp.empty
    made = (empty(rows, dtype=d, device=cx.device) for d in dtypes(cx, asked).values())
    return of_fields(made, asked)


def target_labels(t: Targets, cx: Context) -> Array:
    """Return the class that each row should predict: of soft targets the first of the largest."""
    if t.labels is not None:
        return t.labels
    assert t.probs is not None
    return first_largest(t.probs, cx)


def first_largest(x: Array, cx: Context) -> Array:
    """Return the first class of the largest number of each row, any where that is NaN."""
    xp = cx.xp
    if dtype_name(cx.label_dtype) == "int64":
        return xp.argmax(x, axis=-1)
    # Some devices lack the 64-bit integers that argmax returns.
    classes = cx.arange(x.shape[-1])
    none = xp.full_like(classes, x.shape[-1] - 1)
    return xp.min(xp.where(x == cx.max_last(x), classes, none), axis=-1)


def rank_of(x: Array, t: Targets, cx: Context, ranked: bool) -> Array:
    """Count the classes before the target's, (*rows): larger, or as large with a smaller number.

    x is (*rows, classes), before a softcap, which would make ties of logits that differ. Without
    `ranked`: 0 for the first of the largest, 1 for every other class.
    """
    xp = cx.xp
    labels = target_labels(t, cx)
    if not ranked:
        return cx.cast(first_largest(x, cx) != labels, cx.label_dtype)
    at_label = xp.expand_dims(cx.gather(x, labels), axis=-1)
    before = cx.arange(x.shape[-1]) < labels[..., None]
    ahead = (x > at_label) | ((x == at_label) & before)
    return xp.sum(cx.cast(ahead, cx.label_dtype), axis=-1, dtype=cx.label_dtype)


def finished(
    loss: Array, s: RowStats, scan: Scan, t: Targets, options: Options, cx: Context, classes: int
) -> Tokens:
    """Return the numbers of rows from their statistics; `scan.ahead` becomes the rank.

    loss is (*rows), with NaN in the rows of invalid labels, and 0 in absent rows.
    """
    xp = cx.xp

    def shown(values: Array, absent: Any = 0.0) -> Array:
        """Return numbers with those of absent rows selected, whatever stands in them."""
        return values if t.row_present is None else xp.where(t.row_present, values, absent)

    log1p_r = log1p_tail(s, cx)
    empty = s.max == -xp.inf
    # The tail sum of such a row is finite, or holds a NaN whose sign has hidden it from a maximum.
    lse = cx.cast(s.max, cx.sum_dtype) + xp.where(empty, s.tail_sum, log1p_r)
    mass = xp.where(empty, xp.nan, 1.0 + s.tail_sum)
    zeros = xp.zeros_like(log1p_r)
    by_lse = z_term(s, t, options, cx)[0] if options.z_loss else zeros
    if options.z_loss and t.label_invalid is not None:
        by_lse = xp.where(t.label_invalid, xp.nan, by_lse)
    # A row of NaN has no order, and an absent one no target: neither is among the first k.
    ordered = shown(loss == loss, False)
    rank = xp.where(ordered, scan.ahead, cx.cast(zeros + classes, cx.label_dtype))
    weight = zeros + 1.0 if t.row_weight is None else t.row_weight
    entropy = None
    if scan.gap is not None:
        entropy = cx.cast(shown(log1p_r + scan.gap / mass), cx.compute_dtype)
    lse, max_prob, by_lse = (cx.cast(shown(v), cx.compute_dtype) for v in (lse, 1.0 / mass, by_lse))
    return Tokens(lse, rank == 0, max_prob, by_lse, shown(weight), entropy, rank)
