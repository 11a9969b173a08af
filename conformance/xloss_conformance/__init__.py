"""The conformance suite: does an implementation of a loss do what its definition says?"""

from __future__ import annotations

from .checking import check, conformance_cases
from .comparison.losses import Comparison, compare
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
