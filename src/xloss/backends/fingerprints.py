"""Fingerprints: what a call depends on but the values of its arrays, so that it is checked once.

On a GPU a loss of few rows takes less time than the checks before it. Calls of one fingerprint
have the same dtypes, shapes, device and options: what the first of them found out holds for all.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable
from typing import Any

from .._arrays.inspect import Array, compiling
from ..core.call import LossCall
from ..engines import asked_now

Look = Callable[[Array, Array], Hashable | None]

# By the type of the logits: a function of logits and targets that returns all that a call depends
# on but their values, or None where each call must be checked. Each backend enters its own.
looks: dict[type, Look] = {}
_MAX_CALLS = 1024  # remembered at most: a program whose shapes never repeat would fill the memory
_calls: dict[Hashable, LossCall] = {}


def taken(x: Array) -> bool:
    """Tell whether calls on such logits may have a fingerprint."""
    return not compiling() and type(x) in looks  # in this order: torch.compile traces no type


def key(x: Array, targets: Array, *options: Any) -> Hashable | None:
    """Return a call's fingerprint, or None where the call must be checked."""
    arrays = looks[type(x)](x, targets)
    # The options' types too: True equals 1, and is another option.
    return None if arrays is None else (arrays, asked_now(), options, *map(type, options))


def find(key: Hashable) -> LossCall | None:
    """Return the remembered call of a fingerprint, if there is one; it holds no operands."""
    try:
        return _calls.get(key)
    except TypeError:  # an option that cannot be hashed: the checks will refuse it
        return None


def keep(key: Hashable, call: LossCall) -> LossCall:
    """Remember a call without its arrays; return it with an empty memory for what is found out."""
    call = call._replace(memory={})
    if len(_calls) >= _MAX_CALLS:
        _calls.clear()
    _calls[key] = call._replace(operands=None)  # type: ignore[arg-type]
    return call
