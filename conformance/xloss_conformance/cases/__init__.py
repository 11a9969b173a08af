"""The catalogue: every case, in files by family."""

from __future__ import annotations

from functools import cache
from importlib import import_module

from ..model import Case

FILES: tuple[str, ...] = ("extremes", "absent", "labels", "options", "layouts", "probabilities")
FILES += ("focal", "binary", "divergence", "packed", "ranges")


@cache
def catalogue() -> tuple[Case, ...]:
    """Return every case, those on demand included, in the order of the report."""
    files = (import_module(f".{name}", __package__) for name in FILES)
    return tuple(case for file in files for case in file.cases())


def case(name: str) -> Case:
    """Return the case of that name."""
    for found in catalogue():
        if found.name == name:
            return found
    raise KeyError(f"no case {name!r}")
