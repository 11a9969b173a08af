"""The conformance suite's cases where it does not go: other devices, fewer options of the standard.

What the rules ask of a number, a dtype, a device, an absent row or a layout is a case of the suite,
which judges every library that users have (conformance/test_catalogue.py).
"""

from __future__ import annotations

from typing import Any

import array_api_strict as strict
import pytest

from array_adapters import adapter
from xloss_conformance import libraries
from xloss_conformance.cases import catalogue
from xloss_conformance.deviations import FILE, read
from xloss_conformance.model import Case
from xloss_conformance.result import explained
from xloss_conformance.run import run
from xloss_conformance.xloss_subjects import Xloss

CASES = [case for case in catalogue() if not case.on_demand]
QUICK = [case for case in CASES if case.quick]


def hold(name: str, dtype: str, cases: list[Case], monkeypatch: pytest.MonkeyPatch) -> None:
    """Judge xloss on arrays of a library that only tests have."""
    made, there = adapter(name), libraries._made
    monkeypatch.setattr(libraries, "_made", lambda other: made if other == name else there(other))
    report = run([Xloss(name, dtype)], cases, deviations=read(FILE))
    assert sum(verdict.status == "pass" for verdict in report.verdicts) > len(cases) / 3
    assert not report.failures, "\n".join(explained(verdict) for verdict in report.failures)


def test_a_device_that_is_not_the_host(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is read from it."""
    hold("device1", "float64", QUICK, monkeypatch)


def test_a_device_without_64_bits(monkeypatch: pytest.MonkeyPatch) -> None:
    """As JAX is by default: even the sums along a row are in float32."""
    hold("no_x64", "float32", CASES, monkeypatch)


FLAGS: dict[str, dict[str, Any]] = {
    "no boolean indexing": {"boolean_indexing": False},
    "no shapes that depend on data": {"data_dependent_shapes": False},
    "no extension": {"enabled_extensions": ()},
    "the oldest standard": {"api_version": "2024.12"},
}
FLAGS["none of these"] = {name: value for flags in FLAGS.values() for name, value in flags.items()}


@pytest.mark.parametrize("flags", FLAGS)
def test_the_least_that_the_standard_asks(flags: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """On a device that is read and on one that is not."""
    strict.set_array_api_strict_flags(**FLAGS[flags])
    try:
        for place in ("strict", "device1"):
            hold(place, "float32", QUICK, monkeypatch)
    finally:
        strict.reset_array_api_strict_flags()
