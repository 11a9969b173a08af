"""How losses are called: argument names, layouts, reductions; one peer a file."""

from __future__ import annotations

import copy

from ..libraries import LIBRARIES
from ..load_object import among, imported, load_object
from ..model import LoadError
from .base import Convention

NAMES = ("xloss", "torch", "keras", "optax", "sklearn", "scipy", "tensorflow")

__all__ = ["NAMES", "Convention", "convention"]


def convention(name: str | Convention, arrays: str | None = None) -> Convention:
    """Return a convention, that of a name, or of a user's own file, on a library's arrays.

    A file is path/file.py, whose CONVENTION is taken, or path/file.py:name. Missing says what
    installs the library that a convention is of.
    """
    if isinstance(name, Convention):
        made = copy.copy(name)
    elif not isinstance(name, str):
        raise LoadError(f"convention: expected a name or a Convention, got {name!r}")
    else:
        if name in NAMES:
            found = imported(f"{__package__}.{name}", f"convention {name}").CONVENTION
        elif ".py" in name or ":" in name:
            found = load_object(name, "CONVENTION")
        else:
            among("convention", name, (*NAMES, "path/file.py"))
        if not isinstance(found, Convention):
            raise LoadError(f"{name}: a {type(found).__name__} is no Convention")
        made = copy.copy(found)
        made.origin = name
    if arrays is not None and arrays != made.home:
        made.home = among("arrays", arrays, LIBRARIES)
    return made
