"""token_stats on NumPy with one mistake each: xloss's own, but for one field."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np

import xloss
from xloss import TokenStats

from . import Array, planted

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
