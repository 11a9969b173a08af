"""Sums and quotients of floats that keep about 106 bits."""

from __future__ import annotations

from dataclasses import dataclass
from math import isfinite

import numpy as np
import numpy.typing as npt

from .._arrays.context import context
from ..core.reduce import paired_sum


@dataclass(frozen=True, slots=True)
class Sum:
    """An unevaluated sum high + low of two floats: about 106 bits."""

    high: float = 0.0
    low: float = 0.0

    def __add__(self, other: Sum) -> Sum:
        total, error = _two_sum(self.high, other.high)
        if not isfinite(total):
            return Sum(total)
        low = self.low + other.low + error
        high = total + low
        return Sum(high, low - (high - total))

    @classmethod
    def of(cls, values: npt.NDArray[np.float64]) -> Sum:
        """Add up an array in pairs, keeping every rounding error."""
        with np.errstate(all="ignore"):
            high, low = paired_sum(context(values, np), values)
        return Sum(float(high), float(low)) + Sum()


def _two_sum(a: float, b: float) -> tuple[float, float]:
    """Return a + b rounded, and the rounding error (Knuth's two-sum)."""
    total = a + b
    shadow = total - a
    return total, (a - (total - shadow)) + (b - shadow)


def quotient(above: Sum, below: Sum) -> float:
    """Return above / below within an ulp, for which the low parts of both are needed."""
    first = above.high / below.high
    correction = (above.low - first * below.low) / below.high
    return first + correction if isfinite(correction) else first
