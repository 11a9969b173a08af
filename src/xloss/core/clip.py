"""Probabilities clipped into [eps, 1-eps]: the ends by number, as 1-eps is rounded, to 1 even."""

from __future__ import annotations

from math import inf, log, log1p

from .._arrays.inspect import Array


def beyond(x: Array, eps: float) -> tuple[Array, Array]:
    """Mark the probabilities below eps and those above 1-eps; a NaN is neither."""
    return x < eps, 1.0 - x < eps


def end_logs(eps: float) -> tuple[float, float]:
    """Return the logarithms of eps and of 1-eps."""
    return log(eps) if eps else -inf, log1p(-eps)
