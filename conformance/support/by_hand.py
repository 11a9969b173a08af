"""Arrays and cases by hand, small and tame, for the tests of conventions."""

from __future__ import annotations

from importlib.util import find_spec
from typing import Any

import numpy as np
import pytest

from xloss_conformance import peers
from xloss_conformance.cases.arrays import logits, soft
from xloss_conformance.model import Case
from xloss_conformance.peers import Peer

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
EMPTY = np.zeros((0, 3))
BCE, BCE_LOGITS = "binary_cross_entropy", "binary_cross_entropy_with_logits"


def made(x: Any, targets: Any, loss: str = "cross_entropy", **options: Any) -> Case:
    to_targets = options.pop("to_targets", False)
    return Case("hand", "made", "", x, targets, loss, options, to_targets=to_targets)


def peer(name: str, dtype: str = "float32") -> Peer:
    if name == "tensorflow":  # which is not installed with the others
        pytest.importorskip(name)
    return peers.peer(name, dtype)
