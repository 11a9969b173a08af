"""How far a right answer may be off: the error budget, entry by entry.

Errors are counted in units in the last place of a *scale*: the exact number itself where its terms
have one sign, the largest of its terms where they cancel. Scales need their order of magnitude
only, and are computed in float64 from the definition, apart from any implementation.

| what | ulp |
| --- | --- |
| value; gradient at the true class | 4 |
| other gradient entries | 6 in generic engines, 4 in compiled ones |
| soft, smoothed or weighted targets, z-loss | the same, of the largest of p·A, a and the z term: \
with p·A a term, a sum is no more exact than p·A alone |
| softcap c | c more; capped logits are rounded, so that their differences are never exact |
| focal losses | 4 (1 + γ): (1-p)^γ multiplies a relative error of 1-p by γ |
| logits whose differences are not exact in the dtype | half an ulp a unit of gap more, generic |
| linear: features, weight, bias | twice that of the logits' gradient and two a term, of Σ|terms| |
| what rounds an exponent, as these two do | relative: up to twice as many ulp below a power of 2 |
| what token_stats has beside the losses | see columns |
| 16-bit gradients | one rounding of the float32 result: half an ulp and the budget in float32; \
of compiled engines 24 ulp of float32 more, for an exponent of up to 64 rounded before 2^x |
| linear in 16 bits | each term rounded before the products, and the result of a block: 2 ulp more |
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from . import packed
from .error_scales import hot, scales_of
from .formats import FORMATS
from .model import FROM_LOGITS, Allowed, Array, Budget, Case, Exact, Expected, Stored, Traits
from .packed import LINEAR, LINEAR_TOKENS, TOKENS, fields_of, loss_alone
from .top_k import TOP_K, dense_case

BASE, OTHER = 4.0, 6.0
EXACT = ("correct", "rank")  # fields which are no results of rounded arithmetic


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
        # Just below a power of 2, hi is that power, and its ulp is twice as large.
        size = np.where(np.sign(lo) * np.sign(hi) < 0, np.nextafter(np.abs(hi), 0.0), np.abs(hi))
        unit = spacing(dtype, np.maximum(size, np.nan_to_num(scale, posinf=0.0)))
        off = np.abs((got - hi) - lo) / unit
        over = 2.0**largest * (2 - 2.0**-bits)  # rounds to infinity
        right = np.isnan(got) & np.isnan(hi)
        right |= np.isinf(got) & (np.sign(got) * hi >= over)
    both = np.isfinite(got) & np.isfinite(hi)
    return np.asarray(np.where(right, 0.0, np.where(both, off, np.inf)))


def budget(case: Case, arguments: Stored, expected: Expected, traits: Traits) -> Budget:
    """Return what the contract allows a subject in a case."""
    if case.loss in TOKENS:
        return _tokens(case, arguments, expected, traits)
    if case.loss == LINEAR:
        return _linear(case, arguments, expected, traits)
    if case.loss == TOP_K:
        return _top_k(case, arguments, expected, traits)
    options = arguments.options
    times = 1 + float(options.get("gamma", 2.0)) if "focal" in case.loss else 1.0
    ulp = BASE * times
    mixed = any(np.any(options.get(k, 0)) for k in ("weight", "label_smoothing", "z_loss"))
    plain = case.index and case.loss == "cross_entropy" and not mixed
    label = np.zeros((), bool)  # of the true classes' entries
    if plain and case.tile == 1:
        label = np.moveaxis(hot(case, arguments)[0] != 0, -1, case.axis)
    compiled = traits.compiled and case.loss == "cross_entropy"
    grad = np.where(label, ulp, OTHER if case.loss == "cross_entropy" and not compiled else ulp)
    # What rounds the exponents: a relative error, which the mantissa turns into ulp.
    bent = np.asarray(float(options.get("softcap") or 0.0) * times)
    if not compiled and case.loss in FROM_LOGITS:
        bent = bent + _rounded_gap(case, arguments)
    most = np.max(bent, initial=0.0)
    scales = (np.zeros(()),) * 3 if plain else scales_of(case, arguments, expected, traits)
    value = ulp + most * _mantissa(expected.value.hi, scales[0])
    grad = grad + bent * _mantissa(expected.grad.hi, scales[1])
    grad = grad + 24.0 * (compiled and _narrow(arguments))
    by_targets = expected.grad_targets
    targets = np.asarray(ulp)
    if by_targets is not None:
        targets = ulp + most * _mantissa(by_targets.hi, scales[2])
    ulps = value, _rounded(arguments, grad), _rounded(arguments, targets)
    return Budget(*map(Allowed, ulps, scales))


def _narrow(arguments: Stored) -> bool:
    """Whether the dtype has 16 bits: what is of it is computed in float32, and rounded once."""
    return FORMATS[arguments.dtype][0] < 24


def _rounded(arguments: Stored, ulp: Array) -> Array:
    """Return so many ulp of float32, and the rounding to the dtype where that has fewer bits."""
    return 0.5 + ulp * 2.0 ** (FORMATS[arguments.dtype][0] - 24) if _narrow(arguments) else ulp


def _tokens(case: Case, arguments: Stored, expected: Expected, traits: Traits) -> Budget:
    """Return that of the losses and their gradient, and of the fields beside them."""
    asked, given = loss_alone(case, arguments)
    hi, lo = (v[..., 0] for v in expected.value)
    of_loss = budget(asked, given, expected._replace(value=Exact(hi, lo)), traits)
    bent = np.asarray(float(arguments.options.get("softcap") or 0.0))
    if not traits.compiled and asked.loss != LINEAR:
        bent = bent + np.max(_rounded_gap(case, arguments), axis=case.axis)
    return of_loss._replace(value=columns(case, arguments, expected.value.hi, of_loss.value, bent))


def columns(case: Case, arguments: Stored, value: Array, loss: Allowed, bent: Array) -> Allowed:
    """Return the budget of every field from that of the losses, (*rows).

    value: the exact fields. bent: what rounded exponents add, relative, in ulp.

    | field | ulp |
    | --- | --- |
    | loss | that of cross_entropy |
    | lse | 4, of the largest of m, L and lse, which may cancel |
    | entropy | 4: L and Σ p (m - z) have no term below 0. An error of a logit changes H by up to \
