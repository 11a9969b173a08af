"""Compares lengths and shapes, of which a lazy library or a compiler may not know all."""

from __future__ import annotations

from typing import Any

from .._arrays.inspect import compiling


def same_shape(a: Any, b: Any) -> bool:
    """Compare shapes; an unknown length counts as equal."""
    return len(a) == len(b) and all(same_length(m, n) for m, n in zip(a, b, strict=True))


def same_length(m: Any, n: Any) -> bool:
    """Compare lengths; an unknown one (NaN on Dask, None, unbacked in torch) counts as equal."""
    if compiling():
        from ..backends.torch import sizes as torch_sizes

        return torch_sizes.same_length(m, n)
    return bool(m == n or m != m or n != n or m is None or n is None)


def is_length(m: Any, n: int) -> bool:
    """Tell whether a length is known to be this number."""
    if compiling():
        from ..backends.torch import sizes as torch_sizes

        return torch_sizes.is_length(m, n)
    return bool(m == n)


def is_empty(n: Any) -> bool:
    """Tell whether a length is 0."""
    if compiling():
        from ..backends.torch import sizes as torch_sizes

        return torch_sizes.is_empty(n)
    return bool(n == 0)


def is_negative(n: Any) -> bool:
    """Tell whether a number that a compiler may not have is known to be below 0."""
    from ..backends.torch import sizes as torch_sizes

    return torch_sizes.is_below(n, 0)
