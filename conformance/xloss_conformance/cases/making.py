"""How a case is written: the options of its loss stand beside the case's own fields."""

from __future__ import annotations

from dataclasses import fields
from typing import Any

from ..model import Case

_FIELDS = {field.name for field in fields(Case)}


def made(family: str, label: str, reason: str, **given: Any) -> Case:
    """Return a case; a keyword that is none of its fields is an option of the loss.

    `functools.partial` of it holds what some cases have in common, and each may say otherwise.
    """
    own = {name: value for name, value in given.items() if name in _FIELDS}
    options = {name: value for name, value in given.items() if name not in _FIELDS}
    return Case(family, label, reason, options=options, **own)
