"""Classes spread over real ranks: the dense loss and gradient, within the same budget."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache
from typing import Any

import numpy as np
import pytest

import xloss
from accuracy_cases import hold, masked, of_rows, plain, with_options
from nightly import core
from spread import part, run
from spread_calls import Call, computed
from xloss_conformance.cases.arrays import grid, logits
from xloss_conformance.model import Case
from xloss_conformance.rounding import stored

DTYPES = ("float32", "float64")
CLASSES, WIDTH = 264, 5


# ---- The budget ----------------------------------------------------------------------------------


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


def called(case: Case, dtype: str) -> Call:
    given = stored(case, dtype)
    return Call(xloss.cross_entropy, (given.x, given.targets), dict(given.options))


def keep_the_budget(kind: str, case: Case, dtype: str, of_ranks: list[Any]) -> None:
    """Hold the ranks' slices, side by side, to the oracle."""
    values, grads = zip(*of_ranks, strict=True)
    for value in values[1:]:
        np.testing.assert_array_equal(value, values[0])
    whole = np.concatenate([g for (g,) in grads], axis=1)
    hold(case, dtype, values[0], whole, flushes=kind == "jax")


# ---- The rules -----------------------------------------------------------------------------------


def rules(dtype: str) -> Iterator[tuple[str, Call]]:
    """Yield reductions, absent rows, bad labels and infinities; the linear layer too."""
    rng = np.random.default_rng(3)
    z = np.round(rng.standard_normal((3, 4, CLASSES)) * 4096) / 1024
    z[0, 0] = -np.inf  # no possible class
    z[0, 1, 5] = np.nan
    z[0, 2, [3, 70]] = np.inf
    z[1, 0, : CLASSES // 2] = -np.inf
    y = rng.integers(0, CLASSES, (3, 4))
    y[1, 1] = -100
    y[0, 2], y[1, 0] = 70, CLASSES - 1
    w = rng.integers(0, 9, CLASSES) / 8
    w[0] = 0.375  # where a bad label is read, for want of its own
    sample, where = rng.integers(0, 3, (3, 4)) / 2, rng.random((3, 4)) > 0.3
    normal = rng.standard_normal
    features, matrix, bias = normal((3, 4, WIDTH)), normal((CLASSES, WIDTH)), normal(CLASSES)
    z, w, sample, features, matrix, bias = (
        a.astype(dtype) for a in (z, w, sample, features, matrix, bias)
    )
    clean = np.where(np.isfinite(z), z, z.dtype.type(0.5))

    def dense(x: Any, labels: Any = y, **options: Any) -> Call:
        return Call(xloss.cross_entropy, (x, labels), options)

    weighted: dict[str, Any] = {"weight": w, "sample_weight": sample}
    mixed = {**weighted, "label_smoothing": 0.1, "z_loss": 0.125, "softcap": 8.0}
    for name, x in (("clean", clean), ("infinite", z)):
        for how in ("mean", "sum", "none"):
            yield f"{name} {how}", dense(x, reduction=how)
        yield f"{name} weighted", dense(x, **weighted)
        yield f"{name} where", dense(x, where=where, weight=w)
        yield f"{name} broadcast", dense(x, where=where[:, :1], z_loss=0.125)
        yield f"{name} all", dense(x, **mixed)
        yield f"{name} all, sum", dense(x, **mixed, reduction="sum")
        yield f"{name} z and weight", dense(x, z_loss=0.125, weight=w)
    yield "normalizer", dense(clean, normalizer=3.5)
    yield "nothing counts", dense(z, where=np.zeros((3, 4), bool))
    yield "weighs nothing", dense(clean, weight=np.zeros_like(w))
    yield "ignored is None", dense(clean, np.abs(y), ignore_index=None)
    bad = y.copy()
    bad[2, 2] = CLASSES
    yield "bad label", dense(clean, bad, validate=False, reduction="none")
    yield "bad label, weighted", dense(clean, bad, validate=False, weight=w)
    yield "no rows", dense(clean[:0], y[:0])
    yield "one row", dense(clean[0, 0], y[0, 0], z_loss=0.125)
    yield "far classes", dense(np.asfortranarray(clean), y.astype(np.int16))
    linear: dict[str, dict[str, Any]] = {
        "linear none": {"reduction": "none", "block_rows": 5},
        "linear all": {"class_weight": w, "label_smoothing": 0.1, "block_rows": 7, "softcap": 8.0},
        "linear bias": {"bias": bias, "z_loss": 0.125},  # blocks by the largest slice
        "linear where": {"where": where, "reduction": "sum", "block_rows": 1},
    }
    for name, options in linear.items():
        names = (0, 1, "bias") if "bias" in options else (0, 1)
        yield name, Call(xloss.linear_cross_entropy, (features, matrix, y), options, names)


# JAX compiles each; of no rows XLA itself refuses to, inside shard_map.
FEW = (
    "infinite none",
    "infinite weighted",
    "clean all",
    "nothing counts",
    "weighs nothing",
    "bad label, weighted",
    "one row",
    "linear none",
    "linear all",
)


def close(got: Any, want: Any, ulp: float, name: str) -> None:
    """Equal but for `ulp` of the largest entry; NaN, infinities and zeros in the same places."""
    got, want = np.asarray(got), np.asarray(want)
    assert (got.dtype, got.shape) == (want.dtype, want.shape), name
    finite = np.isfinite(want)
    np.testing.assert_array_equal(got[~finite], want[~finite], err_msg=name)
    allowed = ulp * np.finfo(want.dtype).eps * np.max(np.abs(want[finite]), initial=0)
    off = np.max(np.abs(got[finite] - want[finite]), initial=0)
    assert off <= allowed, (name, off / (allowed or 1) * ulp)


@cache
def wanted(dtype: str, name: str) -> Any:
    """Return the dense value and gradients of a rule."""
    call = dict(rules(dtype))[name]
    return xloss.value_and_grad(call.loss, call.names)(*call.arrays, **call.options)


def are_the_dense_ones(kind: str, name: str, call: Call, of_ranks: list[Any]) -> None:
    want, wholes = wanted(next(a.dtype.name for a in call.arrays), name)
    # A product rounds too, and a feature's gradient is a sum over all classes, cut in pieces.
    of_value, of_grad = (8, 8 * WIDTH) if call.linear else (4 + call.options.get("softcap", 0),) * 2
    for rank, (value, grads) in enumerate(of_ranks):
        held = slice(None) if kind == "jax" else part(len(of_ranks), rank, call.classes)
        close(value, want, of_value, name)
        for argument, got, whole in zip(call.names, grads, wholes, strict=True):
            close(got, call.held(argument, whole, held), of_grad, f"{name}: {argument}")


# Each rank is a process that imports its library. Of 4 ranks one holds nothing, of 3 all do. JAX
# compiles each shape and option anew: it has all of them by night alone.
BY_DAY = [("mpi", 1, None), ("mpi", 4, None), ("gloo", 3, None), ("jax", 4, None)]
BY_NIGHT = [(kind, n, None) for kind in ("mpi", "gloo", "jax") for n in (1, 2, 3, 4)]
WAYS = [*BY_DAY, *(way for way in BY_NIGHT if way not in BY_DAY)]


@pytest.mark.parametrize(
    ("kind", "ranks", "engine", "full"),
    core(
        [
            *((*way, way[0] != "jax") for way in WAYS),
            ("gloo", 3, "generic", True),
            ("jax", 4, None, True),
        ],
        lambda *way: way[:3] in BY_DAY and way[3] == (way[0] != "jax"),
    ),
)
def test_values_and_gradients_are_those_of_the_whole(
    kind: str, ranks: int, engine: str | None, full: bool
) -> None:
    """The tail, masks on whole ranks, ties and every option; every rule of the dense loss."""
    cases = [*PLAIN, *OPTIONS] if full else [c for c in PLAIN if c.classes in (10, 12)]
    held = [(case, dtype) for dtype in DTYPES for case in cases]
    dtypes = DTYPES if kind != "jax" else DTYPES[1:]
    ruled = [rule for dtype in dtypes for rule in rules(dtype) if kind != "jax" or rule[0] in FEW]
    calls = [*(called(*one) for one in held), *(call for _, call in ruled)]
    made = zip(*run(kind, ranks, computed, kind, calls, engine, timeout=400), strict=True)
    for (case, dtype), of_ranks in zip(held, made, strict=False):
        keep_the_budget(kind, case, dtype, list(of_ranks))
    for (name, call), of_ranks in zip(ruled, made, strict=True):
        are_the_dense_ones(kind, name, call, list(of_ranks))
