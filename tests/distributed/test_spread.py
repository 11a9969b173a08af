"""Classes spread over real ranks: the dense loss and gradient, within the same budget."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest

from accuracy_cases import Case, grid, plain, random, variants
from accuracy_checks import FLUSH, grouped, hold, option_budget
from nightly import core
from spread import run, sizes
from spread_accuracy import computed
from spread_rules import hold_rules

KINDS, RANKS = ("mpi", "gloo", "jax"), (1, 2, 3, 4)
# Each rank is a process that imports its library. Of 4 ranks one holds nothing, of 3 all do.
BY_DAY = {("mpi", 1), ("mpi", 4), ("gloo", 3), ("jax", 4)}


def whole_shards_masked() -> list[Case]:
    """Rows in which one rank after the other has no possible class, or the label and no other."""
    cases = []
    for y in (1, 7, 11):
        for masked in (slice(0, 2), slice(2, 8), slice(8, 12), slice(0, 8), slice(2, 12)):
            z = random(12, 9)
            z[masked] = -np.inf
            if np.isfinite(z[y]):
                cases.append(Case(f"masked {masked} label {y}", tuple(z), y))
                tail = np.where(np.isfinite(z), -17 - grid(np.arange(12) / 7), z)
                tail[y] = 0.0
                name = f"tail, masked {masked} label {y}"
                cases.append(Case(name, tuple(tail), y))
    return cases


PLAIN = [*plain(), *whole_shards_masked()]
OPTIONS = list(variants())


def spread(
    kind: str, ranks: int, cases: list[Case], engine: str = "any"
) -> list[tuple[Case, str, float, list[float]]]:
    """Return loss and gradient of each case, the ranks' slices side by side."""
    groups = grouped(cases)
    given = [
        (np.asarray([c.x for c in same]), np.asarray([c.target for c in same]), same[0].options)
        for same in groups
    ]
    made = run(kind, ranks, computed, kind, given, engine, timeout=240)
    out = []
    for i, same in enumerate(groups):
        for dtype in ("float32", "float64"):
            values, grads = zip(*(of_rank[i][dtype] for of_rank in made), strict=True)
            assert all(v.dtype == dtype and np.array_equal(v, values[0]) for v in values)
            if kind != "jax":
                assert [g.shape[1] for g in grads] == sizes(ranks, len(same[0].x))
            whole = np.concatenate(grads, axis=1)
            assert whole.dtype == dtype
            rows = zip(same, values[0].tolist(), whole.tolist(), strict=True)
            out += [(case, dtype, value, grad) for case, value, grad in rows]
    return out


def keeps_the_budget(kind: str, ranks: int, cases: list[Case]) -> None:
    for case, dtype, value, grad in spread(kind, ranks, cases):
        budget = (4, 4, 6, None) if case in PLAIN else option_budget(case)
        flush = len(case.x) * FLUSH[dtype] * (kind == "jax")
        hold(case, value, grad, dtype, budget, flush)


@pytest.mark.parametrize(
    ("kind", "ranks"), core(product(KINDS, RANKS), lambda *spread: spread in BY_DAY)
)
def test_within_the_budget_of_the_dense_loss(kind: str, ranks: int) -> None:
    """The tail, masks on whole ranks, ties, and every option, from 1 to 4 ranks."""
    cases = [*PLAIN, *OPTIONS]
    if kind == "jax":  # which compiles each shape and option anew
        cases = [c for c in cases if len(c.x) in (10, 12) and not c.options]
    keeps_the_budget(kind, ranks, cases)


@pytest.mark.nightly
def test_every_option_on_devices_of_jax() -> None:
    keeps_the_budget("jax", 4, [*PLAIN, *OPTIONS])


@pytest.mark.nightly
def test_the_generic_engine_too() -> None:
    for case, dtype, value, grad in spread("gloo", 3, PLAIN, "generic"):
        hold(case, value, grad, dtype, (4, 4, 6, None), 0.0)


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
