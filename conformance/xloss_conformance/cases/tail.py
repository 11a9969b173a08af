"""The confident tail: the true class far ahead, where 1 + small loses the small."""

from __future__ import annotations

import numpy as np

from ..case import Case
from .arrays import confident

GAPS = (5, 8, 10, 12, 14, 16, 17, 18, 20, 25, 30, 36, 40, 50, 60, 70, 80, 82)
LOST = "log(1 + r) is 0 in float32 once r < 2^-24: the loss and p - 1 lose every digit"


def cases() -> list[Case]:
    """Return the family."""
    return [
        Case(
            "tail", f"gap {gap}", LOST, confident(gap), np.array([0]),
            gap=float(gap), quick=gap in (5, 12, 17, 40, 80),
        )
        for gap in GAPS
    ]  # fmt: skip
