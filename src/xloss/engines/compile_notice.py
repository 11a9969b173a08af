"""A message on the logger "xloss" while a compilation takes long.

    logging.getLogger("xloss").setLevel(logging.ERROR)

silences it. Where logging is not configured it goes to stderr.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress

__all__ = ["compiling"]

PATIENCE = 2.0  # seconds before the message


@contextmanager
def compiling(what: str) -> Iterator[None]:
    """Log what the block compiles, if that takes longer than PATIENCE."""
    timer = threading.Timer(PATIENCE, _say, (what,))
    timer.daemon = True
    with suppress(RuntimeError):  # no more threads can start, or the interpreter is shutting down
        timer.start()
    try:
        yield
    finally:
        timer.cancel()


def _say(what: str) -> None:
    logging.getLogger("xloss").warning(
        "compiling %s; later calls and processes need not, and %s does it ahead",
        what,
        "`xloss engines --warm`",
    )
