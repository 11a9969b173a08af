"""What both kernels do alike: name their arguments, and turn a row's statistics to its loss."""

from __future__ import annotations

from typing import Any

import numpy as np

from .. import arguments
from ..kernel_cache import inline
from .functions import DOWN, exp_scaled

unpack = inline()(arguments.unpack)


@inline()
def row_loss(
    log1p_tail: float, lse: float, sums: Any, weights: Any, by_label: bool, options: Any
) -> Any:
    """Return a row's loss from its statistics, in float64, as core.softmax.losses does.

    sums: target_weight, target_sum, target_gap, possible, possible_weight, possible_gap; weights:
    of the label, the sample and the row. A loss that is weighted by 0 is 0 even where it is
    infinite, but NaN where it is NaN.
    """
    target_weight, target_sum, target_gap, possible, possible_weight, possible_gap = sums
    label_weight, sample_weight, row_weight = weights
    eps, z_loss = options.label_smoothing, options.z_loss
    loss = 0.0
    if eps < 1.0:
        loss = target_weight * log1p_tail + target_gap
        if by_label:
            loss = 0.0 if label_weight == 0.0 and loss == loss else label_weight * loss
        loss = (1.0 - eps) * loss if eps > 0.0 else loss
    if eps > 0.0:
        uniform = eps / possible * (possible_weight * log1p_tail + possible_gap)
        if not by_label:
            uniform = 0.0 if target_sum == 0.0 and uniform == uniform else target_sum * uniform
        loss += uniform
    loss *= sample_weight
    if z_loss > 0.0:
        loss += z_loss * row_weight * lse * lse
    return loss


def _label_gradient(
    gap: float, tail_sum: float, inv: float, weights: Any, b: float, zc: float
) -> Any:
    """Return the gradient at a row's label.

    weights: 1 - label_smoothing, the label's, and of what smoothing spreads the label's part and
    all of it.
    """
    keep, label, own, all_uniform = weights
    e = exp_scaled(-gap, 0.0) * DOWN
    p = e * inv
    q = (tail_sum if gap == 0.0 else 1.0 + (tail_sum - e)) * inv  # 1 - p
    v = (p * (all_uniform - own) - (keep * label + own) * q) * b
    return v + (0.0 if p == 0.0 else zc * p)


# As the rows kernel and the columns kernel round it.
label_gradient = inline()(_label_gradient)
fused_label_gradient = inline(fastmath={"contract"})(_label_gradient)


@inline()
def two_sum(a: float, b: float) -> tuple[float, float]:
    """Return a + b, and what rounding lost of it."""
    s = a + b
    back = s - a
    return s, (a - (s - back)) + (b - back)


@inline()
def add(sums: Any, at: int, v: float) -> None:
    """Add v to sums[at], and what rounding lost of the sum to sums[at + 1]."""
    s = sums[at] + v
    lost = (sums[at] - s) + v if abs(sums[at]) >= abs(v) else (v - s) + sums[at]
    # Where the sum has overflowed the difference is infinite, and no rounding error.
    sums[at + 1] += lost if abs(lost) < np.inf else 0.0
    sums[at] = s


@inline()
def moved_gap(gap: float, weight: float, rise: float) -> float:
    """Return Σ a (m - z), with Σ a = weight, about a maximum that has risen."""
    return gap if weight == 0.0 else gap + weight * rise
