"""What comes before the times on a GPU: which one it is, and first calls, side by side."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import suppress
from importlib.metadata import PackageNotFoundError, version
from multiprocessing import get_context
from typing import Any

from .contenders import CONTENDERS, SameValue
from .libraries import GPU
from .plan import TABLES
from .processes import Found, ends_with_parent
from .tasks import Place, said
from .work import Work

PROCESSES = 8  # that make first calls side by side
ROWS = 1100  # so many that no kernel for a small batch is compiled


def facts(threads: int, device: str) -> Iterator[Found]:
    """Tell which GPU this is, and what runs on it."""
    import torch

    found = {}
    for name in TABLES["packages"]["gpu"]:
        with suppress(PackageNotFoundError):
            found[name] = version(name)
    told: dict[str, Any] = {"rehearsal": device != GPU, "name": "none", "versions": found}
    if device == GPU:
        has = torch.cuda.get_device_properties(0)
        told |= {
            "name": has.name,
            "capability": f"{has.major}.{has.minor}",
            "memory_bytes": has.total_memory,
            "l2_bytes": getattr(has, "L2_cache_size", 0),
            "processors": has.multi_processor_count,
            "cuda": str(torch.version.cuda),
            "driver": _driver(),
        }
    yield "gpu", told


def _driver() -> str:
    """Return the version of NVIDIA's driver, which PyTorch does not tell."""
    asked = ["nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader"]
    try:
        ran = subprocess.run(asked, capture_output=True, text=True, check=True, timeout=20)
    except (OSError, subprocess.SubprocessError):
        return "unknown"
    return (ran.stdout.splitlines() or ["unknown"])[0].strip()


def compile_ahead(
    threads: int, device: str, calls: Sequence[tuple[str, str, int]]
) -> Iterator[Found]:
    """Make first calls (contender, dtype, classes) side by side, so that caches on disk are filled.

    What fails here fails again, and is told, where it is timed.
    """
    began = time.monotonic()
    workers = max(1, min(PROCESSES, threads // 2, len(calls)))
    # A worker would wait for its next call for ever when the run is ended from outside.
    context = get_context("spawn")
    with ProcessPoolExecutor(workers, context, initializer=ends_with_parent) as pool:
        reasons = list(pool.map(first_call, [device] * len(calls), *zip(*calls, strict=True)))
    failed: dict[str, list[str]] = {}
    for (name, dtype, classes), reason in zip(calls, reasons, strict=True):
        if reason:
            failed.setdefault(reason, []).append(f"{name} {dtype} at {classes:,} classes")
    for reason, of in failed.items():
        more = f" and {len(of) - 1} more" if of[1:] else ""
        yield "missing", f"compiling ahead, {of[0]}{more}: {reason}"
    seconds = time.monotonic() - began
    yield "compiled", {"calls": len(calls), "processes": workers, "seconds": round(seconds, 1)}


def first_call(device: str, name: str, dtype: str, classes: int) -> str:
    """Make a contender's calls, with a gradient and without; return why not, if so."""
    one = CONTENDERS[name]
    try:
        where = Place(device).library(one)
        for gradient in (False, True):
            work = Work("ahead", (ROWS if device == GPU else 2, classes), gradient, dtype)
            with suppress(SameValue):
                call = one.prepare(work, where.given(work), where)
                call.before()
                call.run()
    except Exception as reason:  # of any peer; it is told where it is timed, too
        return said(reason)
    return ""
