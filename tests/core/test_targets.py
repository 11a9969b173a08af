"""What a row weighs: Σ w t of its targets, of which a class of weight 0 has no part."""

import numpy as np
import pytest

from libraries import Library
from xloss._arrays.context import context, functional
from xloss.core.targets import target_sum

PROBS = [[0.25, 0.5, 0.25, 0.0], [0.0, 0.0, 1.0, 0.0], [0.5, 0.125, 0.125, 0.25]]


@pytest.mark.parametrize("lib", ["numpy", "no_x64"], indirect=True)
def test_target_sum_is_the_weighted_sum(lib: Library) -> None:
    probs, weight = lib.array(PROBS), lib.array([1.0, 0.5, 0.0, 2.0])
    eager = context(probs, lib.xp)
    for cx in (eager, functional(eager)):
        assert lib.read(target_sum(probs, weight, cx)).tolist() == [0.5, 0.0, 1.0625]
        assert lib.read(target_sum(probs, None, cx)).tolist() == [1.0, 1.0, 1.0]
    # Where operations are recorded, a class of weight 0 is selected away before it is multiplied.
    infinite = lib.array(np.where(np.array([0.0, 0.0, 1.0, 0.0]) == 1, np.inf, PROBS))
    assert lib.read(target_sum(infinite, weight, functional(eager))).tolist() == [0.5, 0.0, 1.0625]
