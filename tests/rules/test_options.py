"""A library with fewer of the standard's options; and what is no array that can be computed on.

The losses themselves are judged with fewer options in test_suite_elsewhere.py.
"""

import numpy as np
import pytest

import xloss
from expected import expected, inputs

strict = pytest.importorskip("array_api_strict", reason="pip install array-api-strict")


@pytest.fixture
def least():
    """No boolean indexing, no shapes that depend on data, no extension, the oldest version."""
    strict.set_array_api_strict_flags(
        boolean_indexing=False,
        data_dependent_shapes=False,
        enabled_extensions=(),
        api_version="2024.12",
    )
    yield
    strict.reset_array_api_strict_flags()


def test_what_stands_around_a_loss_asks_as_little_as_a_loss(least):
    x, y = inputs("cross_entropy", (6, 5)), np.array([0, 4, -100, 1, 2, 3])
    z, t = strict.asarray(x), strict.asarray(y)
    for op in (xloss.logsumexp, xloss.softmax, xloss.log_softmax, xloss.entropy):
        np.testing.assert_allclose(np.from_dlpack(op(z)), op(x), rtol=1e-15)
    made = xloss.one_hot(strict.asarray(abs(y)), 101)
    np.testing.assert_array_equal(np.from_dlpack(made), np.eye(101)[abs(y)])
    smooth = np.from_dlpack(xloss.smooth_labels(abs(z), 0.125, where=z != 0))
    np.testing.assert_allclose(smooth, xloss.smooth_labels(abs(x), 0.125, where=x != 0), rtol=1e-15)
    assert float(xloss.effective_count(t)) == 5
    assert float(xloss.l2_penalty([z, z], strength=1.0)) == (x * x).sum()
    want = expected("cross_entropy", x, y).value
    assert xloss.Evaluation().update(z, t).result().loss == pytest.approx(float(want), rel=1e-15)
    assert not xloss.diagnose(z, t).findings
    features, weight = (strict.asarray(inputs("cross_entropy", s)) for s in ((6, 3), (5, 3)))
    xloss.value_and_grad(xloss.linear_cross_entropy, (0, 1))(features, weight, t, block_rows=4)


@pytest.mark.parametrize("version", ["2022.12", "2023.12"])
def test_an_older_standard_is_refused_in_one_sentence(version):
    x, y = strict.asarray(np.zeros((2, 3))), strict.asarray(np.array([0, 1]))
    xloss.cross_entropy(x, y)  # what is remembered of these classes is no excuse
    strict.set_array_api_strict_flags(api_version=version)
    try:
        with pytest.raises(TypeError, match=rf"^logits: .*version {version} .*2024\.12"):
            xloss.cross_entropy(x, y)
    finally:
        strict.reset_array_api_strict_flags()


def like(module, **attributes):
    """An object of a class of that module, which looks like an array of numbers."""
    values = np.ones((6, 5))
    looks = {"dtype": values.dtype, "shape": values.shape, "ndim": 2, "size": 30}
    looks["__array__"] = lambda self, dtype=None, copy=None: values
    kind = type("Thing", (), {**looks, **attributes})
    kind.__module__ = module
    return kind()


def dask_of(sample):
    da = pytest.importorskip("dask.array", reason="pip install 'xloss[dask]'")
    made = da.ones((6, 5), chunks=3)
    made._meta = sample  # what Dask keeps to know its chunks by
    return made


def tensor(how):
    def make():
        torch = pytest.importorskip("torch", reason="pip install 'xloss[torch]'")
        return how(torch, torch.ones(6, 5))

    return make


def nested(torch, x, **layout):
    return torch.nested.nested_tensor([x, x[:2]], **layout)


