"""What comes before the times on a GPU: which one it is, and first calls, side by side."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import suppress
from importlib.metadata import PackageNotFoundError, version
from multiprocessing import get_context
from typing import Any

from .contenders import CONTENDERS
from .libraries import GPU
from .plan import TABLES
from .processes import Found, ends_with_parent
from .tasks import Place
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
            "driver": "unknown",
        }
        # PyTorch does not tell the driver.
        asked = ["nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader"]
        with suppress(OSError, subprocess.SubprocessError):
            driver = subprocess.check_output(asked, text=True, timeout=20)
            told["driver"] = driver.partition("\n")[0]
    yield "gpu", told


def compile_ahead(
    threads: int, device: str, calls: Sequence[tuple[str, str, int]]
) -> Sequence[Found]:
    """Make first calls (contender, dtype, classes) side by side, so that caches on disk are filled.

    What fails here fails again, and is told, where it is timed.
    """
    workers = max(1, min(PROCESSES, threads // 2, len(calls)))
    # A worker would wait for its next call for ever when the run is ended from outside.
    with ProcessPoolExecutor(workers, get_context("spawn"), initializer=ends_with_parent) as pool:
        list(pool.map(first_call, [device] * len(calls), *zip(*calls, strict=True)))
    return ()


def first_call(device: str, name: str, dtype: str, classes: int) -> None:
    """Make a contender's calls, with a gradient and without."""
    one = CONTENDERS[name]
    with suppress(Exception):  # of any peer; why, is told where it is timed
        where = Place(device).library(one)
        for gradient in (False, True):
            work = Work("ahead", (ROWS if device == GPU else 2, classes), gradient, dtype)
            call = one.prepare(work, where.given(work), where)
            call.before()
            call.run()
