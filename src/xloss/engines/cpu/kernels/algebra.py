"""What both kernels do with one row's statistics, in float64."""

from __future__ import annotations

from typing import Any

import numpy as np

from ..kernel_cache import inline


@inline()
def row_loss(
    rise: float,
    lse: float,
    mass: float,
    total: float,
    dot: float,
    number: float,
    share: float,
    share_dot: float,
    by_label: bool,
    label_weight: float,
    scale: float,
    weight: float,
    eps: float,
    z_loss: float,
) -> float:
    """Return a row's loss from its statistics, as core.softmax.losses does."""
    row = 0.0
    if eps < 1.0:
        row = mass * rise + dot
        if by_label:
            row = 0.0 if label_weight == 0.0 and row == row else label_weight * row
        row = (1.0 - eps) * row if eps > 0.0 else row
    if eps > 0.0:
        uniform = eps / number * (share * rise + share_dot)
        if not by_label:
            uniform = 0.0 if total == 0.0 and uniform == uniform else total * uniform
        row += uniform
    row *= scale
    if z_loss > 0.0:
        row += z_loss * weight * lse * lse
    return row


@inline()
def two_sum(a: float, b: float) -> tuple[float, float]:
    """Return a + b, and what rounding lost of it."""
    s = a + b
    back = s - a
    return s, (a - (s - back)) + (b - back)


@inline()
def add(sums: Any, at: int, v: float) -> None:
    """Add to a sum and to what rounding lost of it."""
    s = sums[at] + v
    lost = (sums[at] - s) + v if abs(sums[at]) >= abs(v) else (v - s) + sums[at]
    # Where the sum has overflowed the difference is infinite, not what rounding lost.
    sums[at + 1] += lost if abs(lost) < np.inf else 0.0
    sums[at] = s


@inline()
def shifted(dot: float, mass: float, rise: float) -> float:
    """Return Σ a (m - z) about a maximum that has risen."""
    return dot if mass == 0.0 else dot + mass * rise
