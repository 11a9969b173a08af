"""One library and one device a call: another's array is an error that names the argument."""

import numpy as np
import pytest

import xloss
from expected import CLASS, LOSSES, inputs, loss, shape, targets
from libraries import NAMES, library

# NumPy's arrays beside another library's logits are taken: test_host_data.py.
PAIRS = [
    ("numpy", "torch"),
    ("torch", "strict"),
    ("jax", "torch"),
    ("dask", "torch"),
]
PAIRS += [("tensorflow", "torch"), ("torch", "tensorflow")] if "tensorflow" in NAMES else []


def beside(name: str) -> dict[str, np.ndarray]:
    """Every array an argument of a loss may be, beside the first."""
    given = {"targets": targets(name, shape(name, 6, 5)), "sample_weight": np.ones(6)}
    if name in CLASS:
        given["weight"] = np.ones(5)
    if name == "binary_cross_entropy_with_logits":
        given["pos_weight"] = np.ones(6)
    return {**given, "where": np.ones(6, bool), "normalizer": np.array(2.0)}


def refused(name, make, foreign, error, pattern):
    """Assert that every argument in turn is refused where it is `foreign`."""
    x = make(inputs(name, shape(name, 6, 5)))
    for argument, values in beside(name).items():
        given = {"targets": make(targets(name, shape(name, 6, 5))), argument: foreign(values)}
        t = given.pop("targets")
        for run in (loss(name), xloss.value_and_grad(loss(name))):
            with pytest.raises(error, match=rf"^{argument}: {pattern}"):
                run(x, t, **given)


@pytest.mark.parametrize(("one", "other"), PAIRS, ids=["-".join(p) for p in PAIRS])
@pytest.mark.parametrize("name", LOSSES)
def test_two_libraries_are_an_error_that_names_the_argument(name, one, other):
    named = {"strict": "array_api_strict"}
    pattern = f"expected an array of {named.get(one, one)} .*, got .*{named.get(other, other)}"
    refused(name, library(one).like, library(other).like, TypeError, pattern)


@pytest.mark.parametrize("lib", ["strict", "torch"], indirect=True)
@pytest.mark.parametrize("name", LOSSES)
def test_two_devices_are_an_error_that_names_the_argument(lib, name):
    def away(values):
        return lib.like(values).to("meta") if lib.name == "torch" else elsewhere(values)

    elsewhere = library("device1").like
    refused(name, lib.like, away, ValueError, r"on device \S+, but \w+ is on ")


@pytest.mark.parametrize("name", LOSSES)
def test_a_constant_that_requires_grad_is_an_error(name):
    torch = pytest.importorskip("torch")
    form = shape(name, 6, 5)
    x, t = torch.tensor(inputs(name, form)), torch.tensor(targets(name, form))
    for argument, values in beside(name).items():
        if argument not in ("targets", "where"):
            w = torch.tensor(values, requires_grad=True)
            want = rf"^{argument}: is a constant of the loss, but requires_grad is True"
            for run in (loss(name), xloss.value_and_grad(loss(name))):
                with pytest.raises(ValueError, match=want):
                    run(x, t, **{argument: w})


def test_the_cotangent_is_of_the_library_and_device_too():
    strict, elsewhere = library("strict"), library("device1")
    x, y = strict.like(np.zeros((6, 5))), strict.like(np.zeros(6, int))
    run = xloss.value_and_grad(xloss.cross_entropy)
    with pytest.raises(ValueError, match=r"^cotangent: on device"):
        run(x, y, cotangent=elsewhere.like(np.array(1.0)))
    with pytest.raises(TypeError, match=r"^cotangent: expected an array of array_api_strict"):
        run(x, y, cotangent=library("torch").like(np.array(1.0)))