twice that share of H |
    | max_prob | 4 |
    | z_term | twice that of lse, of λ W times the square of lse's scale |
    | weight | 4: a product |
    | correct, rank | none |
    """
    x = np.moveaxis(np.asarray(arguments.x, np.float64), case.axis, -1)
    if case.loss == LINEAR_TOKENS:
        x = packed.product(arguments)
    options = arguments.options
    names = fields_of(case)
    with np.errstate(all="ignore"):
        cap = options.get("softcap")
        top = np.max(x, axis=-1, initial=-np.inf)
        top = cap * np.tanh(top / cap) if cap else top
        lse = value[..., 1]
        size = np.nan_to_num(np.maximum.reduce([np.abs(top), np.abs(lse), np.abs(lse - top)]))
        weight = np.abs(np.nan_to_num(value[..., names.index("weight")]))
    zero, two = np.zeros(lse.shape), 2.0  # a mantissa's most
    of_lse = 4.0 + two * bent
    by_name = {
        "loss": loss,
        "lse": Allowed(of_lse, size),
        "entropy": Allowed(4.0 + two * two * bent, zero),
        "max_prob": Allowed(4.0 + two * bent, zero),
        "z_term": Allowed(2 * of_lse, float(options.get("z_loss", 0.0)) * weight * size**2),
        "weight": Allowed(np.asarray(4.0), zero),
        **dict.fromkeys(EXACT, Allowed(np.asarray(0.5), zero)),
    }
    ulps, scales = zip(*(by_name[name] for name in names), strict=True)
    return Allowed(_side_by_side(ulps, lse.shape), _side_by_side(scales, lse.shape))


def _side_by_side(values: Sequence[Any], shape: tuple[int, ...]) -> Array:
    return np.stack([np.broadcast_to(np.asarray(v, float), shape) for v in values], axis=-1)


def _top_k(case: Case, arguments: Stored, expected: Expected, traits: Traits) -> Budget:
    """Return that of soft targets written out.

    A slot's gradient is its class's less the mean of the other classes': two terms of that size.
    """
    dense = dense_case(case, arguments, traits)
    made = budget(*dense[:2], expected._replace(grad_targets=None), dense[2])
    scale = scales_of(*dense[:2], expected, dense[2])[2]
    largest = np.broadcast_to(scale, dense[1].x.shape).max(-1, keepdims=True)
    cap = float(arguments.options.get("softcap") or 0.0)
    targets = _rounded(arguments, np.asarray(2 * BASE + 2 * cap))
    return made._replace(targets=Allowed(targets, largest))


def _linear(case: Case, arguments: Stored, expected: Expected, traits: Traits) -> Budget:
    """Return that of sums of products with each logit's gradient: its error in each, and theirs.

    A scale's spacing is half its size times 2^-bits or more, and a gradient is two of its terms.
    """
    assert arguments.targets is not None
    asked, given = packed.logits_case(case, arguments, packed.product(arguments))
    absent = expected.absent[: len(arguments.targets)]
    value, by_logit, by_targets = scales_of(asked, given, expected._replace(absent=absent), traits)
    cap = float(arguments.options.get("softcap") or 0.0)
    terms = max(asked.classes, len(absent)) + 2
    grad = _rounded(arguments, np.asarray(2 * (OTHER + 2 * cap) + 2 * terms))
    # 16-bit factors multiply as they are: logits' gradients are rounded to the dtype, and where a
    # product returns 16 bits so is each block's share. Half an ulp of a term is less than an ulp of
    # the sum of their sizes, whose mantissa may be 1 where theirs are 2.
    grad = grad + 2.0 * _narrow(arguments)
    ulp = np.asarray(BASE + 2 * cap)
    return Budget(
        Allowed(ulp, value),
        Allowed(grad, packed.scales(arguments, by_logit, absent)),
        Allowed(_rounded(arguments, ulp), by_targets),
    )


def _mantissa(hi: Array, scale: Array) -> Array:
    """Return the mantissa, from 1 to 2, of the number whose ulp is counted."""
    size = np.maximum(np.abs(hi), np.nan_to_num(scale, posinf=0.0))
    mantissa = 2 * np.frexp(np.where(np.isfinite(size), size, 1.0))[0]
    return np.where(mantissa == 0, 1.0, mantissa)


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
