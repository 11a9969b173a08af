"""What every command says the same way: numbers for JSON, one line for a failure."""

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
INTERRUPTED = 130  # as a shell has it for Ctrl-C


class Failure(Exception):
    """What kept a command from running; the message is one line."""

    def __init__(self, message: str) -> None:
        super().__init__(visible(message))


def fail(message: str) -> NoReturn:
    """Leave the command with one line on stderr and exit code 2."""
    raise Failure(message)


def visible(text: str) -> str:
    r"""Return text as one line that a terminal only shows.

    The names of files and arrays come from strangers: an escape sequence among them would be obeyed
    by the terminal, a line feed would forge a second line, and a byte that is no UTF-8 cannot be
    written at all. Such characters become escapes: ``\x1b``, ``\n``, ``\u202e``.
    """
    if text.isprintable():
        return text
    from xloss_conformance.visible import visible as escaped  # the suite's reports need the same

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
    """Print one line on stderr; where that cannot be written, the exit code has to do."""
    with suppress(OSError):
        print(f"xloss: {visible(message)}", file=sys.stderr, flush=True)


def one_line(error: BaseException) -> str:
    """Return what an error says in one line."""
    return " ".join(str(error).split()) or type(error).__name__


def current_folder() -> str:
    """Return where the command was started; to a folder that has been deleted nothing is sent."""
    try:
        return os.getcwd()
    except OSError as error:
        fail(f"the current folder: {error.strerror or error}; go to another")


def open_streams() -> None:
    """Let the numbers 0, 1 and 2 be taken, and stderr be there, whatever was closed before us.

    Else the next file that is opened gets such a number, and what is printed would go into it.
    """
    for number in (0, 1, 2):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # takes the lowest number that is free
    if sys.stderr is None:
        sys.stderr = os.fdopen(2, "w", encoding="utf-8", errors="backslashreplace")


def give_up(stream: TextIO | None) -> None:
    """Send a stream that cannot be written nowhere, or Python fails once more when it exits."""
    with suppress(AttributeError, OSError, ValueError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())  # type: ignore[union-attr]
