"""Scales that errors are counted at: the sizes of the terms that may cancel, in float64."""

from __future__ import annotations

from typing import Any

import numpy as np

from .formats import FORMATS, accumulated
from .model import BINARY, FROM_LOGITS, Array, Case, Expected, Stored, Traits


def scales_of(
    case: Case, arguments: Stored, expected: Expected, traits: Traits
) -> tuple[Array, Array, Array]:
    """Return the scales of the value and of the gradients to the first argument and to targets."""
    none = np.zeros(())
    if case.tile > 1:
        return none, none, none
    with np.errstate(all="ignore"):
        by_row = _by_element if case.loss in BINARY else _by_class
        rows, grad, drift, targets = by_row(case, arguments, traits.flushes)
        keep = ~expected.absent
        total, factor = _denominator(case, arguments, keep, rows)
        value = np.where(keep, rows, 0.0) / (1.0 if case.loss == "entropy" else total)
        if case.loss != "entropy" and arguments.options.get("reduction", "mean") != "none":
            # Terms that overflow in their sum alone have a scale all the same.
            value = np.asarray(np.minimum(np.sum(value), np.finfo(np.float64).max))
        upstream = np.abs(np.asarray(arguments.upstream, np.float64)) / total
        if case.loss not in BINARY and np.ndim(upstream):
            upstream = np.expand_dims(upstream, case.axis)
        mean = np.abs(expected.value.hi) * factor if factor else 0.0  # rows have none
        return value, grad * upstream, (targets + drift * mean) * upstream


def _denominator(case: Case, arguments: Stored, keep: Array, rows: Array) -> tuple[float, float]:
    """Return the mean's denominator, and 1 where it depends on the targets."""
    options = arguments.options
    if options.get("reduction", "mean") != "mean" or case.loss == "entropy":
        return 1.0, 0.0
    if options.get("normalizer") is not None:
        return abs(float(options["normalizer"])), 0.0
    s = np.broadcast_to(np.asarray(options.get("sample_weight", 1.0), np.float64), keep.shape)
    if case.loss in BINARY or case.loss == "kl_div":
        w = np.ones(keep.shape)
    else:
        t, weight = hot(case, arguments)
        w = np.sum(np.where(t == 0, 0.0, t * weight), axis=-1)
    total = float(np.sum(np.where(keep, s * w, 0.0)))
    return (total or 1.0), float(case.loss not in (*BINARY, "kl_div"))


def _last(case: Case, values: Any) -> Array:
    return np.moveaxis(np.asarray(values, np.float64), case.axis, -1)


def hot(case: Case, arguments: Stored) -> tuple[Array, Array]:
    """Return the targets as probabilities, class axis last, and the class weights."""
    assert arguments.targets is not None
    classes = arguments.x.shape[case.axis]
    weight = np.asarray(arguments.options.get("weight", np.ones(classes)), np.float64)
    if case.index:
        return (arguments.targets[..., None] == np.arange(classes)).astype(np.float64), weight
    return _last(case, arguments.targets), weight


def _underflow(p: Array, power: float, dtype: str, flushes: bool) -> Array:
    """Return a scale that allows p^power what it, or p, loses below the smallest normal number.

    There numbers are as far apart as at that number, or are 0 where the library flushes them. It
    shows where another factor, such as -log p, is much larger than 1.
    """
    bits, largest = FORMATS[accumulated(dtype)]
    normal = 2.0 ** (1 - largest)
    unit = normal * 2.0 ** (1 - bits)
    exact = p**power
    if flushes:
        least = np.maximum(exact, np.finfo(np.float64).smallest_subnormal ** power)
        # A number just above is lost as soon as it is halved.
        lost = np.where(np.minimum(p, exact) < 4 * normal, least, 0.0)
    else:
        off = np.maximum((p + unit) ** power - exact, exact - np.maximum(p - unit, 0.0) ** power)
        lost = np.maximum(off, np.where(exact < normal, unit, 0.0))
    return np.asarray(lost * 2.0 ** (bits - 1))


