"""Cross-entropy on NumPy with one mistake each, of its arithmetic."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from itertools import count
from typing import Any

import numpy as np

import xloss

from . import Array, Asked, Options, Terms, asked, count_of, instead, plain, planted
from . import right as answer
from .weights_wrong import COUNTED, over, without

right = partial(answer, "cross_entropy")
tail = partial(planted, "tail")


def by_rows(change: Callable[[Array, Array], Array]) -> Callable[..., Any]:
    """Return a loss whose rows `change` makes of logits less their largest (N, C), and the label's.

    Where an option or soft targets make the loss another, it is right.
    """

    def loss(x: Array, t: Array, /, reduction: str = "mean", **options: Any) -> Terms:
        value, grad = right(x, t, {"reduction": reduction, **options})
        labels = x.ndim == 2 and t.dtype.kind == "i" and x.size and t.min() >= 0
        if not labels or any(v is not None for v in options.values()):
            return value, grad
        d = x.astype(np.float64) - x.max(-1, keepdims=True)
        rows = change(d, np.take_along_axis(d, t[:, None], axis=-1)[:, 0])
        made = {"none": rows, "mean": rows.mean(), "sum": rows.sum()}
        return plain(made[reduction], value), grad

    return loss


def summed(x: Array, t: Array, options: Options, total: Callable[[Array], Any]) -> Terms:
    """Return the loss with another sum of its rows, divided as it should be."""
    value, grad = right(x, t, options)
    options.pop("cotangent", None)
    how, normalizer = options.pop("reduction", "mean"), options.pop("normalizer", None)
    if how == "none":
        return value, grad
    rows: Any = xloss.cross_entropy(x, t, reduction="none", **options)
    mean = count_of(t, options, *COUNTED) if normalizer is None else normalizer
    return plain(total(rows) / ((mean or 1) if how == "mean" else 1), value), grad


@asked("offsets")
def no_shift(x: Array, t: Array, options: Options) -> Asked:
    """exp of the logits as they are, in float32."""
    return np.log(np.exp(x.astype(np.float32))).astype(x.dtype), t, options


@tail()
def log_softmax_then_gather(x: Array, t: Array, /, **options: Any) -> Terms:
    """log_softmax in float32, and the label's entry of it."""
    value, grad = right(x, t, options)
    if not options.keys().isdisjoint(("z_loss", "softcap")):
        return value, grad
    log_p = x - x.max(-1, keepdims=True)
    log_p = log_p - np.log(np.exp(log_p).sum(-1, keepdims=True))
    return answer("nll_loss", log_p, t, options)[0], grad


@tail("gradient")
def own_probability_minus_1(x: Array, t: Array, /, **options: Any) -> Terms:
    """p - 1 in float32 for the true class."""
    value, grad = right(x, t, options)
    if t.dtype.kind == "f":
        return value, grad
    given = {"ignore_index": options.get("ignore_index", -100), "axis": options.get("axis", -1)}
    exact = right(x.astype(np.float64), t, {"reduction": "sum", "validate": False, **given})[1]
    return value, instead(grad, np.where(exact < 0, np.float32(1 + exact) - 1, exact), exact)


@asked("infinities")
def infinity_minus_itself(x: Array, t: Array, options: Options) -> Asked:
    """No limit for +inf logits."""
    return np.where(x == np.inf, x - x, x), t, options


@asked("masks")
def online_from_minus_infinity(x: Array, t: Array, options: Options) -> Asked:
    """Blocks of 256 classes merged from max = -inf: one of -inf alone gives inf - inf."""
    lost = (x[..., :256] == -np.inf).all(-1, keepdims=True)
    return np.where(lost, np.full_like(x, np.nan), x), t, options


@planted("one class")
def one_class_is_binary(x: Array, t: Array, /, **options: Any) -> Terms:
    """A single logit is taken for that of a binary loss."""
    if x.shape[-1] > 1:
        return right(x, t, options)
    value, grad = right(np.concatenate([x, np.zeros_like(x)], -1), t, options)
    return value, grad[..., :1]


@asked("z-loss")
def z_loss_dropped(x: Array, t: Array, options: Options) -> Asked:
    return x, t, without(options, "z_loss")


@asked("softcap")
def softcap_dropped(x: Array, t: Array, options: Options) -> Asked:
    return x, t, without(options, "softcap")


