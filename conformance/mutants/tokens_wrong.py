"""token_stats on NumPy from its definition, and with one mistake each."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import numpy as np

from . import Mutant
from .checks import Options
from .numpy_right import Array, CrossEntropy, accumulated, summed, times

FAMILY, WHOLE, PACKED = "tokens", "token_stats", "linear_token_stats"


class Stats(NamedTuple):
    """The fields, in the order of xloss's."""

    loss: Array
    lse: Array
    correct: Array
    entropy: Array
    max_prob: Array
    z_term: Array
    weight: Array
    rank: Any


class Logits(NamedTuple):
    """What a mistake may be made of: of rows (N, C) the logits, capped ones, and the target."""

    x: Array
    z: Array
    label: Array  # the class to predict, (N,)
    keep: Array  # the rows that are present
    options: Options


Change = Callable[[Stats, Logits], Stats]


def stats(
    logits: Array,
    targets: Array,
    /,
    *,
    rank: bool = False,
    change: Change = lambda right, _: right,
    **options: Any,
) -> Stats:
    if not isinstance(rank, bool):
        raise TypeError("rank: expected a bool")
    own, o = CrossEntropy(), Options(reduction="none", **options)
    own.check(logits, targets, o)
    x, t, given = own.prepared(logits, targets, o)
    with np.errstate(all="ignore"):
        loss, _, weight, soft, possible, _ = own.row_terms(x, t, given)
        lse = np.where(possible.any(-1), soft.lse[:, 0], -np.inf)
        z_term = own.z_terms(o.z_loss * weight, lse**2)
        z_term = np.where(np.isnan(loss) & (o.z_loss != 0), np.nan, z_term)
        entropy, most = summed(times(soft.p, soft.nll))[:, 0], soft.p.max(-1, initial=-np.inf)
    label = t.argmax(-1)
    at = np.take_along_axis(x, label[:, None], axis=-1)
    before = np.arange(x.shape[-1]) < label[:, None]
    ahead = np.sum((x > at) | ((x == at) & before), axis=-1)
    ahead = np.where(given.keep & ~np.isnan(loss), ahead, x.shape[-1])
    kind = accumulated(logits)
    told = {"lse": lse, "entropy": entropy, "max_prob": most, "z_term": z_term, "weight": weight}
    told = {name: np.where(given.keep, v, 0).astype(kind) for name, v in told.items()}
    right = Stats(loss=loss.astype(kind), correct=ahead == 0, rank=ahead, **told)
    of = Logits(x, own.capped(x, o.softcap)[0], label, given.keep, o)
    shape = own.classes_last(logits, o.axis).shape[:-1]
    fields = {name: v.reshape(shape) for name, v in change(right, of)._asdict().items()}
    return Stats(**fields if rank else {**fields, "rank": None})


def packed(
    features: Array,
    weight: Array,
    targets: Array,
    /,
    *,
    bias: Array,
    class_weight: Array | None = None,
    block_rows: Any = "auto",
    change: Change = lambda right, _: right,
    **options: Any,
) -> Stats:
    kind = np.float64 if features.dtype == np.float64 else np.float32
    x, w, b = (v.astype(np.float64) for v in (features, weight, bias))
    present = np.ones(len(x), bool) if targets.dtype.kind == "f" else targets != -100
    z = np.where(present[:, None], x, 0.0) @ w.T + b
    return stats(z.astype(kind), targets, weight=class_weight, change=change, **options)


# The mistakes.


def token(
    mistake: str,
    field: str,
    values: Callable[[Stats, Logits], Any],
    *,
    absent: bool = False,
    of: Any = stats,
    loss: str = WHOLE,
) -> Mutant:
    """Return stats with other values of a field, of the rows that are present or of the others."""

    def change(right: Stats, of: Logits) -> Stats:
        was = getattr(right, field)
        with np.errstate(all="ignore"):
            made = np.where(of.keep != absent, values(right, of), was)
        return right._replace(**{field: made.astype(was.dtype)})

    make = partial(partial, of, change=change)
    return Mutant(f"{loss}: {mistake}", make, FAMILY, "value", loss=loss)


