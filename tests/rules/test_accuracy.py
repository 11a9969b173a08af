"""Cross-entropy of labels against 80 digits, within the budget of docs/accuracy.md.

Every option and every other loss is held to it by the suite (conformance/test_catalogue.py).
"""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest

from accuracy_cases import CLASSES, answer, divided, plain
from accuracy_checks import PATHS, check, hold
from libraries import COMPILER
from nightly import core
from xloss_conformance.oracle import ulp_error

DTYPES = ("float32", "float64")
PLAIN = list(plain())
LABELS = (4, 4, 6, None)


@pytest.mark.parametrize(
    ("lib", "path", "dtype"),
    # By night where a library compiles every call, or cuts it into chunks.
    core(
        [(*path, dtype) for path in PATHS for dtype in DTYPES],
        lambda lib, path, dtype: lib not in ("jax", "dask") or dtype == "float32",
    ),
)
def test_index_targets(lib: str, path: str, dtype: str) -> None:
    """Value and true-class gradient within 4 ulp, the other entries within 6."""
    check(PLAIN, lib, path, dtype, LABELS)


@pytest.mark.parametrize(
    ("dtype", "classes"),
    # Of 4 classes are the rows of every gap.
    core(product(DTYPES, (4, *CLASSES)), lambda dtype, classes: classes in (3, 4, 127, 2000, 8203)),
)
def test_rows_as_a_gpu_divides_them(dtype: str, classes: int) -> None:
    """Within 4 ulp: value, true class and all others."""
    if COMPILER is None:
        pytest.skip("the kernels are compiled for the host by g++: install it to run this")
    rows = [case for case in divided(dtype) if len(case.x) == classes]
    check(rows, "emulated", "closed", dtype, (4, 4, 4, None))


def test_the_check_sees_a_lost_tail() -> None:
    """The textbook formula in float32 is thousands of ulp off where xloss is held to 4."""
    case = next(c for c in PLAIN if c.name.startswith("gap 12 offset 0"))
    z = np.float32(case.x)
    peer = float(np.log(np.exp(z - z.max()).sum(dtype=np.float32)) - (z[0] - z.max()))
    with pytest.raises(AssertionError, match="value"):
        hold(case, peer, list(case.x), "float32", LABELS, 0.0)
    assert ulp_error(peer, answer(case).loss, "float32") > 1000
