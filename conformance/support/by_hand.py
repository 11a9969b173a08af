"""Losses, arrays, cases and deviations by hand, small and tame."""

from __future__ import annotations

from importlib.util import find_spec
from typing import Any

import numpy as np
import pytest

import xloss
from xloss_conformance import candidates
from xloss_conformance.candidates import Peer
from xloss_conformance.cases import making
from xloss_conformance.cases.arrays import logits, soft
from xloss_conformance.model import Case

LACKING = [p for p in ("jax", "keras", "optax", "sklearn", "scipy", "torch") if not find_spec(p)]
needs_all = pytest.mark.skipif(bool(LACKING), reason=f"not installed: {', '.join(LACKING)}")

Z = logits(4, 3, seed=1, scale=0.5)  # tame: nobody loses digits here
LABELS = np.array([2, 0, 1, 1])
SOFT = soft(4, 3)
UNEVEN = SOFT * np.array([[0.5], [1.0], [2.0], [1.0]])  # rows that do not sum to 1
CLASS_WEIGHT = np.array([1.0, 2.0, 0.5])
ROW_WEIGHT = np.array([1.0, 0.5, 2.0, 0.25])
P = np.array([[0.5, 0.25, 0.25], [0.125, 0.375, 0.5], [0.25, 0.5, 0.25], [0.25, 0.25, 0.5]])
BITS = np.array([[1.0, 0, 0], [0, 1, 1], [0, 0, 1], [1, 1, 0]])
LOG_P = np.log(P)
BCE, BCE_LOGITS = "binary_cross_entropy", "binary_cross_entropy_with_logits"


BOTH = xloss.value_and_grad(xloss.cross_entropy)


def right(logits: Any, targets: Any, **options: Any) -> Any:
    return BOTH(logits, targets, **options)


def noisy(logits: Any, targets: Any, **options: Any) -> Any:
    value, gradient = BOTH(logits, targets, **options)
    return value * 1.00001, gradient


def plain(logits: Any, targets: Any) -> Any:
    return BOTH(logits, targets)


DEVIATION = """
[[deviation]]
subject = "{}"
case = "{}"
rule = "value"
reason = "a hundredth of a thousandth"
link = "https://example.org/1"
"""
EXCUSED = "a hundredth of a thousandth (https://example.org/1)"


def made(x: Any, targets: Any, loss: str = "cross_entropy", **given: Any) -> Case:
    return making.made("hand", "made", "", x=x, targets=targets, loss=loss, **given)


def peer(name: str, dtype: str = "float32") -> Peer:
    if name == "tensorflow":  # which is not installed with the others
        pytest.importorskip(name)
    return candidates.peer(name, dtype)
