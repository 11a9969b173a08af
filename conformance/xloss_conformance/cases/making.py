"""How a case is written: the options of its loss stand beside the case's own fields."""

from __future__ import annotations

from dataclasses import fields
from functools import partial
from typing import Any

from ..model import Case

NONE: dict[str, Any] = {"reduction": "none"}  # what many cases ask for: a loss a row
_FIELDS = {field.name for field in fields(Case)}


def github(*places: str) -> tuple[str, ...]:
    """Return links to published bugs, each "owner/name/issues/number"."""
    return tuple(f"https://github.com/{place}" for place in places)


def issues(project: str, *numbers: int) -> tuple[str, ...]:
    """Return links to issues of one project."""
    return github(*(f"{project}/issues/{number}" for number in numbers))


torch = partial(issues, "pytorch/pytorch")
sklearn = partial(issues, "scikit-learn/scikit-learn")
keras = partial(issues, "keras-team/keras")


def made(family: str, label: str, /, *reason: str, **given: Any) -> Case:
    """Return a case; a keyword that is none of its fields is an option of the loss.

    The reason stands behind the label, or is the keyword `reason` where several cases have one.
    `functools.partial` of it holds what some cases have in common, and each may say otherwise.
    """
    own = {name: value for name, value in given.items() if name in _FIELDS}
    options = {name: value for name, value in given.items() if name not in _FIELDS}
    if reason:
        (own["reason"],) = reason
    return Case(family, label, options=options, **own)
