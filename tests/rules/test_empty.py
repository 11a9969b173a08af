"""Empty arrays through what stands around a loss: no rows, no classes, or neither."""

import numpy as np
import pytest

import xloss

# Shape, axis, and the shape of the rows.
EMPTY = [
    ((5, 0, 0), 0, (0, 0)),
    ((5, 0, 3), 1, (5, 3)),
    ((0, 0), -1, (0,)),
    ((0,), -1, ()),
    ((0, 3), -1, (0,)),
]
empty = pytest.mark.parametrize(("form", "axis", "rows"), EMPTY)


@empty
def test_an_empty_array_gives_an_empty_array_and_gradient(lib, form, axis, rows):
    x = lib.array(np.zeros(form))
    for op in (xloss.softmax, xloss.log_softmax):
        assert lib.host(op(x, axis=axis)).shape == form
    # The sum over no class is 0, its logarithm -inf; nothing is possible, so no entropy is right.
    kept = lib.host(xloss.logsumexp(x, axis=axis, keepdims=True))
    assert kept.shape == tuple(1 if i == axis % len(form) else n for i, n in enumerate(form))
    for op, number in ((xloss.logsumexp, -np.inf), (xloss.entropy, np.nan)):
        want = np.full(rows, number, np.float32)
        np.testing.assert_array_equal(lib.host(op(x, axis=axis)), want, strict=True)
        value, grad = xloss.value_and_grad(op)(x, axis=axis)
        np.testing.assert_array_equal(lib.host(value), want, strict=True)
        assert lib.host(grad).shape == form
        assert lib.dtype_of(grad) == "float32"


@empty
def test_autograd_and_jit(form, axis, rows):
    torch = pytest.importorskip("torch", reason="pip install 'xloss[torch]'")
    jax = pytest.importorskip("jax", reason="pip install 'xloss[jax]'")
    for op in (xloss.softmax, xloss.log_softmax, xloss.logsumexp, xloss.entropy):
        x = torch.zeros(form, requires_grad=True)
        op(x, axis=axis).sum().backward()
        assert x.grad.shape == form
    slope = jax.jit(jax.grad(lambda x: xloss.logsumexp(x, axis=axis).sum()))
    assert slope(jax.numpy.zeros(form)).shape == form
