"""How losses are called: argument names, layouts, reductions; one peer a file."""

from __future__ import annotations

from importlib import import_module

from .base import Convention

NAMES = ("xloss", "torch", "keras", "optax", "sklearn", "scipy")

__all__ = ["NAMES", "Convention", "convention"]


def convention(name: str) -> Convention:
    """Return the convention of that name."""
    if name not in NAMES:
        raise ValueError(f"convention: {name!r} is unknown; expected one of {', '.join(NAMES)}")
    made: Convention = import_module(f".{name}", __package__).CONVENTION
    return made
