"""Where compiled kernels lie on disk, and files that are whole or not there."""

from __future__ import annotations

import hashlib
import os
import stat
import sys
import tempfile
from contextlib import suppress
from pathlib import Path


def root() -> Path | None:
    """Return ``XLOSS_CACHE_DIR``, else a folder among the user's caches; None: there is no such."""
    given = os.environ.get("XLOSS_CACHE_DIR")
    try:
        return Path(given).absolute() if given else _user_caches() / "xloss"
    except (OSError, RuntimeError):  # no current directory, no home
        return None


def _user_caches() -> Path:
    if sys.platform == "win32":
        return Path(os.environ.get("LOCALAPPDATA") or Path.home() / "AppData" / "Local")
    if sys.platform == "darwin":
        return Path.home() / "Library" / "Caches"
    named = os.environ.get("XDG_CACHE_HOME", "")
    # By its specification a relative one counts for nothing.
    return Path(named) if os.path.isabs(named) else Path.home() / ".cache"


def read(path: Path) -> bytes | None:
    """Return what was kept under a name; None where that is not whole, or not a file.

    What is no file is not even opened: a FIFO would be waited for, and a device has no end.
    """
    if not stat.S_ISREG(os.stat(path).st_mode):
        return None
    content = path.read_bytes()
    digest, payload = content[:32], content[32:]
    return payload if hashlib.sha256(payload).digest() == digest else None


def write(path: Path, payload: bytes) -> None:
    """Keep it, after the hash of its contents, in a file that nobody ever sees half written."""
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    handle, name = tempfile.mkstemp(prefix="writing-", dir=path.parent)
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(hashlib.sha256(payload).digest() + payload)
        os.replace(name, path)
    except BaseException:
        with suppress(OSError):
            os.unlink(name)
        raise
