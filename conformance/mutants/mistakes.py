"""Every mutant."""

from __future__ import annotations

from importlib import import_module
from pathlib import Path

from . import MISTAKES

# Each module plants its own when it is imported.
for path in sorted(Path(__file__).parent.glob("*_wrong.py")):
    import_module(f".{path.stem}", __package__)

__all__ = ["MISTAKES"]
