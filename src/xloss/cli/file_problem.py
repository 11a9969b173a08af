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


def shortened(name: str) -> str:
    """Return a name from a file so that it fits into a message of one line."""
    name = visible(name)
    return name if len(name) <= NAME_LENGTH else f"{name[: NAME_LENGTH - 3]}..."


def chosen_name(file: str, name: str | None, names: Iterable[str], what: str = "array") -> str:
    """Return the name that was asked for, or that of the only array."""
    names = list(names)
    if not names:
        raise FileProblem(f"{file}: holds no {what}")
    listed = ", ".join(map(shortened, names[:8])) + (", ..." if len(names) > 8 else "")
    if name is None:
        if len(names) > 1:
            raise FileProblem(
                f"{file}: holds {len(names)} {what}s, say which: {file}::NAME ({listed})"
            )
        return names[0]
    if name not in names:
        raise FileProblem(f"{file}: holds no {what} {name!r}, but {listed}")
    return name
