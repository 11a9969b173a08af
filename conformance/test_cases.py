"""The catalogue is well formed: named, explained, callable, and left alone by those who run it."""

from __future__ import annotations

import hashlib
import inspect
from collections.abc import Iterable
from dataclasses import replace
from itertools import product

import numpy as np
import pytest

from xloss_conformance.call_subject import WITHOUT_REDUCTION
from xloss_conformance.cases import case, catalogue
from xloss_conformance.judge import judge
from xloss_conformance.loss_functions import public
from xloss_conformance.model import BINARY, DTYPES, LAYOUTS, LOSSES, PACKED, Case
from xloss_conformance.report.training import FAMILIES
from xloss_conformance.top_k import TOP_K
from xloss_conformance.xloss_subjects import Xloss

CASES = catalogue()


def arrays(one: Case) -> Iterable[np.ndarray]:
    given = (one.x, one.targets, one.upstream, *one.options.values(), *one.instead.values())
    return [value for value in given if isinstance(value, np.ndarray)]


def wrong(one: Case) -> list[str]:
    """Return what is not as it must be in a case."""
    rows = one.x.shape
    if one.loss not in BINARY and one.error is None:
        rows = one.x.shape[: one.axis % one.x.ndim] + one.x.shape[one.axis % one.x.ndim + 1 :]
    if one.loss in PACKED and one.targets is not None:
        rows = one.targets.shape[:1]
    options = set(inspect.signature(public(one.loss)).parameters)
    options |= {"rest"} if one.loss == TOP_K else set()
    none = (
        one.options.get("reduction", "none" if one.loss in WITHOUT_REDUCTION else "mean") == "none"
    )
    found = {
        "no reason": not one.reason or one.reason.endswith("."),
        "no such loss": one.loss not in LOSSES,
        "no such option": not options.issuperset(one.options),
        "no such dtype": not one.dtypes or not set(DTYPES).issuperset(one.dtypes),
        "no such layout": one.layout not in LAYOUTS,
        "rows that differ, laid out as one": one.layout == "broadcast"
        and not np.array_equal(one.x, np.broadcast_to(one.x[:1], one.x.shape), equal_nan=True),
        "an upstream that is not the value's": isinstance(one.upstream, np.ndarray)
        and not (none and one.upstream.shape == rows),
        "an error that names nothing": (one.error is None) == bool(one.names),
        # Not by the loss might it be refused, but by what differentiates it.
        "something instead, and a gradient": bool(one.instead)
        and not (one.error is not None and one.value_only),
        "a gradient to class indices": one.to_targets and one.index,
        "no link": not all(link.startswith("https://") for link in one.see),
        "quick and on demand": one.quick and one.on_demand,
    }
    return [what for what, holds in found.items() if holds]


def test_cases_are_well_formed() -> None:
    assert {one.name: wrong(one) for one in CASES if wrong(one)} == {}


def test_an_ill_formed_case_is_seen() -> None:
    good = case("layouts/broadcast")
    assert wrong(good) == []
    ill = [
        replace(good, reason=""),
        replace(good, options={"smoothing": 0.1}),
        replace(good, dtypes=("float8",)),
        replace(good, x=np.arange(30.0).reshape(6, 5)),
        replace(good, upstream=np.ones(6)),
        replace(good, error=ValueError),
        replace(good, instead={"x": [0.0]}),
        replace(good, to_targets=True),
        replace(good, see=("pytorch#11752",)),
    ]
    assert [len(wrong(one)) for one in ill] == [1] * len(ill)


def test_names_tell_cases_apart() -> None:
    names = [one.name for one in CASES]
    assert len(set(names)) == len(names)
    asked = [(one.loss, one.family, one.label) for one in CASES]
    assert len(set(asked)) == len(asked)
    with pytest.raises(KeyError, match="no case"):
        case("tail/gap 1000")


def test_every_family_is_there_and_most_are_quick() -> None:
    assert {one.family for one in CASES} == set(FAMILIES)
    assert {one.loss for one in CASES} == set(LOSSES)
    quick = {one.family for one in CASES if one.quick}
    assert {one.family for one in CASES} - quick == {"size"}  # on demand only


def test_options_are_all_combined() -> None:
    def combination(one: Case) -> tuple[object, ...]:
        used = (name in one.options for name in ("weight", "sample_weight", "where"))
        smoothed = bool(one.options.get("label_smoothing"))
        return (*used, smoothed, one.options.get("reduction", "mean"), one.index)

    reductions = ("mean", "sum", "none")
    flags = (False, True)
    want = {(*four, how, flag) for *four, how, flag in product(*[flags] * 4, reductions, flags)}
    assert {combination(one) for one in CASES if one.family == "options"} == want


def test_runs_leave_the_cases_alone() -> None:
    def digest() -> dict[str, str]:
        return {
            one.name: hashlib.sha256(b"".join(a.tobytes() for a in arrays(one))).hexdigest()
            for one in CASES
            if not one.on_demand
        }

    before = digest()
    for one in CASES:
        if one.quick:
            judge(Xloss("numpy", "float32"), one)
    assert digest() == before
