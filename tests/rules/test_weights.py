"""Weights and masks broadcast to the rows and never enlarge them.

The formulas of row, mean and normalizer are cases of the suite, for each loss and its options.
"""

import numpy as np
import pytest

import xloss
from expected import BINARY, CLASS, LOSSES, inputs, labels, loss, targets

ROWS = np.array([1.0, 0.5, 2.0, 0.25, 3.0, 0.75])
SHAPES = [(), (1,), (4,), (1, 1), (3, 1), (1, 4), (3, 4)]


@pytest.mark.parametrize("kind", ["sample_weight", "where"])
@pytest.mark.parametrize("name", LOSSES)
@pytest.mark.parametrize("lib", ["numpy", "no_x64"], indirect=True)
def test_sample_weight_and_where_broadcast_to_the_rows(lib, name, kind):
    form = (3, 4) if name in BINARY else (3, 4, 5)
    x = inputs(name, form)
    t = labels(12, 5).reshape(3, 4) if name in CLASS else targets(name, form)
    for small in SHAPES:
        given = np.resize(ROWS > 0.6 if kind == "where" else ROWS, small)
        full = np.broadcast_to(given, (3, 4))
        run = xloss.value_and_grad(loss(name))
        for how in ("mean", "none"):
            one = run(lib.like(x), lib.like(t), reduction=how, **{kind: lib.like(given)})
            other = run(lib.like(x), lib.like(t), reduction=how, **{kind: lib.like(full.copy())})
            for a, b in zip(one, other, strict=True):
                np.testing.assert_array_equal(lib.host(a), lib.host(b))


@pytest.mark.parametrize("small", [(5,), (2,), (3,), (4, 1), (2, 4), (1, 3, 4), (3, 4, 1)], ids=str)
@pytest.mark.parametrize("kind", ["sample_weight", "where"])
@pytest.mark.parametrize("name", LOSSES)
def test_sample_weight_and_where_never_enlarge_the_rows(name, kind, small):
    form = (3, 4) if name in BINARY else (3, 4, 5)
    t = labels(12, 5).reshape(3, 4) if name in CLASS else targets(name, form)
    given = np.ones(small, bool if kind == "where" else float)
    want = rf"^{kind}: shape .* does not broadcast to the row shape \(3, 4\)"
    with pytest.raises(ValueError, match=want):
        loss(name)(inputs(name, form), t, **{kind: given})
