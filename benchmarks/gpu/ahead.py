"""What comes before the times: which GPU this is, and first calls that compile, side by side."""

from __future__ import annotations

import os
import subprocess
import threading
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import suppress
from importlib import import_module
from importlib.metadata import PackageNotFoundError, version
from multiprocessing import get_context, parent_process
from multiprocessing.connection import wait
from typing import Any

from xloss_conformance.bench import why

from ..contenders import Contender, Missing
from ..processes import Found
from . import plan

FILES = {"torch": "on_torch_peers", "cupy": "on_cupy", "jax": "on_jax"}
PACKAGES = (
    "torch",
    "triton",
    "cuda-core",
    "nvidia-cuda-nvrtc",
    "cupy-cuda12x",
    "cupy-cuda13x",
    "jax",
    "optax",
    "quack-kernels",
    "liger-kernel",
)


def opened(library: str, device: str) -> tuple[Any, dict[str, Contender]]:
    """Return a library's device and its contenders; Missing says why there is none."""
    os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")  # else JAX takes 3/4 of it
    try:
        module = import_module(f".{FILES[library]}", __package__)
    except ModuleNotFoundError as error:
        raise Missing(f"{library}: {error.name} is not installed") from error
    return module.Device(device), module.CONTENDERS


def facts(threads: int, device: str) -> Iterator[Found]:
    """Tell which GPU this is, and what runs on it."""
    import torch

    found = {}
    for name in PACKAGES:
        with suppress(PackageNotFoundError):
            found[name] = version(name)
    told: dict[str, Any] = {"rehearsal": device != "cuda", "name": "none", "versions": found}
    if device == "cuda":
        if not torch.cuda.is_available():
            raise Missing("PyTorch finds no GPU: a CUDA build of it, whatever else is here")
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
    threads: int, device: str, calls: Sequence[tuple[str, int]], quack: bool = False
) -> Iterator[Found]:
    """Make the first calls in processes side by side, so that the caches on disk are filled.

    What fails here fails again, and is told, where it is timed.
    """
    began = time.monotonic()
    context = get_context("spawn")
    workers = max(1, min(plan.PROCESSES, threads // 2, len(calls)))
    # A worker would wait for its next call for ever when the run is ended from outside.
    with ProcessPoolExecutor(workers, context, initializer=_ends) as pool:
        asked = [pool.submit(_first, "first_calls", device, *call) for call in calls]
        if quack and installed("quack-kernels"):
            few = [c for c in calls if c[1] in plan.FEWER["Quack"].get(c[0], ())]
            asked += [pool.submit(_first, "quack_first_calls", device, *call) for call in few]
        failed = [reason for one in asked if (reason := one.result())]
    for reason in dict.fromkeys(failed):
        yield "missing", f"compiling ahead: {reason}"
    seconds = time.monotonic() - began
    yield "compiled", {"calls": len(asked), "processes": workers, "seconds": round(seconds, 1)}


def _first(which: str, device: str, dtype: str, classes: int) -> str:
    try:
        module = import_module(f".{FILES['torch']}", __package__)
        getattr(module, which)(device, dtype, classes)
    except Exception as reason:
        return f"{dtype}, {classes:,} classes: {said(reason)}"
    return ""


def _ends() -> None:
    parent = parent_process()

    def leave() -> None:
        if parent is not None:
            wait([parent.sentinel])
            os._exit(1)

    threading.Thread(target=leave, daemon=True).start()


def installed(distribution: str) -> bool:
    try:
        version(distribution)
    except PackageNotFoundError:
        return False
    return True


def said(reason: Exception) -> str:
    """Return in one line why there is no figure; who needs more memory than there is says that."""
    if "OutOfMemory" in type(reason).__name__ or "RESOURCE_EXHAUSTED" in str(reason):
        return "out of memory"
    return why(reason)
