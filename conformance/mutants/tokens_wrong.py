"""token_stats on NumPy from its definition, in extended precision, and with one mistake each."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import numpy as np

from . import Mutant
from .numpy_right import Array, CrossEntropy

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
    options: dict[str, Any]


Change = Callable[[Stats, Logits], Stats]


def stats(
    logits: Array,
    targets: Array,
    /,
    *,
    rank: bool = False,
    change: Change = lambda right, _: right,
    axis: int = -1,
    weight: Array | None = None,
    sample_weight: Any = None,
    where: Any = None,
    ignore_index: int | None = -100,
    label_smoothing: float = 0.0,
    z_loss: float = 0.0,
    softcap: float | None = None,
    validate: Any = "auto",
) -> Stats:
    given = dict(locals())
    options = {k: given[k] for k in set(given) - {"logits", "targets", "rank", "change"}}
    if not isinstance(rank, bool):
        raise TypeError("rank: expected a bool")
    loss, _ = CrossEntropy()(logits, targets, reduction="none", **options)
    loss = np.asarray(loss)
    x = np.moveaxis(logits, axis, -1).astype(np.longdouble)
    classes, wide = x.shape[-1], np.longdouble
    s = np.broadcast_to(1.0 if sample_weight is None else sample_weight, loss.shape).astype(wide)
    keep = np.broadcast_to(True if where is None else where, loss.shape) & (s != 0)
    w = np.ones(classes) if weight is None else weight.astype(wide)
    if targets.dtype.kind in "iu":
        if ignore_index is not None:
            keep = keep & (targets != ignore_index)
        outside = (targets < 0) | (targets >= classes)
        label = np.where(outside, 0, targets)
        share = s * np.where(outside, 1, w[label])
    else:
        t = np.moveaxis(targets, axis, -1).astype(wide)
        label, share = np.argmax(t, axis=-1), s * np.sum(t * w, axis=-1)
        outside = np.zeros(loss.shape, bool)
    with np.errstate(all="ignore"):
        z = x
        if softcap is not None:
            z = np.where(x == -np.inf, x, softcap * np.tanh(x / softcap))
        top = np.max(z, axis=-1, keepdims=True)
        gap = np.where(z == top, 0, top - z)
        e = np.exp(-gap)
        rest = np.sum(np.where(z == top, 0, e), axis=-1) + (np.sum(z == top, axis=-1) - 1)
        spread = np.sum(np.where(e == 0, 0, e * gap), axis=-1)
        empty = top[..., 0] == -np.inf
        log = np.where(empty, np.nan, np.log1p(rest))
        lse = np.where(empty, -np.inf, top[..., 0] + log)
        by_lse = np.where((share == 0) & (lse == lse), 0, z_loss * share * lse**2)
        by_lse = np.where(np.isnan(loss) & (z_loss != 0), np.nan, by_lse * np.ones(loss.shape))
        by_lse = by_lse if z_loss else np.zeros(loss.shape)
        at = np.take_along_axis(x, label[..., None], axis=-1)
        before = np.arange(classes) < label[..., None]
        ahead = np.sum((x > at) | ((x == at) & before), axis=-1)
        ahead = np.where(keep & ~outside & (loss == loss), ahead, classes)
        mass = np.where(empty, np.nan, 1 + rest)
        floats = [lse, log + spread / mass, 1 / mass, by_lse, share]
    lse, entropy, most, by_lse, share = (np.where(keep, v, 0).astype(loss.dtype) for v in floats)
    right = Stats(loss, lse, ahead == 0, entropy, most, by_lse, share, ahead)
    made = change(right, Logits(x, z, label, keep, options))
    return made if rank else made._replace(rank=None)


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


def without_log(right: Stats, of: Logits) -> Stats:
    """log Σ exp of the logits as they are, which overflows."""
    with np.errstate(all="ignore"):
        made = np.log(np.sum(np.exp(of.x.astype(np.float32)), axis=-1))
    return right._replace(lse=np.where(of.keep, made, 0).astype(right.lse.dtype))


def lse_of_absent(right: Stats, of: Logits) -> Stats:
    """Absent rows have a log-sum-exp, which enters the sum of all rows."""
    with np.errstate(all="ignore"):
        made = np.log(np.sum(np.exp(of.x), axis=-1))
    return right._replace(lse=np.where(of.keep, right.lse, made).astype(right.lse.dtype))


def any_maximum(right: Stats, of: Logits) -> Stats:
    """Whatever is as large as the maximum is correct."""
    at = np.take_along_axis(of.x, of.label[..., None], axis=-1)[..., 0]
    with np.errstate(all="ignore"):
        return right._replace(correct=of.keep & (at == np.max(of.x, axis=-1)))


def entropy_cancels(right: Stats, of: Logits) -> Stats:
    """lse - Σ p z."""
    with np.errstate(all="ignore"):
        z = of.z.astype(right.lse.dtype)
        p = np.exp(z - right.lse[..., None])
        made = right.lse - np.sum(np.where(p == 0, 0, p * z), axis=-1)
    return right._replace(entropy=np.where(of.keep, made, 0).astype(right.lse.dtype))


def entropy_in_bits(right: Stats, of: Logits) -> Stats:
    return right._replace(entropy=(right.entropy / np.log(2)).astype(right.lse.dtype))


def probability_of_target(right: Stats, of: Logits) -> Stats:
    """The probability of the label, where the largest is asked for."""
    at = np.take_along_axis(of.z, of.label[..., None], axis=-1)[..., 0]
    with np.errstate(all="ignore"):
        made = np.exp(at - right.lse)
    return right._replace(max_prob=np.where(of.keep, made, 0).astype(right.lse.dtype))


def z_term_unweighted(right: Stats, of: Logits) -> Stats:
    made = of.options["z_loss"] * right.lse.astype(np.longdouble) ** 2
    return right._replace(z_term=made.astype(right.lse.dtype))


def weight_of_smoothed(right: Stats, of: Logits) -> Stats:
    """The row weight by the smoothed target: the share that is spread has other class weights."""
    w, eps = of.options["weight"], of.options["label_smoothing"]
    if w is None or not eps:
        return right
    mixed = (1 - eps) * w[of.label] + eps * w.mean()
    return right._replace(weight=(right.weight * mixed / w[of.label]).astype(right.lse.dtype))


def rank_from_one(right: Stats, of: Logits) -> Stats:
    return right._replace(rank=right.rank + 1)


def ties_ahead(right: Stats, of: Logits) -> Stats:
    """The worst rank of a tie, in place of the place of the first."""
    at = np.take_along_axis(of.x, of.label[..., None], axis=-1)
    with np.errstate(all="ignore"):
        made = np.sum(of.x >= at, axis=-1) - 1
    return right._replace(rank=np.where(right.rank == of.x.shape[-1], right.rank, made))


def absent_first(right: Stats, of: Logits) -> Stats:
    """Absent rows have rank 0: each is among the first k."""
    return right._replace(rank=np.where(of.keep, right.rank, 0))


def loss_without_z(right: Stats, of: Logits) -> Stats:
    """The loss without its z term, which is told apart: it is a part of the loss."""
    return right._replace(loss=right.loss - right.z_term)


def rank_of_both_blocks(right: Stats, of: Logits) -> Stats:
    """A row that two blocks of four have adds up its ranks."""
    twice = np.arange(len(right.rank)) == 3
    return right._replace(rank=np.where(twice, 2 * right.rank, right.rank))


def mutant(mistake: str, change: Change, of: Any = stats, loss: str = WHOLE) -> Mutant:
    return Mutant(
        f"{loss}: {mistake}", lambda: partial(of, change=change), FAMILY, "value", loss=loss
    )


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
    mutant("the loss without its z term", loss_without_z),
    mutant("log of the sum of exp", without_log),
    mutant("log-sum-exp of absent rows", lse_of_absent),
    mutant("any of the largest is correct", any_maximum),
    mutant("entropy as lse - Σ p z", entropy_cancels),
    mutant("entropy in bits", entropy_in_bits),
    mutant("the target's probability", probability_of_target),
    mutant("z term without the row weight", z_term_unweighted),
    mutant("row weight of smoothed targets", weight_of_smoothed),
    mutant("ranks from 1", rank_from_one),
    mutant("the worst rank of a tie", ties_ahead),
    mutant("absent rows rank first", absent_first),
    Mutant(
        "token_stats: lse with a gradient",
        lambda: lse_with_a_gradient,
        FAMILY,
        "gradient",
        arrays="torch",
        loss=WHOLE,
    ),
    mutant("ranks of two blocks add up", rank_of_both_blocks, packed, PACKED),
]
RIGHT: dict[tuple[str, str], Callable[[], Callable[..., Any]]] = {
    ("numpy", WHOLE): lambda: stats,
    ("numpy", PACKED): lambda: packed,
}