def _by_class(case: Case, arguments: Stored, flushes: bool) -> tuple[Array, Array, Array, Array]:
    """Rows' scale of the value; of the gradients to x and targets; and dW/dt, in x's layout."""
    options = arguments.options
    x = _last(case, arguments.x)
    s = np.asarray(options.get("sample_weight", 1.0), np.float64)
    s = np.broadcast_to(s, x.shape[:-1])[..., None]

    def back(values: Array) -> Array:
        return np.moveaxis(np.broadcast_to(values, x.shape), -1, case.axis)

    if case.loss == "kl_div":
        t = _last(case, arguments.targets)
        log_t = t if options.get("log_target") else np.log(t)
        t = np.exp(t) if options.get("log_target") else t
        terms = np.where(t == 0, 0.0, np.maximum(np.abs(t * log_t), np.abs(t * x)))
        unit = t if options.get("log_target") else (t != 0) * 1.0
        slope = s * np.where(unit == 0, 0.0, unit * (1 + np.abs(log_t) + np.abs(x)))
        rows = s[..., 0] * _finite(terms).max(-1, initial=0.0)
        return rows, back(np.zeros(())), back(np.zeros(())), back(slope)
    cap = options.get("softcap")
    z = np.where(x == -np.inf, x, cap * np.tanh(x / cap)) if cap else x
    logits = case.loss in FROM_LOGITS
    if case.loss == "log_loss":
        eps = options.get("eps")
        z = np.clip(x, eps, 1 - eps) if eps is not None else x
        nll, possible, p, lse = np.abs(np.log(z)), z > 0, np.zeros(x.shape), 0.0
    elif logits:
        top = z.max(-1, keepdims=True, initial=-np.inf)
        e = np.where(z == top, 1.0, np.exp(z - top))
        p = e / e.sum(-1, keepdims=True)
        lse = top + np.log(e.sum(-1, keepdims=True))
        nll, possible = lse - z, z > -np.inf
    else:
        nll, possible, p, lse = np.abs(x), x > -np.inf, np.zeros(x.shape), 0.0
    if case.loss == "entropy":
        terms = np.where(p == 0, 0.0, p * nll)
        top = np.maximum(_finite(nll), terms.sum(-1, keepdims=True))
        size = np.where(p == 0, 0.0, np.maximum(p, _underflow(p, 1.0, arguments.dtype, flushes)))
        return terms.sum(-1), back(size * top), back(np.zeros(())), back(np.zeros(()))
    t, weight = hot(case, arguments)
    epsilon = float(options.get("label_smoothing", 0.0))
    share = epsilon / np.maximum(possible.sum(-1, keepdims=True), 1)
    q = (1 - epsilon) * t + share * t.sum(-1, keepdims=True) * possible
    a = np.where(q == 0, 0.0, q * weight)
    total = np.where(t == 0, 0.0, t * weight).sum(-1, keepdims=True)
    rest, gamma = 1 - p, 0.0
    if case.loss == "focal_loss":
        gamma = float(options.get("gamma", 2.0))
        nll = rest**gamma * nll
    z_term = np.abs(2 * float(options.get("z_loss", 0.0)) * total * lse * p)
    rows = s[..., 0] * _finite(np.where(a == 0, 0.0, a * nll)).sum(-1)
    ab = a * (1 + gamma) if gamma else a
    slope = np.maximum(np.maximum(p * ab.sum(-1, keepdims=True), ab if logits else 0.0), z_term)
    if cap:
        slope = slope / np.cosh(np.clip(x / cap, -700, 700)) ** 2
    lam = float(options.get("z_loss", 0.0)) * lse**2
    each = _finite(np.where(weight == 0, 0.0, weight * nll))
    mixed = share * np.where(possible, each, 0.0).sum(-1, keepdims=True)
    targets = s * ((1 - epsilon) * each + mixed + _finite(np.asarray(lam * weight)))
    return rows, back(s * _finite(slope)), back(s * weight), back(targets)


def _finite(values: Array) -> Array:
    return np.where(np.isfinite(values), values, 0.0)


def _by_element(case: Case, arguments: Stored, flushes: bool) -> tuple[Array, Array, Array, Array]:
    """Return the same for the binary losses: between t = 0 and 1 the two ends' terms cancel."""
    options = arguments.options
    x = arguments.x.astype(np.float64)
    s = np.broadcast_to(np.asarray(options.get("sample_weight", 1.0), np.float64), x.shape)
    omega = np.asarray(options.get("pos_weight", 1.0), np.float64)
    assert arguments.targets is not None
    epsilon = float(options.get("label_smoothing", 0.0))
    t = arguments.targets.astype(np.float64) * (1 - epsilon) + epsilon / 2
    if case.loss == "binary_cross_entropy":
        eps = options.get("eps")
        p = np.clip(x, eps, 1 - eps) if eps is not None else x
        yes, no, up, down = -np.log(p), -np.log1p(-p), t / p, (1 - t) / (1 - p)
    else:
        yes, no = np.logaddexp(0, -x), np.logaddexp(0, x)
        up, down = omega * t * np.exp(-no), (1 - t) * np.exp(-yes)
    yes, no = omega * yes, no
    rows = np.where(t == 0, 0.0, t * yes) + np.where(t == 1, 0.0, (1 - t) * no)
    slope = np.maximum(np.where(t == 0, 0.0, up), np.where(t == 1, 0.0, down))
    power = np.ones(x.shape)
    if case.loss == "sigmoid_focal_loss":
        gamma = float(options.get("gamma", 2.0))
        p = np.exp(-yes)
        miss = p * (1 - t) + np.exp(-no) * t
        power = miss**gamma
        bend = gamma * np.where(miss == 0, 0.0, miss ** (gamma - 1)) * p * np.exp(-no) * rows
        alpha = options.get("alpha")
        share = 1.0 if alpha is None else alpha * t + (1 - alpha) * (1 - t)
        slope = share * (power * slope + bend)
        rows = share * power * rows
        power = np.maximum(power, _underflow(miss, gamma, arguments.dtype, flushes))
    targets = power * (_finite(yes) + _finite(no)) * (1 + float(options.get("gamma", 0.0)))
    grad = np.where(np.isin(t, (0.0, 1.0)), 0.0, s * _finite(slope))
    return s * _finite(rows), grad, np.zeros(()), s * targets
