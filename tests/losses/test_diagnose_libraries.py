"""A diagnosis of other libraries' arrays is that of NumPy's."""

from importlib import import_module

import numpy as np
import pytest

from xloss import diagnose

nan, inf = np.nan, np.inf


def found(report):
    return {f.rule: [p[0] if len(p) == 1 else p for p in f.positions] for f in report.findings}


FINE = [0.0, 1.0, 2.0]


@pytest.mark.parametrize("lib", ["torch", "jax", "dask", "strict", "device1"], indirect=True)
def test_every_library(lib):
    logits = np.float32([FINE, [nan, 0, 0], [-inf, 0, 0], FINE, [inf, 0, 0]])
    labels = np.array([0, 0, 0, 3, -100])
    soft = np.float32([[1, 0, 0], [0, 1, 0], [1, 0, 0], [nan, 0, 0], [0, 1, 0]])
    z = lib.like(logits)
    if lib.name == "torch":
        z.requires_grad_()
    common = {"nan_logit", "masked_target"}
    for targets, more in (
        (labels, {"label_out_of_range"}),
        (soft, {"bad_target", "infinite_logit"}),
    ):
        expected = diagnose(logits, targets)
        assert set(found(expected)) == common | more
        assert str(diagnose(z, lib.like(targets))) == str(expected)


def test_sixteen_bit_logits():
    torch = import_module("torch")
    logits = torch.tensor([[0.0, 1.0], [nan, 0.0]], dtype=torch.bfloat16)
    assert found(diagnose(logits, torch.tensor([0, 0]))) == {"nan_logit": [1]}
    assert found(diagnose(np.float16([[0, 1], [nan, 0]]), np.array([0, 0]))) == {"nan_logit": [1]}


def test_dask_rows_of_unknown_number():
    da = import_module("dask.array")
    logits = np.array([FINE, [nan, 0, 0], FINE])
    keep = np.array([True, True, False])
    z = da.from_array(logits, chunks=(2, 3))[da.from_array(keep, chunks=2)]
    y = da.from_array(np.array([0, 0, 0]), chunks=2)[da.from_array(keep, chunks=2)]
    report = diagnose(z, y)
    assert (report.rows, found(report)) == (2, {"nan_logit": [1]})
