"""Locks that a fork waits for, so that a forked child never finds one held by a thread it lacks."""

from __future__ import annotations

import os
import threading
from typing import Any

__all__ = ["importing", "wait_for"]

# Longer than any one import or compilation. A fork goes on after that: the thread that holds the
# lock may itself be waiting for something that the forking thread holds.
PATIENCE = 60.0

_import_lock = threading.RLock()
_locks: list[tuple[dict[str, Any], str]] = [(globals(), "_import_lock")]
_taken = threading.local()
_registered = False


def importing() -> Any:
    """Return the lock to hold while a compiled engine is imported; from now on forks wait.

    A module that another thread was importing when the process forked stays locked in the child
    for ever.
    """
    global _registered
    if not _registered and hasattr(os, "register_at_fork"):
        # What is registered last runs first before a fork, and logging's hook takes a lock that
        # Numba, compiling, takes too: it must not be held while the fork waits for Numba.
        import logging  # noqa: F401

        os.register_at_fork(
            before=_before, after_in_parent=_after_in_parent, after_in_child=_after_in_child
        )
        _registered = True
    return _import_lock


def wait_for(owner: Any, name: str) -> None:
    """Let forks hold the RLock at `owner.name` too, after those already named."""
    _locks.append((vars(owner), name))


def _before() -> None:
    taken = [(place, name, place[name]) for place, name in _locks]
    _stack().append([(*entry, entry[2].acquire(timeout=PATIENCE)) for entry in taken])


def _after_in_parent() -> None:
    for _, _, lock, held in reversed(_stack().pop()):
        if held:
            lock.release()


def _after_in_child() -> None:
    for place, name, lock, held in reversed(_stack().pop()):
        if held:
            lock.release()
        else:  # by a thread that does not exist here
            place[name] = threading.RLock()


def _stack() -> list[Any]:
    """Return what each unfinished fork of this thread holds."""
    stack: list[Any] = _taken.__dict__.setdefault("stack", [])
    return stack
