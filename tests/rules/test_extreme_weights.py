"""A mean does not depend on the scale of the weights: tiny, huge and subnormal ones alike.

On every library each loss is held to moderate weights, and cross_entropy to extreme ones, by the
suite (family "range"), which judges these cases too.
"""

from __future__ import annotations

from dataclasses import replace
from itertools import product
from typing import Any

import numpy as np
import pytest

import xloss
from expected import LOSSES, close, expected, inputs, labels, shape, targets
from judged import hold
from xloss import Evaluation
from xloss_conformance.model import Case
from xloss_conformance.packed import LINEAR, pack

ROWS, CLASSES = 5, 4
# Powers of two that float32 has, and whose product with others it has not.
POWERS = SMALL, LARGE = -120, 120
ROW_WEIGHT = np.array([1.0, 1.5, 0.5, 1.25, 1.75])
CLASS_WEIGHT = np.array([1.0, 0.5, 1.75, 1.25])


def case(label: str, name: str = "cross_entropy", **options: Any) -> Case:
    x = inputs(name, shape(name, ROWS, CLASSES))
    return Case("range", label, "", x, targets(name, x.shape), name, options)


def scaled(power: int) -> np.ndarray:
    return np.ldexp(ROW_WEIGHT, power)


@pytest.mark.parametrize("place", ["numpy", "no_x64"])
def test_sample_weights(place):
    cases = [
        case(f"{name}, 2^{power}", name, sample_weight=scaled(power))
        for name, power in product(LOSSES, POWERS)
    ]
    assert hold(place, "float32", cases) == len(cases)


def beside() -> list[Case]:
    """Normalizers of the weights' size, weights that nothing meets, the linear loss."""
    sizes = [(power, np.ldexp(3.0, power)) for power in POWERS]
    cases = [case(f"2^{p}", sample_weight=scaled(p), normalizer=float(n)) for p, n in sizes]
    cases += [
        case(f"2^{p}, 0-d", sample_weight=scaled(p), normalizer=np.array(n)) for p, n in sizes
    ]
    rows, classes = scaled(SMALL), np.full(CLASSES, 1e-38)
    rows[1] = classes[-1] = 1e38
    for name, weight in (("sample_weight", rows), ("weight", classes)):
        given = {name: weight, "where": np.arange(ROWS) != 1}
        ignored = case(f"a huge {name} that nothing meets", **given)
        ignored.targets[:] = labels(ROWS, CLASSES - 1)
        ignored.targets[1] = -100
        cases.append(ignored)
    x, w = inputs("cross_entropy", (ROWS, 2), 1), inputs("cross_entropy", (CLASSES, 2))
    packed = pack(x, w, np.zeros(CLASSES))
    for size in (1e-38, 1e38):
        given = {"sample_weight": np.full(ROWS, size), "class_weight": np.full(CLASSES, size)}
        y = labels(ROWS, CLASSES)
        cases.append(Case("range", f"{size}, linear", "", packed, y, LINEAR, given))
    return cases


@pytest.mark.parametrize("place", ["numpy", "no_x64", "torch", "jax", "dask in threes"])
def test_what_stands_beside_the_weights(place):
    assert hold(place, "float32", beside()) == len(beside())


@pytest.mark.parametrize(("place", "engine"), [("numpy", ""), ("no_x64", ""), ("torch", "generic")])
def test_a_weight_far_below_the_largest_does_not_become_zero(place, engine):
    """Its row is present, and says so where it is NaN."""
    far = case("far", sample_weight=np.array([2.0**120, 2.0**-125, 1.0, 0.0, 1.5]))
    far.x[1] = np.nan
    # Of a gradient the least may be taken for more than it is.
    assert hold(place, "float32", [replace(far, value_only=True)], engine=engine) == 1


@pytest.mark.parametrize("place", ["numpy", "strict"])
def test_a_float64_normalizer_may_be_far_from_the_weights(place):
    for power in (-300, 300):
        far = case("far", sample_weight=scaled(200), normalizer=2.0**power)
        assert hold(place, "float64", [far]) == 1


@pytest.mark.parametrize("lib", ["numpy", "device1", "torch", "jax"], indirect=True)
@pytest.mark.parametrize("power", [-110, 110])
def test_an_evaluation_and_a_count(lib, power):
    x, t = inputs("cross_entropy", (ROWS, CLASSES)), labels(ROWS, CLASSES)
    want = expected("cross_entropy", x, t, sample_weight=ROW_WEIGHT, weight=CLASS_WEIGHT)
    both = {
        "sample_weight": lib.array(np.ldexp(ROW_WEIGHT, power)),
        "weight": lib.array(np.ldexp(CLASS_WEIGHT, power)),
    }
    record = Evaluation().update(lib.array(x), lib.like(t), **both)
    got = (record + record).result()
    close(np.asarray(got.loss), want.value, within=32)
    weight = np.sum(ROW_WEIGHT * CLASS_WEIGHT[t])
    np.testing.assert_allclose(got.weight, 2 * weight * 2.0 ** (2 * power), rtol=1e-12)
    count = lib.host(xloss.effective_count(lib.like(t), sample_weight=both["sample_weight"]))
    np.testing.assert_allclose(count, np.ldexp(np.sum(ROW_WEIGHT), power), rtol=1e-6)


@pytest.mark.parametrize("power", [SMALL, LARGE])
def test_autodiff_that_sums_rounded_rows(power):
    torch = pytest.importorskip("torch")
    x, t = inputs("cross_entropy", (ROWS, CLASSES)), labels(ROWS, CLASSES)
    want = expected("cross_entropy", x, t, sample_weight=ROW_WEIGHT)
    y = torch.tensor(t)
    weight = torch.tensor(np.ldexp(ROW_WEIGHT, power), dtype=torch.float32)

    def loss_of(z):
        return xloss.cross_entropy(z, y, sample_weight=weight)

    z = torch.tensor(x, dtype=torch.float32)
    grads = [
        torch.func.grad(loss_of)(z),
        torch.func.vmap(torch.func.grad(loss_of))(z[None])[0],
        torch.compile(torch.func.grad(loss_of), backend="eager")(z),
    ]
    for grad in grads:
        close(grad.numpy(), want.grad, within=32, scale=np.abs(want.grad).max())
