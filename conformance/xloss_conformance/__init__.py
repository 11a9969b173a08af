"""The conformance suite: does an implementation of a loss do what its definition says?"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .against import Comparison, compare
    from .checking import check
    from .conventions import Convention, convention
    from .homes import Missing
    from .parametrize import conformance_cases
    from .suite import Nonconforming, Report

__all__ = [
    "Comparison",
    "Convention",
    "Missing",
    "Nonconforming",
    "Report",
    "check",
    "compare",
    "conformance_cases",
    "convention",
]

# Loaded when asked for: whoever wants the oracle alone has to load neither NumPy nor the cases.
_HOME = {
    "Comparison": ".against",
    "Convention": ".conventions",
    "Missing": ".homes",
    "Nonconforming": ".suite",
    "Report": ".suite",
    "check": ".checking",
    "compare": ".against",
    "conformance_cases": ".parametrize",
    "convention": ".conventions",
}


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    found = globals()[name] = getattr(import_module(_HOME[name], __name__), name)
    return found


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
