"""Rows on which losses lose digits, against 80 digits, within the budget of docs/accuracy.md.

Every option and every loss is a case of the suite, which judges them by the same budget on every
library (conformance/test_catalogue.py). Here are more rows of what loses most.
"""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest

from accuracy_cases import CLASSES, divided, hold, plain
from array_adapters import adapter
from emulated import emulated
from nightly import core
from xloss_conformance import libraries
from xloss_conformance.model import Case
from xloss_conformance.result import explained
from xloss_conformance.run import run
from xloss_conformance.xloss_subjects import COMPILED, Xloss, of

WIDE = ("float32", "float64")
LIBRARIES = ("numpy", "strict", "torch", "dask", "jax")
SUBJECTS = [s for name in LIBRARIES for s in of(name, WIDE) if not s.few]
# By night where a library compiles every call, or cuts it into chunks.
SLOW = ("dask", "jax")


def holds(subject: Xloss, cases: list[Case]) -> None:
    report = run([subject], cases)
    assert not report.failures, "\n".join(map(explained, report.failures))
    assert all(verdict.status == "pass" for verdict in report.verdicts)


@pytest.mark.parametrize(
    "subject",
    core(SUBJECTS, lambda s: s.library not in SLOW or (s.dtype == "float32" and not s.engine)),
    ids=lambda s: s.name,
)
def test_index_targets(subject: Xloss) -> None:
    """Value and true-class gradient within 4 ulp, the other entries within 6."""
    holds(subject, plain())


@pytest.mark.parametrize(
    ("dtype", "classes"),
    # Of 4 classes are the rows of every gap.
    core(product(WIDE, (4, *CLASSES)), lambda dtype, classes: classes in (3, 4, 127, 2000, 8203)),
)
def test_rows_as_a_gpu_divides_them(
    dtype: str, classes: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Within 4 ulp: value, true class and all others."""
    with emulated() as gpu:
        monkeypatch.setattr(libraries, "_made", {"emulated": adapter("emulated")}.__getitem__)
        monkeypatch.setitem(COMPILED, "emulated", "cuda")
        subject = Xloss("emulated", dtype)
        assert subject.traits.compiled
        holds(subject, [case for case in divided(dtype) if case.classes == classes])
        assert gpu.launches


def test_the_check_sees_a_lost_tail() -> None:
    """The textbook formula in float32 is thousands of ulp off where xloss is held to 4."""
    (case,) = [case for case in plain() if case.classes == 10]
    z, rows = np.float32(case.x), np.arange(len(case.x))
    z -= z.max(-1, keepdims=True)
    e = np.exp(z)
    gradient = e / e.sum(-1, keepdims=True)
    gradient[rows, case.targets] -= 1
    value = np.log(e.sum(-1)) - z[rows, case.targets]
    with pytest.raises(
        AssertionError, match=r"value: \d+ of 45 .*: [\d.]+e\+0[4-9] ulp, allowed 4"
    ):
        hold(case, "float32", value, gradient)
