"""Peak memory of a call, as the kernel counts it: the same for every library."""

from __future__ import annotations

import ctypes
import gc

from xloss_conformance.timing import Call, NotOffered


def peak(call: Call, trials: int = 3) -> int:
    """Return the most bytes that a call held beyond what there was before it, its result included.

    The median of some trials, after a run that compiles and starts threads. Without /proc (not
    Linux), or where its counter may not be reset: NotOffered.
    """
    with call.within():
        call.before()
        call.run()
        found = sorted(_beyond(call) for _ in range(trials))
    return found[len(found) // 2]


def _beyond(call: Call) -> int:
    call.before()
    held = _held_now()
    got = call.run()
    most = _status("VmHWM")
    del got
    return max(0, most - held)


def _held_now() -> int:
    """Return the bytes that this process holds, and start to count the most from there.

    Freed pages go back to the kernel first, so that a call that takes them again is seen.
    """
    gc.collect()
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim is not None:
        trim(0)
    try:
        with open("/proc/self/clear_refs", "w", encoding="ascii") as file:
            file.write("5")  # VmHWM starts again from what is held now
    except OSError as error:
        raise NotOffered(f"/proc/self/clear_refs: {error.strerror}") from error
    return _status("VmRSS")


def _status(key: str) -> int:
    with open("/proc/self/status", encoding="ascii") as file:
        for line in file:
            if line.startswith(f"{key}:"):
                return int(line.split()[1]) * 1024
    raise NotOffered(f"/proc/self/status has no {key}")
