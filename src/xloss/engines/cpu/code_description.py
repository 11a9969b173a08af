"""A description of what compiled code is made of: equal descriptions compile to equal code."""

from __future__ import annotations

import hashlib
from types import CodeType, FunctionType, ModuleType
from typing import Any

import numpy as np


def describe(value: Any) -> str:
    """Describe bytecode, the functions that it calls, and every constant that either uses."""
    return _describe(value, set())


def _describe(value: Any, seen: set[Any]) -> str:
    if hasattr(value, "py_func"):
        options = sorted((k, _describe(v, seen)) for k, v in value.targetoptions.items())
        return f"{options}{_describe(value.py_func, seen)}"
    if isinstance(value, FunctionType):
        name = f"{value.__module__}.{value.__qualname__}"
        if value in seen:
            return name
        seen.add(value)
        known = value.__globals__
        used = [known[name] for name in sorted(_names(value.__code__)) if name in known]
        closed = [_content(cell) for cell in value.__closure__ or ()]
        parts = (value.__code__, value.__defaults__, closed, used)
        return repr((name, *(_describe(part, seen) for part in parts)))
    if isinstance(value, CodeType):
        names = (value.co_names, value.co_varnames, value.co_freevars)
        return repr((value.co_code, names, _describe(value.co_consts, seen)))
    if isinstance(value, np.ndarray):
        return repr((value.dtype.str, value.shape, hashlib.sha256(value.tobytes()).hexdigest()))
    if isinstance(value, (set, frozenset)):
        return repr(sorted(_describe(v, seen) for v in value))
    if isinstance(value, (tuple, list)):
        return repr([_describe(v, seen) for v in value])
    if isinstance(value, (ModuleType, type)):
        # A named tuple's fields: code reads them by their positions.
        return f"{value.__name__}{getattr(value, '_fields', '')}"
    return repr(value)


def _content(cell: Any) -> Any:
    """Return what a closure's cell holds."""
    try:
        return cell.cell_contents
    except ValueError:  # not filled yet: it will hold the function itself
        return None


def _names(code: CodeType) -> set[str]:
    """Return the global and attribute names in bytecode and in the functions inside it."""
    inner = (c for c in code.co_consts if isinstance(c, CodeType))
    return set(code.co_names).union(*map(_names, inner))
