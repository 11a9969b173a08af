"""Linear cross-entropy on the suite's own arrays, its answers held to the suite's budget."""

from __future__ import annotations

from typing import Any

import numpy as np

from accuracy_cases import hold
from xloss_conformance.cases.arrays import P as T
from xloss_conformance.cases.given import UPSTREAM as UP
from xloss_conformance.cases.packed import BIAS as B
from xloss_conformance.cases.packed import FEATURES as X
from xloss_conformance.cases.packed import LINEAR_ALL as ALL
from xloss_conformance.cases.packed import WEIGHT as W
from xloss_conformance.expected import answer
from xloss_conformance.formats import accumulated
from xloss_conformance.model import Case
from xloss_conformance.packed import LINEAR, pack
from xloss_conformance.rounding import numpy_dtype

__all__ = ["ALL", "UP", "B", "T", "W", "X", "Y", "held"]
Y = np.array([0, 4, -100, 3, 3, 2])


def held(
    got: dict[str, Any],
    targets: np.ndarray = Y,
    bias: np.ndarray | None = None,
    upstream: Any = 1.0,
    dtype: str = "float32",
    **options: Any,
) -> None:
    """Hold a value and gradients, those there are, to the budget of a call on X and W."""
    packed = pack(X, W, np.zeros(len(W)) if bias is None else bias)
    soft = targets.dtype.kind == "f"
    case = Case("linear", "", "", packed, targets, LINEAR, options, {}, upstream, soft)
    want, n = answer(case, dtype), len(X)
    value, grad = want.value.hi.astype(accumulated(dtype)), want.grad.hi.astype(numpy_dtype(dtype))
    parts = {"x": grad[:n, :-1], "weight": grad[n:, :-1], "bias": grad[n:, -1]}
    for name in parts.keys() & got.keys():
        assert (got[name].shape, got[name].dtype) == (parts[name].shape, grad.dtype)
        parts[name][...] = got[name]
    hold(case, dtype, got.get("value", value), grad, got.get("targets"))
