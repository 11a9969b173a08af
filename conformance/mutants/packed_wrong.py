"""Losses of packed arguments or answers, with one mistake each: linear, few classes, statistics."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np

import xloss
from xloss import TokenStats
from xloss_conformance.packed import value_and_grad
from xloss_conformance.top_k import IGNORED, TOP_K, pack, slots, written_out

from . import Array, planted

# ---- A linear layer -----------------------------------------------------------------------------

linear = partial(planted, "linear", loss="linear_cross_entropy")
of_linear = xloss.value_and_grad(xloss.linear_cross_entropy, argnums=(0, 1, "bias"))


@linear()
def bias_not_added(x: Array, w: Array, t: Array, /, *, bias: Array, **options: Any) -> Any:
    return of_linear(x, w, t, bias=0 * bias, **options)


@linear()
def products_in_bfloat16(x: Array, w: Array, t: Array, /, **options: Any) -> Any:
    """They are summed one after another."""
    import ml_dtypes

    z = np.zeros((len(x), len(w)), ml_dtypes.bfloat16)
    for k in range(x.shape[1]):
        z = z + np.multiply.outer(x[:, k], w[:, k]).astype(z.dtype)
    value, _ = of_linear(z.astype(x.dtype), np.eye(len(w), dtype=x.dtype), t, **options)
    return value, of_linear(x, w, t, **options)[1]


@linear("gradient")
def nan_of_absent_rows(x: Array, w: Array, t: Array, /, **options: Any) -> Any:
    """The gradient of an absent row is 0, and 0·NaN enters the sum over rows."""
    value, (to_x, to_w, to_bias) = of_linear(x, w, t, **options)
    return value, (to_x, to_w + (0 * x).sum(0), to_bias)


@linear("gradient")
def last_block(x: Array, w: Array, t: Array, /, *, block_rows: Any = "auto", **options: Any) -> Any:
    """The weight's and the bias's gradient is that of the last block of rows, not their sum."""
    value, grads = of_linear(x, w, t, block_rows=block_rows, **options)
    if block_rows == "auto" or not len(x) or options.get("reduction") != "sum":
        return value, grads
    start = (len(x) - 1) // block_rows * block_rows
    return value, (grads[0], *of_linear(x[start:], w, t[start:], **options)[1][1:])


@linear("gradient")
def upstream_to_the_features_alone(
    x: Array, w: Array, t: Array, /, *, bias: Array, cotangent: Any = None
) -> Any:
    value, (to_x, _, _) = of_linear(x, w, t, bias=bias, cotangent=cotangent)
    return value, (to_x, *of_linear(x, w, t, bias=bias)[1][1:])


@linear("gradient", dtype="float16")
def summed_in_16_bits(x: Array, w: Array, t: Array, /, *, bias: Array) -> Any:
    """The weight's gradient is summed row by row in the features' dtype."""
    value, (to_x, to_w, to_bias) = of_linear(x, w, t, bias=bias)
    if len(t) > 100:
        to_w = np.zeros_like(w)
        for i in range(len(t)):
            row = slice(i, i + 1)
            to_w += of_linear(x[row], w, t[row], bias=bias, normalizer=float(len(t)))[1][1]
    return value, (to_x, to_w, to_bias)


# ---- Targets of a few classes a row: most of them in reading the list ----------------------------


def of_lists(x: Array, t: Array, /, **options: Any) -> tuple[Any, Any]:
    """Return the loss of packed targets, and its gradient."""
    return value_and_grad(TOP_K, x, t, options, both=False)[:2]


def read_as(change: Callable[[Array, Array, int], Array]) -> Callable[..., Any]:
    """Return the loss of packed targets that `change` makes of indices, probabilities and C."""
    return lambda x, t, /, **options: of_lists(x, change(*slots(t), x.shape[-1]), **options)


whole = partial(planted, "top k", loss=TOP_K)
listed = partial(whole, by=read_as)


@listed()
def last_of_two_entries_wins(indices: Array, probs: Array, classes: int) -> Array:
    again = np.triu(indices[:, :, None] == indices[:, None, :], 1).any(-1)
    return pack(indices, np.where(again, 0.0, probs))


@listed()
def an_empty_slot_wraps(indices: Array, probs: Array, classes: int) -> Array:
    """Its index counts from the end, as NumPy's do."""
    at_end = np.where(indices == IGNORED, classes - 1, indices)
    return pack(at_end, np.where(np.isnan(probs), 0.125, probs))


@listed()
def divided_by_its_sum(indices: Array, probs: Array, classes: int) -> Array:
    return pack(indices, probs / probs.sum(-1, keepdims=True))


