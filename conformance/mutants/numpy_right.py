"""Cross-entropy on NumPy from the published rules alone, in float64 whatever comes in.

Written to check the suite, apart from xloss: every step is a method, so that a wrong loss is the
right one with one step changed. Slow on purpose where that is simpler: labels become one-hot rows.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import fields
from inspect import Parameter, Signature
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from . import planted
from .checks import Options, check

Array = NDArray[Any]


class Softmax(NamedTuple):
    """Of rows of logits (N, C): p, 1 - p, -log p, and log Σ exp (N, 1)."""

    p: Array
    miss: Array
    nll: Array
    lse: Array


class Given(NamedTuple):
    """What a row's loss depends on beside logits and targets."""

    s: Array  # (N,)
    keep: Array  # (N,)
    bad: Array  # (N,): present rows whose label is no class
    w: Array  # (C,)
    label_smoothing: float
    z_loss: float
    softcap: float | None
    hard: bool  # whether the targets are class indices


def accumulated(logits: Array) -> type:
    """Return the dtype of a loss."""
    return np.float64 if logits.dtype.name == "float64" else np.float32


def times(a: Any, b: Any) -> Array:
    """Return a · b, 0 where a is 0 whatever b is."""
    return np.asarray(np.where(a == 0, 0.0, a * b))


def summed(a: Array) -> Array:
    """Return Σ along the last axis, kept, pairwise and with what the additions lose (Knuth)."""
    lost = np.zeros(a.shape)
    while a.shape[-1] > 1:
        half = a.shape[-1] // 2
        x, y, odd = a[..., :half], a[..., half : 2 * half], a[..., 2 * half :]
        both = x + y
        part = both - x
        error = (x - (both - part)) + (y - part)
        own = lost[..., :half] + lost[..., half : 2 * half] + error
        a = np.concatenate([both, odd], axis=-1)
        lost = np.concatenate([own, lost[..., 2 * half :]], axis=-1)
    return np.where(np.isfinite(a), a + lost, a) if a.shape[-1] else a.sum(-1, keepdims=True)


def signature(names: Iterable[str]) -> Signature:
    """Return that of a function that takes these: what the suite hands over."""
    return Signature([Parameter(name, Parameter.KEYWORD_ONLY) for name in names])


