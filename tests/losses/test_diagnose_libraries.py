"""A diagnosis of other libraries' arrays is that of NumPy's."""

from importlib import import_module

import numpy as np
import pytest

from xloss import diagnose

nan, inf = np.nan, np.inf


def found(report):
    return {f.rule: [p[0] if len(p) == 1 else p for p in f.positions] for f in report.findings}


FINE = [0.0, 1.0, 2.0]


def on(library, x):
    if library == "torch":
        return import_module("torch").from_numpy(x).requires_grad_(x.dtype.kind == "f")
    if library == "dask":
        return import_module("dask.array").from_array(x, chunks=2)
    if library == "strict, another device":
        strict = import_module("array_api_strict")
        return strict.asarray(x, device=strict.Device("device1"))
    return import_module({"strict": "array_api_strict", "jax": "jax.numpy"}[library]).asarray(x)


@pytest.mark.parametrize("library", ["torch", "jax", "dask", "strict", "strict, another device"])
def test_every_library(library):
    logits = np.float32([FINE, [nan, 0, 0], [-inf, 0, 0], FINE, [inf, 0, 0]])
    labels = np.array([0, 0, 0, 3, -100])
    expected = diagnose(logits, labels)
    assert str(diagnose(on(library, logits), on(library, labels))) == str(expected)
    assert set(found(expected)) == {"label_out_of_range", "nan_logit", "masked_target"}
    soft = np.float32([[1, 0, 0], [0, 1, 0], [1, 0, 0], [nan, 0, 0], [0, 1, 0]])
    expected = diagnose(logits, soft)
    assert str(diagnose(on(library, logits), on(library, soft))) == str(expected)
    assert set(found(expected)) == {"bad_target", "nan_logit", "masked_target", "infinite_logit"}


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
