"""Locks that a fork waits for, so that a forked child never finds one held by a thread it lacks."""

from __future__ import annotations

import os
import threading
from typing import Any

# Longer than any one import or compilation. A fork goes on after that: the thread that holds the
# lock may itself be waiting for something that the forking thread holds.
PATIENCE = 60.0

# Held while a compiled engine is imported: a module that another thread was importing when the
# process forked stays locked in the child for ever.
importing = threading.RLock()

_locks: list[tuple[Any, str]] = [(globals(), "importing")]
_held = threading.local()


def wait_for(owner: Any, name: str) -> None:
    """Let every fork from now on hold the RLock at `owner.name`, after those already named."""
    if (vars(owner), name) not in _locks:
        _locks.append((vars(owner), name))


def _before() -> None:
    _held.locks = [
        (place, name, place[name], place[name].acquire(timeout=PATIENCE)) for place, name in _locks
    ]


def _after_in_parent() -> None:
    for _, _, lock, taken in reversed(_held.locks):
        if taken:
            lock.release()
    _held.locks = []


def _after_in_child() -> None:
    for place, name, lock, taken in reversed(_held.locks):
        if taken:
            lock.release()
        else:  # its holder does not exist here
            place[name] = threading.RLock()
    _held.locks = []


if hasattr(os, "register_at_fork"):
    os.register_at_fork(
        before=_before, after_in_parent=_after_in_parent, after_in_child=_after_in_child
    )