class CrossEntropy:
    """value, gradient = CrossEntropy()(logits, targets, **options of xloss.cross_entropy)."""

    __signature__ = signature((*(of.name for of in fields(Options)), "cotangent"))

    def __init_subclass__(cls, family: str = "", **more: Any) -> None:
        """Plant a class that names the family of cases that is meant to catch it."""
        if family:
            planted(family, by=lambda wrong: wrong(), **more)(cls)

    def __call__(
        self, logits: Array, targets: Array, /, *, cotangent: Any = 1.0, **options: Any
    ) -> tuple[Any, Array]:
        o = Options(**options)
        self.check(logits, targets, o)
        x, t, given = self.prepared(logits, targets, o)
        losses, grads, mass = self.row_terms(x, t, given)

        last = self.classes_last(logits, o.axis).shape
        shape = last[:-1]
        own = np.broadcast_to(cotangent, shape if o.reduction == "none" else ()).reshape(-1, 1)
        value: Any = losses.reshape(shape)
        divisor: Any = 1.0
        if o.reduction != "none":
            value = np.asarray(self.total(losses))
        if o.reduction == "mean":
            divisor = self.divisor(mass, given.s, given.keep, o.normalizer)
            counted = bool((given.keep & ~(mass <= 0)).any())
            value, divisor = self.mean(value, divisor, counted)
        grads = self.kept(given.keep, self.upstream(grads, own.astype(np.float64), divisor))
        back = np.moveaxis(grads.reshape(last), -1, o.axis)
        return value.astype(accumulated(logits))[()], back.astype(logits.dtype)

    def prepared(self, logits: Array, targets: Array, o: Options) -> tuple[Array, Array, Given]:
        """Return logits and targets as rows (N, C) of float64, and what else a row depends on."""
        last = self.classes_last(logits, o.axis)
        shape, classes = last.shape[:-1], last.shape[-1]
        count = int(np.prod(shape))
        x = last.reshape(count, classes).astype(np.float64, order="C")
        s, keep = self.rows(o.sample_weight, o.where, shape)
        w = np.ones(classes) if o.weight is None else o.weight.astype(np.float64)
        if o.reduction == "mean" and o.normalizer is None:
            s, w = self.weights_of_a_mean(s), self.weights_of_a_mean(w)
        bad = np.zeros(count, bool)
        index = targets.dtype.kind in "iu"
        if index:
            labels = targets.ravel()
            keep = keep & ~self.ignored(labels, o.ignore_index)
            t, outside = self.one_hot(labels, classes)
            bad = keep & outside
            if bad.any() and o.validate is not False:
                first = int(np.argmax(bad))
                raise IndexError(f"targets: {labels[first]} at {first} is not in [0, {classes})")
        else:
            t = self.classes_last(targets, o.axis).reshape(count, classes).astype(np.float64)
            if o.validate is True and not ((t >= 0) | ~keep[:, None]).all():
                raise ValueError("targets: a probability is negative")
        return x, t, Given(s, keep, bad, w, o.label_smoothing, o.z_loss, o.softcap, index)

    def row_terms(self, x: Array, t: Array, o: Given) -> tuple[Array, Array, Array]:
        """Return rows' losses, their gradients and weights W."""
        x, s, t = self.absent(o.keep, x, o.s, t)
        z, slope = self.capped(x, o.softcap)
        soft = self.found(self.softmax(z), z)
        possible = z > -np.inf
        q = self.smoothed(t, o.label_smoothing, possible)
        a = self.weighted(q, t, o.w, o.hard)
        mass = s * np.where(o.bad, 1.0, summed(times(t, o.w))[:, 0])
        nan = o.bad | np.isnan(x).any(-1) | np.isnan(t).any(-1) | ~possible.any(-1)
        nan = o.keep & nan
        losses = s * self.row_losses(soft, a) + self.z_terms(o.z_loss * mass, soft.lse[:, 0] ** 2)
        losses = np.where(nan, np.nan, losses)
        grads = s[:, None] * self.slopes(soft, a)
        grads = grads + self.z_terms(2 * o.z_loss * mass[:, None] * soft.p, soft.lse)
        grads = np.where(nan[:, None], np.nan, times(slope, grads))
        return losses, grads, mass

    # The steps.

    def check(self, logits: Array, targets: Array, o: Options) -> None:
        """Raise what a call that cannot be right must raise."""
        check(logits, targets, o)

    def classes_last(self, array: Array, axis: int) -> Array:
        return np.moveaxis(array, axis, -1)

    def rows(self, sample_weight: Any, where: Any, shape: tuple[int, ...]) -> tuple[Array, Array]:
        """Return every row's weight and whether it is there."""
        s = np.broadcast_to(1.0 if sample_weight is None else sample_weight, shape)
        keep = np.broadcast_to(True if where is None else where, shape)
        s = s.ravel().astype(np.float64)
        return s, keep.ravel() & (s != 0)

    def weights_of_a_mean(self, weights: Array) -> Array:
        """Bring the largest near 1 by a power of 2: it changes no mean, and sums stay finite."""
        most = np.frexp(np.max(np.abs(weights), initial=0.0))[1]
        half = most // 2  # 2^-most itself may be infinite
        return np.asarray(np.ldexp(np.ldexp(weights, -half), half - most))

    def ignored(self, labels: Array, ignore_index: int | None) -> Array:
        """Compare as Python's integers do, of any size and sign."""
        return np.asarray([label == ignore_index for label in labels.tolist()], bool)

    def one_hot(self, labels: Array, classes: int) -> tuple[Array, Array]:
        """Return labels as probabilities, and which are no class."""
        outside = np.asarray([not 0 <= label < classes for label in labels.tolist()], bool)
        safe = np.where(outside, 0, labels).astype(np.int64)
        t = np.zeros((len(labels), classes))
        t[np.arange(len(labels)), safe] = 1.0
        return t, outside

    def absent(self, keep: Array, x: Array, s: Array, t: Array) -> tuple[Array, Array, Array]:
        """Replace what stands in absent rows: a mask that multiplies lets NaN through."""
        row = keep[:, None]
        return np.where(row, x, 0.0), np.where(keep, s, 0.0), np.where(row, t, 0.0)

    def kept(self, keep: Array, grads: Array) -> Array:
        return np.where(keep[:, None], grads, 0.0)

    def capped(self, x: Array, c: float | None) -> tuple[Array, Array]:
        """Return c·tanh(x/c), -inf staying masked, and its derivative sech²(x/c)."""
        if c is None:
            return x, np.ones(x.shape)
        t = np.exp(-2 * np.abs(x / c))
        return np.where(x == -np.inf, x, c * np.tanh(x / c)), 4 * t / (1 + t) ** 2

    def softmax(self, z: Array) -> Softmax:
        """Relative to the first largest logit, which is left out of the sum of the others."""
        if not z.size:
            return Softmax(z, z, z, z[:, :0].sum(-1, keepdims=True))
        top = z.max(-1, keepdims=True)
        limit = np.where(z == np.inf, 0.0, -np.inf)  # +inf logits share the whole probability
        d = np.where(top == np.inf, limit, z - np.where(top == np.inf, 0.0, top))
        e = np.exp(d)
        first = np.arange(z.shape[-1]) == z.argmax(-1)[:, None]
        others = summed(np.where(first, 0.0, e))
        p = e / (1 + others)
        miss = np.where(first, others / (1 + others), 1 - p)
        log = np.log1p(others)
        return Softmax(p, miss, log - d, top + log)

    def found(self, soft: Softmax, z: Array) -> Softmax:
        return soft

    def smoothed(self, t: Array, epsilon: float, possible: Array) -> Array:
        u = possible / np.maximum(possible.sum(-1, keepdims=True), 1)
        return np.asarray((1 - epsilon) * t + epsilon * t.sum(-1, keepdims=True) * u)

    def weighted(self, q: Array, t: Array, w: Array, index: bool) -> Array:
        return times(q, w)

    def row_losses(self, soft: Softmax, a: Array) -> Array:
        return summed(times(a, soft.nll))[:, 0]

    def z_terms(self, coefficient: Array, value: Array) -> Array:
        return times(coefficient, value)

    def slopes(self, soft: Softmax, a: Array) -> Array:
        """Return d Σ_j a_j nll_j / dz: p·A - a without subtracting nearly equal numbers."""
        return np.asarray(soft.p * (summed(a) - a) - a * soft.miss)

    def total(self, losses: Array) -> Any:
        return summed(losses)[0]

    def divisor(self, mass: Array, s: Array, keep: Array, normalizer: Any) -> Any:
        return summed(mass)[0] if normalizer is None else np.float64(normalizer)

    def mean(self, total: Any, divisor: Any, counted: bool) -> tuple[Array, Any]:
        """Return total / divisor and divisor; 0, with no gradient, where no row counts."""
        return (np.asarray(total / divisor), divisor) if counted else (np.zeros(()), np.inf)

    def upstream(self, grads: Array, cotangent: Array, divisor: Any) -> Array:
        return np.asarray(grads * (cotangent / divisor))
