"""A Dask cluster of worker processes on loopback, and ways to disturb it."""

from __future__ import annotations

import json
import os
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from fresh import PATIENCE, start

SECONDS = 60 * PATIENCE  # what anything here is waited for

# Ends with its parent, whose end of the pipe is then closed; worker processes end with theirs.
CLUSTER = """
import sys
from distributed import LocalCluster

with LocalCluster(
    n_workers=int(sys.argv[1]), threads_per_worker=1, processes=True, host="127.0.0.1",
    dashboard_address=None, memory_limit=0, worker_dashboard_address=None,
) as cluster:
    print(cluster.scheduler_address, flush=True)
    sys.stdin.read()
"""


@contextmanager
def cluster(
    workers: int, preload: str = "", deaths: int = 3
) -> Iterator[tuple[str, subprocess.Popen[str]]]:
    """Yield a scheduler's address and the process that it and its worker processes hang on.

    preload: Python that each worker runs first; deaths: how many workers a task may take with it.
    """
    env = {
        "DASK_DISTRIBUTED__WORKER__PRELOAD": json.dumps([preload] if preload else []),
        "DASK_DISTRIBUTED__SCHEDULER__ALLOWED_FAILURES": str(deaths),
    }
    process = start(CLUSTER, str(workers), env=env, stdin=subprocess.PIPE)
    try:
        address = process.stdout.readline().strip()
        if not address:
            raise RuntimeError(process.communicate(timeout=SECONDS)[1])
        yield address, process
    finally:
        try:
            process.communicate(timeout=SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            process.communicate()


def until(path: Path) -> str:
    """Wait for a file, which is written whole, and return what it says."""
    late = time.monotonic() + SECONDS
    while not path.exists():
        if time.monotonic() > late:
            raise TimeoutError(f"{path} did not come")
        time.sleep(0.01)
    return path.read_text()


def wait_here(folder: Path) -> None:
    """Say in a folder which process is here, and wait to be let go."""
    draft = folder / f"{os.getpid()}.draft"
    draft.write_text(str(os.getpid()))
    draft.rename(folder / "waits")
    until(folder / "go")
