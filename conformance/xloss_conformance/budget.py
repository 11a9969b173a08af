"""How far a right answer may be off: the error budget, entry by entry.

Errors are counted in units in the last place of a *scale*: the exact number itself where its terms
have one sign, the largest of its terms where they cancel. Scales need their order of magnitude
only, and are computed in float64 from the definition, apart from any implementation.

| what | ulp |
| --- | --- |
| value; gradient at the true class | 4 |
| other gradient entries | 6 in generic engines, 4 in compiled ones |
| soft, smoothed or weighted targets, z-loss | 4, of the largest of p·A, a and the z term |
| softcap c | c more; capped logits are rounded, so that their differences are never exact |
| focal losses | 4 (1 + γ): (1-p)^γ multiplies a relative error of 1-p by γ |
| logits whose differences are not exact in the dtype | half an ulp a unit of gap more, generic |
| what rounds an exponent, as these two do | relative: up to twice as many ulp below a power of 2 |
| 16-bit gradients | one rounding of the float32 result: half an ulp and the budget in float32 |
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from .case import BINARY, FROM_LOGITS, Array, Case, Stored
from .expected import Expected
from .formats import FORMATS
from .subject import Traits

BASE, OTHER = 4.0, 6.0


class Budget(NamedTuple):
    """Allowed ulp and their scale (0: of the exact number itself); each broadcasts to its array."""

    value: Array
    value_scale: Array
    grad: Array
    grad_scale: Array
    targets: Array
    targets_scale: Array


def spacing(dtype: str, scale: Array) -> Array:
    """Return the distance of neighbouring numbers of a dtype at |scale|."""
    bits, largest = FORMATS[dtype]
    with np.errstate(all="ignore"):
        exponent = np.frexp(np.where(np.isfinite(scale), scale, 0.0))[1] - 1
    exponent = np.where(scale == 0, 1 - largest, np.maximum(exponent, 1 - largest))
    return np.asarray(np.ldexp(1.0, exponent - (bits - 1)))


def errors(got: Array, hi: Array, lo: Array, dtype: str, scale: Array) -> Array:
    """Return |got - (hi + lo)| in ulp; 0 for NaN as wanted and for infinities that round so."""
    bits, largest = FORMATS[dtype]
    with np.errstate(all="ignore"):
        unit = spacing(dtype, np.maximum(np.abs(hi), np.nan_to_num(scale, posinf=0.0)))
        off = np.abs((got - hi) - lo) / unit
        over = 2.0**largest * (2 - 2.0**-bits)  # rounds to infinity
        right = np.isnan(got) & np.isnan(hi)
        right |= np.isinf(got) & (np.sign(got) * hi >= over)
    both = np.isfinite(got) & np.isfinite(hi)
    return np.asarray(np.where(right, 0.0, np.where(both, off, np.inf)))


def accumulated(dtype: str) -> str:
    """Return the dtype of the loss: float32 at least."""
    return "float64" if dtype == "float64" else "float32"


def budget(case: Case, arguments: Stored, expected: Expected, traits: Traits) -> Budget:
    """Return what the contract allows a subject in a case."""
    options = arguments.options
    times = 1 + float(options.get("gamma", 2.0)) if "focal" in case.loss else 1.0
    ulp = BASE * times
    plain = case.index and case.loss == "cross_entropy" and not _mixed(options)
    label = _labels(case, arguments) if case.index else np.zeros((), bool)
    grad = np.where(label, ulp, OTHER if plain and not traits.compiled else ulp)
    # What rounds the exponents: a relative error, which the mantissa turns into ulp.
    bent = np.asarray(float(options.get("softcap") or 0.0) * times)
    if not traits.compiled and case.loss in FROM_LOGITS:
        bent = bent + _rounded_gap(case, arguments)
    most = np.max(bent, initial=0.0)
    scales = _scales(case, arguments, expected, plain)
    value = ulp + most * _mantissa(expected.value.hi, scales[0])
    grad = grad + bent * _mantissa(expected.grad.hi, scales[1])
    by_targets = expected.grad_targets
    targets = np.asarray(ulp)
    if by_targets is not None:
        targets = ulp + most * _mantissa(by_targets.hi, scales[2])
    bits = FORMATS[arguments.dtype][0]
    if bits < 24:  # computed in float32, rounded once
        grad, targets = (0.5 + v * 2.0 ** (bits - 24) for v in (grad, targets))
    return Budget(value, scales[0], grad, scales[1], targets, scales[2])


def _mantissa(hi: Array, scale: Array) -> Array:
    """Return the mantissa, from 1 to 2, of the number whose ulp is counted."""
    size = np.maximum(np.abs(hi), np.nan_to_num(scale, posinf=0.0))
    mantissa = 2 * np.frexp(np.where(np.isfinite(size), size, 1.0))[0]
    return np.where(mantissa == 0, 1.0, mantissa)


def _mixed(options: dict[str, Any]) -> bool:
    return any(np.any(options.get(k, 0)) for k in ("weight", "label_smoothing", "z_loss"))


def _labels(case: Case, arguments: Stored) -> Array:
    """Return a mask of the entries of the true classes."""
    assert arguments.targets is not None
    x = np.moveaxis(arguments.x, case.axis, -1)
    if case.tile > 1:
        return np.zeros((), bool)
    hot = arguments.targets[..., None] == np.arange(x.shape[-1])
    return np.moveaxis(hot, -1, case.axis)


def _rounded_gap(case: Case, arguments: Stored) -> Array:
    """Return half the gap of rows in which a difference of logits is rounded, else 0."""
    if case.tile > 1:
        return np.zeros(())
    kind = np.float64 if arguments.dtype == "float64" else np.float32
    x = np.moveaxis(arguments.x, case.axis, -1).astype(kind)
    cap = arguments.options.get("softcap")
    with np.errstate(all="ignore"):
        if cap:  # capped logits lie on no grid
            x = np.where(x == -np.inf, x, (cap * np.tanh(x / cap)).astype(kind))
        top = np.max(x, axis=-1, keepdims=True, initial=-np.inf)
        d = x - top
        # Both errors of a sum as Knuth has them: what x - top lost.
        b = d - x
        lost = (x - (d - b)) + (-top - b)
        rounded = np.any((lost != 0) & np.isfinite(lost), axis=-1, keepdims=True)
        gap = np.max(np.where(np.isfinite(d), -d, 0), axis=-1, keepdims=True, initial=0)
    return np.moveaxis(np.where(rounded, 0.5 * gap, 0.0).astype(np.float64), -1, case.axis)


# The scales: sizes of the terms that may cancel.


def _scales(
    case: Case, arguments: Stored, expected: Expected, plain: bool
) -> tuple[Array, Array, Array]:
    none = np.zeros(())
    if plain or case.tile > 1:
        return none, none, none
    with np.errstate(all="ignore"):
        by_row = _by_element if case.loss in BINARY else _by_class
        rows, grad, drift, targets = by_row(case, arguments)
        keep = ~expected.absent
        total, factor = _denominator(case, arguments, keep, rows)
        value = np.where(keep, rows, 0.0) / (1.0 if case.loss == "entropy" else total)
        reduction = arguments.options.get("reduction", "mean")
        if case.loss != "entropy" and reduction != "none":
            value = np.asarray(np.sum(value))
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
        t, weight = _hot(case, arguments)
        w = np.sum(np.where(t == 0, 0.0, t * weight), axis=-1)
    total = float(np.sum(np.where(keep, s * w, 0.0)))
    return (total or 1.0), float(case.loss not in (*BINARY, "kl_div"))


def _last(case: Case, values: Any) -> Array:
    return np.moveaxis(np.asarray(values, np.float64), case.axis, -1)


def _hot(case: Case, arguments: Stored) -> tuple[Array, Array]:
    """Return the targets as probabilities, class axis last, and the class weights."""
    assert arguments.targets is not None
    classes = arguments.x.shape[case.axis]
    weight = np.asarray(arguments.options.get("weight", np.ones(classes)), np.float64)
    if case.index:
        labels = arguments.targets
        return (labels[..., None] == np.arange(classes)).astype(np.float64), weight
    return _last(case, arguments.targets), weight


def _column(case: Case, values: Any, shape: tuple[int, ...]) -> Array:
    return np.broadcast_to(np.asarray(values, np.float64), shape)[..., None]


def _by_class(case: Case, arguments: Stored) -> tuple[Array, Array, Array, Array]:
    """Rows' scale of the value; of the gradients to x and targets; and dW/dt, in x's layout."""
    options = arguments.options
    x = _last(case, arguments.x)
    s = _column(case, options.get("sample_weight", 1.0), x.shape[:-1])

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
        return terms.sum(-1), back(p * top), back(np.zeros(())), back(np.zeros(()))
    t, weight = _hot(case, arguments)
    epsilon = float(options.get("label_smoothing", 0.0))
    share = epsilon / np.maximum(possible.sum(-1, keepdims=True), 1)
    q = (1 - epsilon) * t + share * t.sum(-1, keepdims=True) * possible
    a = np.where(q == 0, 0.0, q * weight)
    total = np.where(t == 0, 0.0, t * weight).sum(-1, keepdims=True)
    rest, gamma = 1 - p, 0.0
    if case.loss == "focal_loss":
        gamma = float(options.get("gamma", 2.0))
        nll = rest**gamma * nll
    terms = np.where(a == 0, 0.0, a * nll)
    z_term = np.abs(2 * float(options.get("z_loss", 0.0)) * total * lse * p)
    rows = s[..., 0] * _finite(terms).sum(-1)
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


def _by_element(case: Case, arguments: Stored) -> tuple[Array, Array, Array, Array]:
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
    factor = np.ones(x.shape)
    if case.loss == "sigmoid_focal_loss":
        gamma = float(options.get("gamma", 2.0))
        p = np.exp(-yes)
        miss = p * (1 - t) + np.exp(-no) * t
        factor = miss**gamma
        bend = gamma * np.where(miss == 0, 0.0, miss ** (gamma - 1)) * p * np.exp(-no) * rows
        slope = factor * slope + bend
        rows = factor * rows
    targets = factor * (_finite(yes) + _finite(no)) * (1 + float(options.get("gamma", 0.0)))
    ends = np.isin(t, (0.0, 1.0))
    grad = np.where(ends, 0.0, s * _finite(slope))
    return s * _finite(rows), grad, np.zeros(()), s * targets
