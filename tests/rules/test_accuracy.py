"""Every loss and gradient against 80 digits, within the budget of docs/accuracy.md."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest

from accuracy_cases import CLASSES, answer, divided
from accuracy_checks import (
    BINARY,
    PATHS,
    PLAIN,
    VARIANTS,
    check,
    element_budget,
    hold,
    option_budget,
)
from libraries import COMPILER
from nightly import core
from xloss_conformance.oracle import ulp_error

DTYPES = ("float32", "float64")
# What the suite judges by the same budget (conformance/test_catalogue.py) is here again, on more
# rows: by night where a library compiles every call, or cuts it into chunks.
CELLS = [(*path, dtype) for path in PATHS for dtype in DTYPES]
SLOW = ("jax", "dask")
rows = pytest.mark.parametrize(
    ("lib", "path", "dtype"),
    core(CELLS, lambda lib, path, dtype: lib not in SLOW or dtype == "float32"),
)
options = pytest.mark.parametrize(
    ("lib", "path", "dtype"),
    core(
        CELLS,
        lambda lib, path, dtype: (
            lib not in SLOW and path != "autograd" and (lib, dtype) != ("emulated", "float64")
        ),
    ),
)


@rows
def test_index_targets(lib: str, path: str, dtype: str) -> None:
    """Value and true-class gradient within 4 ulp, the other entries within 6."""
    check(PLAIN, lib, path, dtype, lambda case: (4, 4, 6, None, None))


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
    check(rows, "emulated", "closed", dtype, lambda case: (4, 4, 4, None, None))


@options
@pytest.mark.parametrize("kind", ["cross_entropy", "nll_loss", "log_loss", "focal_loss"])
def test_every_option(lib: str, path: str, dtype: str, kind: str) -> None:
    """Within 4 ulp, of the largest term where terms cancel; softcap (4 + c), focal 4 (1 + γ)."""
    check([c for c in VARIANTS if c.kind == kind], lib, path, dtype, option_budget)


@options
def test_binary_and_divergence(lib: str, path: str, dtype: str) -> None:
    """Within 4 ulp, of the largest term where the terms have two signs."""
    check(BINARY, lib, path, dtype, element_budget)


def test_the_check_sees_a_lost_tail() -> None:
    """The textbook formula in float32 is thousands of ulp off where xloss is held to 4."""
    case = next(c for c in PLAIN if c.name.startswith("gap 12 offset 0"))
    z = np.float32(case.x)
    peer = float(np.log(np.exp(z - z.max()).sum(dtype=np.float32)) - (z[0] - z.max()))
    with pytest.raises(AssertionError, match="value"):
        hold(case, peer, list(case.x), "float32", (4, 4, 6, None, None), 0.0)
    assert ulp_error(peer, answer(case).loss, "float32") > 1000
