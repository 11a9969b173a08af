"""How every command prints JSON, and how it fails: one line on stderr and an exit code."""

from __future__ import annotations

import json
import os
import sys
from contextlib import suppress
from math import isfinite
from typing import Any, NoReturn, TextIO

SCHEMA = 1
JUDGED_AND_FAILED = 1
COULD_NOT_RUN = 2
INTERRUPTED = 130  # the exit code that shells give a command stopped by Ctrl-C


class Failure(Exception):
    """What kept a command from running; the message is one line."""

    def __init__(self, message: str) -> None:
        super().__init__(visible(message))


def fail(message: str) -> NoReturn:
    """Leave the command with one line on stderr and exit code 2."""
    raise Failure(message)


def visible(text: str) -> str:
    r"""Return text as one line that a terminal shows and does not obey.

    The names of files and arrays may be chosen by anybody: the terminal would obey an escape
    sequence in one, a line feed would forge a second line, and a byte that is no UTF-8 cannot be
    written at all. Such characters become escapes: ``\x1b``, ``\n``, ``\u202e``.
    """
    if text.isprintable():
        return text
    from xloss_conformance.printable import visible as escaped

    return escaped(text)


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


def say(message: str) -> None:
    """Print one line on stderr; if stderr cannot be written, only the exit code tells."""
    with suppress(OSError):
        print(f"xloss: {visible(message)}", file=sys.stderr, flush=True)


def one_line(error: BaseException) -> str:
    """Return the message of an error as one line."""
    return " ".join(str(error).split()) or type(error).__name__


def current_folder() -> str:
    """Return the current folder, or fail if it has been deleted: no path starts from it then."""
    try:
        return os.getcwd()
    except OSError as error:
        fail(f"the current folder: {error.strerror or error}; go to another")


def open_streams() -> None:
    """Open file descriptors 0, 1 and 2 if the command was started with them closed.

    Otherwise the next file that is opened gets one of these numbers, and what is printed is written
    into that file.
    """
    for number in (0, 1, 2):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # gets the lowest number that is free, this one
    if sys.stderr is None:
        sys.stderr = os.fdopen(2, "w", encoding="utf-8", errors="backslashreplace")


def give_up(stream: TextIO | None) -> None:
    """Point a stream that cannot be written to the null device; at exit Python flushes it again."""
    with suppress(AttributeError, OSError, ValueError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())  # type: ignore[union-attr]
