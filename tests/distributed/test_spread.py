"""Classes spread over real ranks: the dense loss and gradient, within the same budget."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest

from accuracy_cases import hold, masked, of_rows, plain, with_options
from nightly import core
from spread import run, sizes
from spread_accuracy import computed
from spread_rules import hold_rules
from xloss_conformance.cases.arrays import grid, logits
from xloss_conformance.model import Case
from xloss_conformance.rounding import stored

KINDS, RANKS = ("mpi", "gloo", "jax"), (1, 2, 3, 4)
# Each rank is a process that imports its library. Of 4 ranks one holds nothing, of 3 all do.
BY_DAY = {("mpi", 1), ("mpi", 4), ("gloo", 3), ("jax", 4)}


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


PLAIN = [*plain(), *whole_shards_masked()]
OPTIONS = with_options()


def keeps_the_budget(kind: str, ranks: int, cases: list[Case], engine: str = "any") -> None:
    asked = list(product(("float32", "float64"), cases))
    given = [stored(case, dtype) for dtype, case in asked]
    made = run(kind, ranks, computed, kind, given, engine, timeout=240)
    for (dtype, case), *of_ranks in zip(asked, *made, strict=True):
        values, grads = zip(*of_ranks, strict=True)
        assert all(v.dtype == dtype and np.array_equal(v, values[0]) for v in values)
        if kind != "jax":
            assert [g.shape[1] for g in grads] == sizes(ranks, case.classes)
        hold(case, dtype, values[0], np.concatenate(grads, axis=1), flushes=kind == "jax")


@pytest.mark.parametrize(
    ("kind", "ranks"), core(product(KINDS, RANKS), lambda *spread: spread in BY_DAY)
)
def test_within_the_budget_of_the_dense_loss(kind: str, ranks: int) -> None:
    """The tail, masks on whole ranks, ties, and every option, from 1 to 4 ranks."""
    cases = [*PLAIN, *OPTIONS]
    if kind == "jax":  # which compiles each shape and option anew
        cases = [c for c in PLAIN if c.classes in (10, 12)]
    keeps_the_budget(kind, ranks, cases)


@pytest.mark.nightly
def test_every_option_on_devices_of_jax() -> None:
    keeps_the_budget("jax", 4, [*PLAIN, *OPTIONS])


@pytest.mark.nightly
def test_the_generic_engine_too() -> None:
    keeps_the_budget("gloo", 3, PLAIN, "generic")


@pytest.mark.parametrize(
    ("kind", "ranks"),
    core(
        [("mpi", 3), ("gloo", 2), ("gloo", 4), ("jax", 4)],
        lambda kind, ranks: (kind, ranks) != ("gloo", 4),
    ),
)
def test_every_rule_of_the_dense_loss(kind: str, ranks: int) -> None:
    """Reductions, absent rows, bad labels, infinities; linear too; see spread_rules.py."""
    run(kind, ranks, hold_rules, kind, timeout=240)