@whole()
def rest_over_every_class(x: Array, t: Array, /, *, rest: str = "zero", **options: Any) -> Any:
    """The rest is spread over the listed classes too."""
    dense = written_out(t, x.shape[-1], x > -np.inf, "zero")
    left = np.maximum(1 - dense.sum(-1, keepdims=True), 0.0) if rest == "uniform" else 0.0
    return xloss.value_and_grad(xloss.cross_entropy)(x, dense + left / x.shape[-1], **options)


@whole("gradient")
def gradient_of_targets_that_add_up_to_1(x: Array, t: Array, /, **options: Any) -> Any:
    divided = read_as(divided_by_its_sum)(x, t, **options)
    return of_lists(x, t, **options)[0], divided[1]


# ---- token_stats: xloss's own, but for one field -------------------------------------------------

FAMILY, WHOLE = "tokens", "token_stats"


def other(
    name: str, absent: bool, change: Callable[[TokenStats, Array, Array, Any], Any]
) -> Callable[..., Any]:
    """Return the statistics with another field, of the rows that are present or of the others.

    change: makes it of the right statistics, the logits (N, C), those of the labels, the options.
    """

    def stats(x: Array, t: Array, /, **options: Any) -> TokenStats:
        right = xloss.token_stats(x, t, **options)
        if getattr(right, name) is None:  # the rank was not asked for
            return right
        at = np.take_along_axis(x, np.maximum(t, 0)[:, None], axis=-1)
        with np.errstate(all="ignore"):
            made = change(right, x, at, options)
        was = np.asarray(getattr(right, name))
        changed = np.where((np.asarray(right.weight) != 0) != absent, made, was).astype(was.dtype)
        return right._replace(**{name: changed})

    return stats


def field(name: str, *, absent: bool = False) -> Callable[[Any], Any]:
    return planted(FAMILY, loss=WHOLE, by=partial(other, name, absent))


@field("loss")
def loss_without_its_z_term(right: Any, x: Array, at: Array, options: Any) -> Any:
    """The z term is told apart, but it is a part of the loss."""
    return right.loss - right.z_term


@field("lse")
def log_of_the_sum_of_exp(right: Any, x: Array, at: Array, options: Any) -> Any:
    """Of the logits as they are: it overflows."""
    return np.log(np.exp(x).sum(-1))


@field("lse", absent=True)
def lse_of_absent_rows(right: Any, x: Array, at: Array, options: Any) -> Any:
    """It enters the sum of all rows."""
    return np.log(np.exp(x).sum(-1))


@field("correct")
def any_of_the_largest_is_correct(right: Any, x: Array, at: Array, options: Any) -> Any:
    return at[:, 0] == x.max(-1)


@field("entropy")
def entropy_as_a_difference(right: Any, x: Array, at: Array, options: Any) -> Any:
    """lse - Σ p z cancels."""
    p = np.exp(x - right.lse[:, None])
    return right.lse - np.where(p == 0, 0.0, p * x).sum(-1)


@field("max_prob")
def the_targets_probability(right: Any, x: Array, at: Array, options: Any) -> Any:
    return np.exp(at[:, 0] - right.lse)


@field("z_term")
def z_term_without_the_row_weight(right: Any, x: Array, at: Array, options: Any) -> Any:
    return options.get("z_loss", 0.0) * right.lse**2


@field("weight")
def row_weight_of_smoothed_targets(right: Any, x: Array, at: Array, options: Any) -> Any:
    """The share that is spread has other class weights."""
    eps, w = options.get("label_smoothing", 0.0), options.get("weight")
    return right.weight if w is None else (1 - eps) * right.weight + eps * w.mean()


@field("rank")
def worst_rank_of_a_tie(right: Any, x: Array, at: Array, options: Any) -> Any:
    return np.sum(x >= at, axis=-1) - 1


@planted(FAMILY, loss="linear_token_stats")
def ranks_of_two_blocks_add_up(x: Array, w: Array, t: Array, /, **options: Any) -> TokenStats:
    """A row that two blocks of four have adds up its ranks."""
    right = xloss.linear_token_stats(x, w, t, **options)
    rank: Any = right.rank
    return right._replace(rank=rank * np.where(np.arange(len(t)) == 3, 2, 1))


@planted(FAMILY, "gradient", WHOLE, arrays="torch")
def lse_with_a_gradient(x: Any, t: Any, /, *, rank: bool = False) -> TokenStats:
    """A log-sum-exp that autograd follows: it is a constant beside the loss."""
    return xloss.token_stats(x, t, rank=rank)._replace(lse=x.logsumexp(-1))