@asked("softcap")
def softcap_unmasks(x: Array, t: Array, options: Options) -> Asked:
    """tanh(-inf) is -1: a masked class comes back."""
    least = np.finfo(np.float32).min if options.get("softcap") else -np.inf
    return np.where(x == -np.inf, x.dtype.type(least), x), t, options


@planted("softcap", "gradient")
def softcap_slope_cancels(x: Array, t: Array, /, *, softcap: Any = None, **options: Any) -> Terms:
    """1 - tanh² in float32 for sech²."""
    value, grad = right(x, t, {"softcap": softcap, **options})
    if softcap is None:
        return value, grad
    tanh = np.tanh((x / softcap).astype(np.float32))
    capped = np.where(x == -np.inf, x, (softcap * tanh).astype(x.dtype))
    return value, right(capped, t, options)[1] * (1 - tanh**2)


@asked("upstream", "gradient")
def upstream_of_the_first_row(x: Array, t: Array, options: Options) -> Asked:
    """Every row's gradient is scaled by the first upstream number."""
    rows: Any = options.get("cotangent")
    if np.ndim(rows):
        options["cotangent"] = np.full_like(rows, rows.flat[0])
    return x, t, options


@planted("sixteen bits")
def running_sum(x: Array, t: Array, /, **options: Any) -> Terms:
    """Rows are added one by one in float32."""
    return summed(x, t, options, lambda rows: np.add.accumulate(rows.ravel())[-1:].sum())


@tail("repeat", by=lambda wrong: partial(wrong, count()))
def stateful(calls: Any, x: Array, t: Array, /, **options: Any) -> Terms:
    """What one call leaves behind changes the next."""
    value, grad = right(x, t, options)
    return plain(value * (1 + (next(calls) % 2) * 1e-6), value), grad


@tail()
def probability_clipped(x: Array, t: Array, /, **options: Any) -> Terms:
    """-log of a probability that is clipped into [1e-7, 1 - 1e-7] first."""
    value, grad = right(x, t, options)
    if not options.keys().isdisjoint(("z_loss", "softcap")):
        return value, grad
    return answer("log_loss", xloss.softmax(x), t, {"eps": 1e-7, **options})[0], grad


@asked("masks")
@asked("nll", loss="nll_loss")
@asked("kl", loss="kl_div")
@asked("entropy", loss="entropy")
def zero_times_infinity(x: Array, t: Any, options: Options) -> Asked:
    """Targets times the loss of every class: 0·inf of a masked class is NaN; so is 0·log 0."""
    axis = options.get("axis", -1)
    return x + (0 * x).sum(axis, keepdims=True), t, options


@asked("masks")
def masked_by_a_large_number(x: Array, t: Array, options: Options) -> Asked:
    """-1e9 stands for -inf: a masked label has a finite loss."""
    return np.maximum(x, x.dtype.type(-1e9)), t, options


@planted("ties", by=by_rows)
def tied_counted_once(d: Array, own: Array) -> Array:
    """All logits at the maximum are left out of the sum of the others: log1p counts one."""
    return np.asarray(np.log1p(np.where(d == 0, 0.0, np.exp(d)).sum(-1)) - own)


@planted("split", "split", by=by_rows)
def sum_in_the_order_of_memory(d: Array, own: Array) -> Array:
    """Rows of a Fortran array are summed column by column, a single row pairwise."""
    return np.asarray(np.log(np.asfortranarray(np.exp(d.astype(np.float32))).sum(-1)) - own)


@planted("range")
def sums_in_float32(x: Array, t: Array, /, **options: Any) -> Terms:
    """Losses and weights are summed in float32: inf/inf where all weights are 2^127."""
    return summed(x, t, options, lambda rows: rows.sum(dtype=np.float32))


@asked("range")
def epsilon_in_the_divisor(x: Array, t: Array, options: Options) -> Asked:
    """Σ s + 1e-8, which is to guard against 0: nothing is left of the mean under small weights."""
    return over(x, t, options, count_of(t, options, *COUNTED) + 1e-8)


@planted("range")
def compensated_past_infinity(x: Array, t: Array, /, **options: Any) -> Terms:
    """A compensated sum in float32 adds what was lost, inf - inf, though the sum is infinite."""
    value, grad = right(x, t, options)
    return value + (value - value), grad


@asked("z-loss", "gradient")
def z_loss_without_gradient(x: Array, t: Array, options: Options) -> Asked:
    """The z-loss is in the value, and not in the gradient."""
    return x, t, without(options, "z_loss")
