"""Every mutant."""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import Any

from . import MISTAKES, numpy_right
from . import others as o

# Each module plants its own when it is imported.
for path in sorted(Path(__file__).parent.glob("*_wrong.py")):
    import_module(f".{path.stem}", __package__)

__all__ = ["MISTAKES", "RIGHT"]

# Loss -> what makes a right one on NumPy.
RIGHT: dict[str, Callable[[], Callable[..., Any]]] = {
    "cross_entropy": numpy_right.CrossEntropy,
    "binary_cross_entropy_with_logits": lambda: o.binary(o.from_logits),
    "binary_cross_entropy": lambda: o.binary(o.from_probabilities),
    "sigmoid_focal_loss": lambda: o.binary(o.sigmoid_focal),
    "focal_loss": lambda: o.ByClasses(o.focal, gamma=2.0),
    "nll_loss": lambda: o.ByClasses(o.label_alone),
    "log_loss": lambda: o.ByClasses(o.logarithm),
    "kl_div": o.divergences,
    "entropy": lambda: o.entropy(o.by_possible),
}
