"""The conformance suite: does an implementation of a loss do what its definition says?"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .checking import check, conformance_cases
    from .comparison.losses import compare
    from .comparison.result import Comparison
    from .conventions import Convention, convention
    from .model import Differs, Missing
    from .result import Nonconforming, Report

__all__ = [
    "Comparison",
    "Convention",
    "Differs",
    "Missing",
    "Nonconforming",
    "Report",
    "check",
    "compare",
    "conformance_cases",
    "convention",
]

# Loaded when asked for: whoever wants the oracle alone has to load neither NumPy nor the cases.
_MODULES = {
    "Comparison": ".comparison.result",
    "Convention": ".conventions",
    "Differs": ".model",
    "Missing": ".model",
    "Nonconforming": ".result",
    "Report": ".result",
    "check": ".checking",
    "compare": ".comparison.losses",
    "conformance_cases": ".checking",
    "convention": ".conventions",
}


def __getattr__(name: str) -> Any:
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    found = globals()[name] = getattr(import_module(_MODULES[name], __name__), name)
    return found


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
