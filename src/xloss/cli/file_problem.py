"""What every kind of file is refused by: one line that begins with the file's name."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterable

from .output import Failure, visible

NAME_LENGTH = 60  # characters of an array's name that a message shows


class FileProblem(Failure):
    """A file that cannot be read as asked; the message is one line and begins with its name."""


def must_be_a_file(file: str) -> None:
    """Refuse a FIFO, a socket or a device: reading one may wait for ever, or never end."""
    mode = os.stat(file).st_mode
    if not stat.S_ISREG(mode) and not stat.S_ISDIR(mode):  # opening a folder says what it is
        raise FileProblem(f"{file}: is a FIFO, a socket or a device, not a file")


def chosen_name(file: str, name: str | None, names: Iterable[str], what: str = "array") -> str:
    """Return the name that was asked for, or that of the only array."""
    names = list(names)
    if name is None and len(names) == 1:
        return names[0]
    if name in names:
        return str(name)
    problem = f"say which {what}, {file}::NAME" if name is None else f"holds no {what} {name!r}"
    listed = ", ".join(visible(n)[:NAME_LENGTH] for n in names[:8]) or "none"
    raise FileProblem(f"{file}: {problem}; it holds {listed}{', ...' if len(names) > 8 else ''}")