def at_label(x: Array, of: Logits) -> Any:
    return np.take_along_axis(x, of.label[:, None], axis=-1)


def entropy_cancels(right: Stats, of: Logits) -> Any:
    z = of.z.astype(right.lse.dtype)
    return right.lse - times(np.exp(z - right.lse[:, None]), z).sum(-1)


def weight_of_smoothed(right: Stats, of: Logits) -> Any:
    """The share that is spread has other class weights."""
    w, eps = of.options.weight, of.options.label_smoothing
    if w is None or not eps:
        return right.weight
    return right.weight * ((1 - eps) * w[of.label] + eps * w.mean()) / w[of.label]


def ties_ahead(right: Stats, of: Logits) -> Any:
    """The worst rank of a tie, in place of the place of the first."""
    made = np.sum(of.x >= at_label(of.x, of), axis=-1) - 1
    return np.where(right.rank == of.x.shape[-1], right.rank, made)


def lse_with_a_gradient(x: Any, targets: Any, /, *, rank: bool = False) -> tuple[Any, ...]:
    """On PyTorch, with a log-sum-exp that autograd follows: it is a constant beside the loss."""
    import torch

    loss = torch.nn.functional.cross_entropy(x, targets, reduction="none")
    lse, p = torch.logsumexp(x, -1), torch.softmax(x.detach(), -1)
    at = x.detach().gather(-1, targets[:, None])
    before = torch.arange(x.shape[-1]) < targets[:, None]
    ahead = ((x.detach() > at) | ((x.detach() == at) & before)).sum(-1)
    entropy, ones = -(p * p.log()).sum(-1), torch.ones_like(loss.detach())
    made = (loss, lse, ahead == 0, entropy, p.amax(-1), 0 * ones, ones)
    return (*made, ahead if rank else None)


TOKENS = [
    # The z term is told apart, but it is a part of the loss.
    token("the loss without its z term", "loss", lambda right, of: right.loss - right.z_term),
    # Of the logits as they are: it overflows.
    token(
        "log of the sum of exp",
        "lse",
        lambda right, of: np.log(np.exp(of.x.astype(np.float32)).sum(-1)),
    ),
    # It enters the sum of all rows.
    token(
        "log-sum-exp of absent rows",
        "lse",
        lambda right, of: np.log(np.exp(of.x).sum(-1)),
        absent=True,
    ),
    token(
        "any of the largest is correct",
        "correct",
        lambda right, of: at_label(of.x, of)[:, 0] == of.x.max(-1),
    ),
    token("entropy as lse - Σ p z", "entropy", entropy_cancels),
    token("entropy in bits", "entropy", lambda right, of: right.entropy / np.log(2)),
    # Where the largest is asked for.
    token(
        "the target's probability",
        "max_prob",
        lambda right, of: np.exp(at_label(of.z, of)[:, 0] - right.lse),
    ),
    token(
        "z term without the row weight",
        "z_term",
        lambda right, of: of.options.z_loss * right.lse.astype(np.float64) ** 2,
    ),
    token("row weight of smoothed targets", "weight", weight_of_smoothed),
    token("ranks from 1", "rank", lambda right, of: right.rank + 1),
    token("the worst rank of a tie", "rank", ties_ahead),
    # Each absent row is among the first k.
    token("absent rows rank first", "rank", lambda right, of: 0 * right.rank, absent=True),
    Mutant(
        "token_stats: lse with a gradient",
        lambda: lse_with_a_gradient,
        FAMILY,
        "gradient",
        arrays="torch",
        loss=WHOLE,
    ),
    # A row that two blocks of four have adds up its ranks.
    token(
        "ranks of two blocks add up",
        "rank",
        lambda right, of: right.rank * np.where(np.arange(len(right.rank)) == 3, 2, 1),
        of=packed,
        loss=PACKED,
    ),
]
RIGHT: dict[tuple[str, str], Callable[[], Callable[..., Any]]] = {
    ("numpy", WHOLE): lambda: stats,
    ("numpy", PACKED): lambda: packed,
}
