"""Which parameters of a test are in the default run, and which only in `pytest -m nightly`."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import pytest


def core(rows: Iterable[Any], kept: Callable[..., bool]) -> list[Any]:
    """Return the rows as parameters; those that are not kept are nightly."""
    found = []
    for row in rows:
        given = row if isinstance(row, tuple) else (row,)
        marks = () if kept(*given) else (pytest.mark.nightly,)
        found.append(pytest.param(*given, marks=marks))
    assert any(not param.marks for param in found), "nothing is left in the default run"
    return found
