"""Classes spread over real ranks: the suite's own cases, judged as those of a dense loss."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from accuracy_cases import hold, masked, of_rows
from nightly import core
from spread import run
from spread_calls import computed
from xloss_conformance.cases import catalogue
from xloss_conformance.cases.arrays import grid, logits
from xloss_conformance.model import Case
from xloss_conformance.packed import LINEAR

DTYPES = ("float32", "float64")


def whole_shards_masked() -> list[Case]:
    """Rows in which one rank after the other has no possible class, or the label and no other."""
    rows = []
    for y in (1, 7, 11):
        for classes in (slice(0, 2), slice(2, 8), slice(8, 12), slice(0, 8), slice(2, 12)):
            z = masked(logits(1, 12, seed=9)[0], classes)
            if np.isfinite(z[y]):
                tail = np.where(np.isfinite(z), -17 - grid(np.arange(12) / 7), z)
                tail[y] = 0.0
                rows += [(z, y), (tail, y)]
    return of_rows("whole shards masked", rows)


def is_spread(case: Case) -> bool:
    """Whether a case asks for what ranks offer: class indices, classes last, a gradient of 1."""
    one = np.ndim(case.upstream) == 0 and case.upstream == 1
    plain = case.axis == -1 and case.layout == "C" and case.error is None and not case.instead
    read = case.family != "labels" or case.options.get("validate") is False  # no error of a label
    offered = case.loss in ("cross_entropy", LINEAR) and case.index and case.x.size < 10_000
    return offered and one and plain and read


FULL = ("tail", "masks", "linear")
CASES = whole_shards_masked()
CASES += [c for c in catalogue() if is_spread(c) and (c.quick or c.family in FULL)]
# JAX compiles each case anew.
FEW = ("masks", "infinities", "absent", "options", "softcap", "linear")
COMPILED = CASES[:1] + [c for c in CASES if c.quick and c.classes == 5 and c.family in FEW]

# Each rank is a process that imports its library. Of 4 ranks one holds nothing, of 3 all do.
BY_DAY = [("mpi", 1, None), ("mpi", 4, None), ("gloo", 3, None), ("jax", 4, None)]
BY_NIGHT = [(kind, n, None) for kind in ("mpi", "gloo", "jax") for n in (1, 2, 3, 4)]
WAYS = [*BY_DAY, *(way for way in BY_NIGHT if way not in BY_DAY), ("gloo", 3, "generic")]


@pytest.mark.parametrize(("kind", "ranks", "engine"), core(WAYS, lambda *way: way in BY_DAY))
def test_values_and_gradients_keep_the_budget_of_the_whole(
    kind: str, ranks: int, engine: str | None
) -> None:
    """The tail, masks on whole ranks, ties and every option; of the linear layer too."""
    cases, dtypes = (COMPILED, DTYPES[1:]) if kind == "jax" else (CASES, DTYPES)
    held = [(case, dtype) for dtype in dtypes for case in cases if dtype in case.dtypes]
    made = zip(*run(kind, ranks, computed, kind, held, engine, timeout=400), strict=True)
    for (case, dtype), of_ranks in zip(held, made, strict=True):
        value, grad = together(case, of_ranks)
        hold(case, dtype, value, grad, flushes=kind == "jax")


def together(case: Case, of_ranks: Any) -> tuple[Any, Any]:
    """Return the value, the same on every rank, and the classes of the gradient side by side."""
    values, grads = zip(*of_ranks, strict=True)
    for value in values[1:]:
        np.testing.assert_array_equal(value, values[0])
    if case.loss != LINEAR:
        return values[0], np.concatenate(grads, -1)
    rows = np.size(case.targets)
    return values[0], np.concatenate([grads[0][:rows], *(grad[rows:] for grad in grads)])
