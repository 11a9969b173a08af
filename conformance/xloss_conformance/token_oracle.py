"""The definition of what `token_stats` says of a row, in mpmath: slow and obvious, as the oracle.

It stands apart from ``oracle.py``, by whose source the other answers in the file are known.
"""

from __future__ import annotations

from typing import Any

from .oracle import NAN, ZERO, Reals, entropy_row, logsumexp_row, mp, softmax_row, softmax_row_probs


def token_row(x: Reals, target: int | Reals, **options: Any) -> list[Any]:
    """Return loss, lse, correct, entropy, max p, λ W lse², W and rank of a row that is present.

    The options are those of ``softmax_row``. With z = x, or c tanh(x/c), the entropy is that of
    softmax(z). The rank counts x_j > x_y, and x_j = x_y with j < y, where y is the label or the
    first class of the largest target; it is the number of classes, and nothing is correct, where
    the loss is NaN.
    """
    row = softmax_row("cross_entropy", x, target, **options)
    cap, factor = options.get("softcap"), mp.mpf(options.get("z_loss", 0))
    z = [mp.mpf(v) for v in x]
    if cap is not None:
        z = [v if v == -mp.inf else cap * mp.tanh(v / cap) for v in z]
    lse, p = logsumexp_row(z), softmax_row_probs(z)
    most = NAN if any(map(mp.isnan, p)) else max(p)
    share = factor * row.weight
    by_lse = ZERO if factor == 0 or (share == 0 and not mp.isnan(lse)) else share * lse**2
    if factor != 0 and mp.isnan(row.loss):
        by_lse = NAN
    rank = len(x)
    if not mp.isnan(row.loss):
        y = target if isinstance(target, int) else list(target).index(max(target))
        rank = sum(v > x[y] for v in x) + sum(v == x[y] for v in x[:y])
    numbers = [row.loss, lse, rank == 0, entropy_row(z).loss, most, by_lse, row.weight, rank]
    return [mp.mpf(int(v)) if isinstance(v, bool | int) else v for v in numbers]
