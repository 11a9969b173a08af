"""Hints for options that were passed as arrays."""

from __future__ import annotations

from typing import Any

from .._arrays.inspect import is_tracer, library, namespace


def fixed_hint(name: str, value: Any, kind: str = "float") -> str:
    """Say how to pass an option that came as an array: options are Python values, not operands."""
    xp = namespace(value)
    if xp is None:
        return ""
    if is_tracer(value, library(xp)):
        return (
            "; an option is a Python number, fixed when the function is traced: with jax.jit name "
            f"it in static_argnames=({name!r},), or use functools.partial(..., {name}=...)"
        )
    return f"; an option is a Python number: pass {name}={kind}(...)"