METHOD = {"__array_namespace__": lambda self, **kwargs: strict}
# What it is -> how it is made, and what the error says to pass.
THINGS = {
    "pandas": (lambda: like("pandas.core.frame", to_numpy=0), r"\.to_numpy\(\)$"),
    "polars": (lambda: like("polars.series.series", to_numpy=0), r"\.to_numpy\(\)$"),
    "dask frames": (lambda: like("dask.dataframe", to_dask_array=0), r"lengths=True\)$"),
    "xarray": (lambda: like("xarray.core.dataarray", to_numpy=0), r"\.data$"),
    "pint": (lambda: like("pint.registry", **METHOD), r"\.magnitude$"),
    "sparse": (lambda: like("sparse.numba_backend._coo.core", **METHOD), r"\.todense\(\)$"),
    "ndonnx": (lambda: like("ndonnx._array", **METHOD), r"\.unwrap_numpy\(\)$"),
    "mlx": (lambda: like("mlx.core", **METHOD), r"numpy\.asarray\(\w+\)$"),
    "scipy": (lambda: like("scipy.sparse._csr", toarray=0, todense=0), r"\.toarray\(\)$"),
    "jax sparse": (lambda: like("jax.experimental.sparse.bcoo", todense=0), r"\.todense\(\)$"),
    "tensorflow": (lambda: like("tensorflow", numpy=0), r"\.numpy\(\)$"),
    "a list": (lambda: [[1.0, 0.0]], r"numpy\.asarray\(\w+\)$"),
    "masked": (lambda: np.ma.ones((6, 5)), r"\.filled\(value\), with where="),
    "a matrix": (lambda: np.ones((6, 5)).view(np.matrix), r"numpy\.asarray\(\w+\)$"),
    "Dask of masked": (lambda: dask_of(np.ma.ones((0, 0))), r"dask\.array\.ma\.filled\(\w+, value"),
    "Dask of sparse": (
        lambda: dask_of(like("sparse.core", **METHOD)),
        r"map_blocks\(lambda block: block\.todense",
    ),
    "COO": (tensor(lambda torch, x: x.to_sparse()), r"\.to_dense\(\)$"),
    "CSR": (tensor(lambda torch, x: x.to_sparse_csr()), r"\.to_dense\(\)$"),
    "mkldnn": (tensor(lambda torch, x: x.to_mkldnn()), r"\.to_dense\(\)$"),
    "nested": (tensor(nested), r"to_padded_tensor\(\w+, 0\.0\)"),
    "jagged": (tensor(lambda torch, x: nested(torch, x, layout=torch.jagged)), "to_padded_tensor"),
}


def every_call(x):
    """Name each argument that takes an array, and give it: of losses that share a check, one."""
    a, y = np.ones((6, 5)), np.zeros(6, int)
    f, linear = xloss.cross_entropy, xloss.linear_cross_entropy
    yield "logits", lambda: f(x, y)
    yield "logits", lambda: xloss.Evaluation().update(x, y)
    yield "logits", lambda: xloss.diagnose(x, y)
    yield "logits", lambda: xloss.binary_cross_entropy_with_logits(x, a)
    yield "features", lambda: linear(x, a, y)
    yield "weight", lambda: linear(a, x, y)
    yield "bias", lambda: linear(a, a, y, bias=x)
    for name in ("weight", "sample_weight", "where", "normalizer"):
        yield name, lambda name=name: f(a, y, **{name: x})
    yield "targets", lambda: f(a, x)
    yield "pos_weight", lambda: xloss.binary_cross_entropy_with_logits(a, a, pos_weight=x)
    yield "cotangent", lambda: xloss.value_and_grad(f)(a, y, cotangent=x)
    yield "x", lambda: xloss.logsumexp(x)
    yield "labels", lambda: xloss.one_hot(x, 5)
    yield "probs", lambda: xloss.smooth_labels(x, 0.1)
    yield "targets", lambda: xloss.effective_count(x)
    yield "weight", lambda: xloss.effective_count(y, weight=x)
    yield "params", lambda: xloss.l2_penalty([x], strength=1.0)
    yield "loss", lambda: xloss.perplexity(x)


@pytest.mark.filterwarnings("ignore:.*(beta|prototype)")  # PyTorch's, of the tensors themselves
@pytest.mark.parametrize("thing", THINGS)
def test_what_is_no_array_is_one_sentence(thing):
    make, pattern = THINGS[thing]
    x = make()
    for name, call in every_call(x):
        instead = pattern.replace(r"\w+", name)
        said = rf"^{name}: expected .*, got .*; pass .*{instead}"
        with pytest.raises(TypeError, match=said) as got:
            call()
        assert "\n" not in str(got.value)
