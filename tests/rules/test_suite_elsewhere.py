"""The conformance suite's cases where it does not go: other devices, fewer options of the standard.

What the rules ask of a number, a dtype, a device, an absent row or a layout is a case of the suite,
which judges every library that users have (conformance/test_catalogue.py).
"""

from __future__ import annotations

from typing import Any

import array_api_strict as strict
import pytest

from judged import hold
from nightly import core
from xloss_conformance.cases import catalogue

CASES = [case for case in catalogue() if not case.on_demand]
QUICK = [case for case in CASES if case.quick]
# Where a sum in float32 could lose what one in float64 keeps.
NARROW = [case for case in CASES if case.quick or case.family in ("tail", "range", "soft gradient")]


def test_a_device_that_is_not_the_host() -> None:
    """Nothing is read from it."""
    assert hold("device1", "float64", QUICK) > len(QUICK) / 3


@pytest.mark.parametrize("cases", core((NARROW, CASES), lambda cases: cases is NARROW))
def test_a_device_without_64_bits(cases: Any) -> None:
    """As JAX is by default: even the sums along a row are in float32."""
    assert hold("no_x64", "float32", cases) > len(cases) / 3


FLAGS: dict[str, dict[str, Any]] = {
    "no boolean indexing": {"boolean_indexing": False},
    "no shapes that depend on data": {"data_dependent_shapes": False},
    "no extension": {"enabled_extensions": ()},
    "the oldest standard": {"api_version": "2024.12"},
}
FLAGS["none of these"] = {name: value for flags in FLAGS.values() for name, value in flags.items()}


# What needs one of them fails without all: each by itself tells by night which it is.
@pytest.mark.parametrize("flags", core(FLAGS, lambda flags: flags == "none of these"))
def test_the_least_that_the_standard_asks(flags: str) -> None:
    """On a device that is read and on one that is not."""
    strict.set_array_api_strict_flags(**FLAGS[flags])
    try:
        for place in ("strict", "device1"):
            assert hold(place, "float32", QUICK) > len(QUICK) / 3
    finally:
        strict.reset_array_api_strict_flags()
