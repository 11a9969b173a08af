"""The catalogue is well formed: named, explained and callable."""

from __future__ import annotations

from itertools import product

import pytest

from xloss_conformance.cases import case, catalogue
from xloss_conformance.model import DTYPES, LAYOUTS, LOSSES, Case
from xloss_conformance.report.training import FAMILIES

CASES = catalogue()


def test_cases_are_well_formed() -> None:
    """In what no subject would fail by: a case that nobody can be asked passes everywhere."""
    for one in CASES:
        assert one.reason, one.name
        assert not one.reason.endswith("."), one.name
        assert one.dtypes, one.name
        assert set(DTYPES).issuperset(one.dtypes), one.name
        assert one.layout in LAYOUTS, one.name
        assert (one.error is None) == (not one.names), one.name
        if one.instead:  # not by the loss might it be refused, but by what differentiates it
            assert one.error is not None, one.name
            assert one.value_only, one.name
        assert not (one.to_targets and one.index), one.name
        assert all(link.startswith("https://") for link in one.see), one.name
        assert not (one.quick and one.on_demand), one.name


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
