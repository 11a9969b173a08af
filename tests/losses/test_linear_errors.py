"""What linear_cross_entropy refuses beside what cross_entropy does; what its gradients are of."""

from __future__ import annotations

import numpy as np
import pytest

import xloss
from linear_cases import CLASSES, ROWS, B, T, W, X, Y

gradients = xloss.value_and_grad(xloss.linear_cross_entropy, (0, 1, "bias"))

ERRORS = [
    ("features", {"features": [[1.0]]}, TypeError),
    ("features", {"features": X.astype(int)}, TypeError),
    ("features", {"features": np.float64(1.0)}, ValueError),
    ("weight", {"weight": W.tolist()}, TypeError),
    ("weight", {"weight": W.astype(int)}, TypeError),
    ("weight", {"weight": W[:, :4]}, ValueError),
    ("weight", {"weight": W[0]}, ValueError),
    ("weight", {"weight": W[:0]}, ValueError),
    ("bias", {"bias": B[:3]}, ValueError),
    ("bias", {"bias": 1.0}, TypeError),
    ("bias", {"bias": B.astype(int)}, TypeError),
    ("targets", {"targets": Y[:3]}, ValueError),
    ("targets", {"targets": T[:, :4]}, ValueError),
    ("targets", {"targets": Y > 0}, TypeError),
    ("class_weight", {"class_weight": np.ones(4)}, ValueError),
    ("block_rows", {"block_rows": 0}, ValueError),
    ("block_rows", {"block_rows": 2.0}, TypeError),
    ("block_rows", {"block_rows": True}, TypeError),
    ("block_rows", {"block_rows": "all"}, TypeError),
    ("class_weight", {"class_weight": -np.ones(CLASSES), "validate": True}, ValueError),
    ("sample_weight", {"sample_weight": -np.ones(ROWS), "validate": True}, ValueError),
]


@pytest.mark.parametrize(("name", "given", "error"), ERRORS, ids=lambda v: str(v)[:24])
def test_errors_name_the_argument(name, given, error):
    arrays = [given.get(n, a) for n, a in (("features", X), ("weight", W), ("targets", Y))]
    options = {k: v for k, v in given.items() if k not in ("features", "weight", "targets")}
    with pytest.raises(error, match=f"^{name}: "):
        xloss.linear_cross_entropy(*arrays, **options)


def test_argnums_are_features_weight_bias_and_soft_targets():
    with pytest.raises(ValueError, match="bias is not given"):
        gradients(X, W, Y)
    with pytest.raises(ValueError, match="class_weight is a constant"):
        xloss.value_and_grad(xloss.linear_cross_entropy, "class_weight")(X, W, Y)
    with pytest.raises(TypeError, match="targets of dtype int64"):
        xloss.value_and_grad(xloss.linear_cross_entropy, 2)(X, W, Y)
    with pytest.raises(ValueError, match="cotangent"):
        gradients(X, W, Y, bias=B, reduction="none", cotangent=np.ones(3))


def test_two_libraries_are_an_error():
    torch = pytest.importorskip("torch")
    with pytest.raises(TypeError, match=r"^weight: expected an array of numpy as features is"):
        xloss.linear_cross_entropy(X, torch.tensor(W), Y)
