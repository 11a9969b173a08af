"""The capability table: every claim has a test, every row runs, the README prints it."""

from __future__ import annotations

import importlib
import re

import numpy as np
import pytest

import xloss
from libraries import GPU, library
from places import ROOT, TESTS
from xloss.capabilities import FEATURES, SUPPORT, matrix
from xloss_conformance.libraries import array_library
from xloss_conformance.model import Missing
from xloss_conformance.rounding import numpy_dtype

STRICT = {"array_api_strict": "strict"}

# A claim with no test fails: (library, feature) -> the test function that holds it.
EVERY_LIBRARY = {
    "loss": "../conformance/test_catalogue.py::test_xloss_keeps_its_contract",
    "value_and_grad": "../conformance/test_catalogue.py::test_xloss_keeps_its_contract",
    "label error": "rules/test_labels.py::",
}
SPREAD, NO_GPU = "distributed/test_spread.py", "backends/cupy/test_without_gpu.py"
CLAIMS = {
    ("torch", "autodiff"): "backends/torch/test_autodiff.py::test_autograd_gives_the_closed_form",
    ("torch", "higher"): "backends/torch/test_autodiff.py::test_class_losses_twice",
    ("torch", "vmap"): "backends/torch/test_mixes.py::test_vmap_over_any_argument",
    ("torch", "compile"): "backends/torch/test_compile.py::test_compiled_equals_eager",
    ("jax", "autodiff"): "backends/jax/test_autodiff.py::test_twice",
    ("jax", "higher"): "backends/jax/test_autodiff.py::test_masked_classes_and_ties",
    (
        "jax",
        "vmap",
    ): "backends/jax/test_autodiff.py::test_jit_grad_vmap_jvp_hessian_agree_with_the_closed_form",
    ("jax", "compile"): "backends/jax/test_autodiff.py::test_labels_are_not_read_under_jit",
    (
        "tensorflow",
        "autodiff",
    ): "backends/tensorflow/test_autodiff.py::test_variables_and_constants",
    ("tensorflow", "higher"): "backends/tensorflow/test_autodiff.py::test_twice",
    ("tensorflow", "vmap"): "backends/tensorflow/test_autodiff.py::test_jacobian_forward_mode",
    ("tensorflow", "compile"): "backends/tensorflow/test_function.py::test_every_loss_is_exact",
    (
        "dask",
        "lazy",
    ): "backends/dask/test_dask.py::test_nothing_is_computed_while_the_graph_is_built",
    **{
        (library, "ranks"): f"{SPREAD}::test_values_and_gradients_keep_the_budget_of_the_whole"
        for library in ("numpy", "torch", "jax")
    },
    **{
        ("cupy", feature): f"{NO_GPU}::test_calls_stay_on_the_device"
        for feature in ("ranks", "loss", "value_and_grad")
    },
}


@pytest.mark.parametrize("support", SUPPORT, ids=lambda s: s.library)
def test_every_claim_has_a_test(support: object) -> None:
    """Each feature of each library names a test that is there."""
    for feature in support.features:
        test = CLAIMS.get((support.library, feature), EVERY_LIBRARY.get(feature))
        assert test is not None, f"{support.library}: {feature} is claimed and not tested"
        file, _, name = test.partition("::")
        source = (TESTS / file).read_text()
        assert f"def {name}" in source, test


def test_no_claim_is_stale() -> None:
    """A test of something that is claimed no more is an error too."""
    claimed = {(s.library, f) for s in SUPPORT for f in s.features}
    assert set(CLAIMS) <= claimed
    assert {f for s in SUPPORT for f in s.features} == set(FEATURES)


@pytest.mark.parametrize(
    "row", xloss.capabilities(), ids=lambda r: f"{r.library}-{r.device}-{r.dtype}"
)
def test_every_row_runs(row: object) -> None:
    """The loss and its gradient on each library, device and dtype of the table."""
    if row.device != "cpu" and not GPU:
        pytest.skip(f"no {row.device} here; a machine with a GPU un-skips this")
    name = STRICT.get(row.library, row.library)
    try:
        home = array_library("cuda" if (name, row.device) == ("torch", "cuda") else name)
    except Missing as missing:
        pytest.skip(str(missing))
    x = np.array([[0.0, -8.0], [1.0, 1.0]]).astype(numpy_dtype(row.dtype))
    with home.setting(row.dtype):
        z, y = home.array(x), home.array(np.array([0, 1], np.int32))
        value, gradient = xloss.value_and_grad(xloss.cross_entropy)(z, y)
        accumulated = "float64" if row.dtype == "float64" else "float32"
        assert (home.dtype(value), home.dtype(gradient)) == (accumulated, row.dtype)
        want = (np.log1p(np.exp(-8.0)) + np.log(2.0)) / 2
        assert abs(float(home.host(value)) - want) <= 4 * np.spacing(
            np.dtype(accumulated).type(want)
        )


def test_no_bad_label_raises_where_none_is_claimed() -> None:
    """The row "label error" of the table, both ways."""
    for s in SUPPORT:
        if "cpu" not in s.devices or not importlib.util.find_spec(s.library):
            continue
        home = library(STRICT.get(s.library, s.library))
        assert home.reads == ("label error" in s.features)


def test_the_page_on_installing_prints_the_table() -> None:
    """Between its markers, word for word."""
    text = (ROOT / "docs" / "install.md").read_text()
    found = re.search(r"<!-- support matrix -->\n(.*?)\n<!-- end -->", text, re.DOTALL)
    assert found
    assert found[1].strip() == matrix()
