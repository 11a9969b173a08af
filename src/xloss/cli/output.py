"""What every command says the same way: numbers for JSON, one line for a failure."""

from __future__ import annotations

import json
import sys
from math import isfinite
from typing import Any, NoReturn

SCHEMA = 1
JUDGED_AND_FAILED = 1
COULD_NOT_RUN = 2
INTERRUPTED = 130  # as a shell has it for Ctrl-C


class Failure(Exception):
    """What kept a command from running; the message is one line."""


def fail(message: str) -> NoReturn:
    """Leave the command with one line on stderr and exit code 2."""
    raise Failure(message)


def plain(value: Any) -> Any:
    """Return a value as strict JSON can hold it: non-finite numbers as "nan", "inf", "-inf"."""
    if isinstance(value, float) and not isfinite(value):
        return str(value)
    if isinstance(value, dict):
        return {k: plain(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [plain(v) for v in value]
    return value


def print_json(value: dict[str, Any]) -> None:
    """Print one JSON object, and nothing else, on stdout."""
    json.dump(plain({"schema": SCHEMA, **value}), sys.stdout, indent=2, allow_nan=False)
    sys.stdout.write("\n")


def one_line(error: BaseException) -> str:
    """Return what an error says in one line."""
    return " ".join(str(error).split()) or type(error).__name__
