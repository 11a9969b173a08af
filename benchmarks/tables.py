"""What is data: contenders, plan, targets, and what the pages say, each a file of TOML."""

from __future__ import annotations

import tomllib
from functools import cache
from pathlib import Path
from typing import Any


@cache
def load(name: str) -> dict[str, Any]:
    """Return the table of that name."""
    return tomllib.loads(Path(__file__).with_name(f"{name}.toml").read_text("utf-8"))
