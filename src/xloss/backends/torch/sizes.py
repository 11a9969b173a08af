"""PyTorch: lengths and numbers whose value a compiler does not have while it traces."""

from __future__ import annotations

from typing import Any

import torch
from torch.fx.experimental import symbolic_shapes


def same_length(m: Any, n: Any) -> bool:
    """Compare two lengths; where a compiler cannot, take them as equal, and check at run time."""
    decide = getattr(symbolic_shapes, "guard_or_true", bool)  # torch 2.6 has no such lengths
    if not decide(m == n):
        return False
    torch._check(m == n)  # type: ignore[no-untyped-call]  # torch's
    return True


def is_length(m: Any, n: int) -> bool:
    """Tell whether a length is known to be this number."""
    decide = getattr(symbolic_shapes, "guard_or_false", bool)
    return bool(decide(m == n))


def is_below(m: Any, n: int) -> bool:
    """Tell whether a length or a number is known to be less than this one."""
    decide = getattr(symbolic_shapes, "guard_or_false", bool)
    return bool(decide(m < n))


def is_empty(n: Any) -> bool:
    """Tell whether a length is 0; where a compiler cannot, say no, and check at run time."""
    if is_length(n, 0):
        return True
    torch._check(n > 0)  # type: ignore[no-untyped-call]  # torch's
    return False


def constant(value: Any) -> Any:
    """Return the value of a symbolic number, which the compiler then specialises on."""
    return symbolic_shapes.guard_scalar(value)
