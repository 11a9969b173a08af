"""Locks that a fork waits for, so that a forked child never finds one held by a thread it lacks."""

from __future__ import annotations

# What registers last runs first before a fork, and logging's hook takes a lock that Numba takes too
# while it compiles: a fork must not hold it when it waits for Numba. And a first call must import
# nothing that is not under the lock below.
import logging  # noqa: F401
import os
import threading
from typing import Any

__all__ = ["importing", "wait_for"]

# Longer than any one import or compilation. A fork goes on after that: the thread that holds the
# lock may itself be waiting for something that the forking thread holds.
PATIENCE = 60.0

# Held while a compiled engine is imported: a module that another thread was importing when the
# process forked stays locked in the child for ever.
importing = threading.RLock()

_locks: list[tuple[dict[str, Any], str]] = [(globals(), "importing")]
_taken = threading.local()


def wait_for(owner: Any, name: str) -> None:
    """Let forks hold the RLock at `owner.name` too, after those already named."""
    _locks.append((vars(owner), name))


def _before() -> None:
    taken: list[Any] = []
    for place, name in _locks:  # which is longer when an import that was waited for has ended
        lock = place[name]
        taken.append((place, name, lock, lock.acquire(timeout=PATIENCE)))
    _stack().append(taken)


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


if hasattr(os, "register_at_fork"):
    os.register_at_fork(
        before=_before, after_in_parent=_after_in_parent, after_in_child=_after_in_child
    )
