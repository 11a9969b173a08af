"""Where compiled kernels lie on disk, and files that are read whole or not at all."""

from __future__ import annotations

import hashlib
import os
import stat
import sys
import tempfile
from contextlib import suppress
from pathlib import Path


def root() -> Path | None:
    """Return ``XLOSS_CACHE_DIR``, or else a folder in the user's cache directory, if it has one."""
    setting = os.environ.get("XLOSS_CACHE_DIR")
    try:
        return Path(setting).absolute() if setting else _user_caches() / "xloss"
    except (OSError, RuntimeError):  # there is no current directory, or no home directory
        return None


def _user_caches() -> Path:
    if sys.platform == "win32":
        return Path(os.environ.get("LOCALAPPDATA") or Path.home() / "AppData" / "Local")
    if sys.platform == "darwin":
        return Path.home() / "Library" / "Caches"
    directory = os.environ.get("XDG_CACHE_HOME", "")
    # The XDG specification says to ignore a relative path.
    return Path(directory) if os.path.isabs(directory) else Path.home() / ".cache"


def read(path: Path) -> bytes | None:
    """Return what `write` put into a file; None where the file is damaged or not a regular file.

    Anything else is not even opened: a FIFO would block, and a device may have no end.
    """
    if not stat.S_ISREG(os.stat(path).st_mode):
        return None
    content = path.read_bytes()
    digest, payload = content[:32], content[32:]
    return payload if hashlib.sha256(payload).digest() == digest else None


def write(path: Path, payload: bytes) -> None:
    """Write the payload's hash and the payload; no other process sees the file half written."""
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
