"""Locks that a fork waits for.

A forked child has only the thread that forked. A lock that another thread held at that moment stays
locked in the child for ever.
"""

from __future__ import annotations

# Imported here so that its hook registers before this module's: what registers last runs first
# before a fork. logging's hook takes a lock that Numba takes too while it compiles: a fork that
# held that lock and waited for Numba would wait in vain. And a first call must not import any
# module without the lock below, logging included.
import logging  # noqa: F401
import os
import threading
from typing import Any

__all__ = ["importing", "wait_for"]

# Seconds that a fork waits for a lock, longer than any one import or compilation. Then it goes on:
# the thread that holds the lock may itself be waiting for something that the forking thread holds.
PATIENCE = 60.0

# Held while a compiled engine is imported, because a module's import lock is one of those locks.
importing = threading.RLock()

_locks: list[tuple[dict[str, Any], str]] = [(globals(), "importing")]
_taken = threading.local()  # by a thread's fork that is not over


def wait_for(owner: Any) -> None:
    """Make forks take an owner's RLock, if it has one, after those that were named before.

    One that was named before moves to the end: a fork must take the compiler's locks in the order
    in which the compiler does, whichever of them is named first.
    """
    if hasattr(owner, "_lock") and hasattr(owner, "__dict__"):
        others = [entry for entry in _locks if entry[0] is not vars(owner)]
        _locks[:] = [*others, (vars(owner), "_lock")]


def _before() -> None:
    taken: list[Any] = []
    # The list may change behind `importing` meanwhile: waiting for that lets an import end that
    # calls wait_for.
    for namespace, name in _locks:
        lock = namespace[name]
        taken.append((namespace, name, lock, lock.acquire(timeout=PATIENCE)))
    _taken.locks = taken


def _after_in_parent() -> None:
    for _, _, lock, held in reversed(_taken.locks):
        if held:
            lock.release()


def _after_in_child() -> None:
    for namespace, name, lock, held in reversed(_taken.locks):
        if held:
            lock.release()
        else:  # a thread holds it that does not exist in the child
            namespace[name] = threading.RLock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(
        before=_before, after_in_parent=_after_in_parent, after_in_child=_after_in_child
    )
