"""Runs of `xloss eval --scheduler` on real worker processes, and twelve shards to run them on."""

import contextlib
import json
import subprocess
import sys

import numpy as np
import pytest

from cli_runs import told
from cluster import SECONDS, cluster, until

SIZES = (40, 0, 25, 60, 1, 33, 50, 20, 10, 30, 31, 9)
# What a worker runs first: a shard with a `.hold` beside it says who is at it, and waits.
HOLD = """
import os, pathlib, time
from xloss.cli import run_task

def held(job, answer=run_task.run_task):
    hold = pathlib.Path(job["task"]["logits"] + ".hold")
    if hold.exists():
        draft = hold.with_suffix(f".{os.getpid()}")
        draft.write_text(str(os.getpid()))
        draft.rename(hold.with_suffix(".waits"))
        late = time.monotonic() + 60
        while hold.exists() and time.monotonic() < late:
            time.sleep(0.01)
    return answer(job)

run_task.run_task = held
"""
HIDE = "import sys; sys.modules['xloss'] = None"


def preloaded(code):
    """Return the environment in which workers run this code first."""
    return {"DASK_DISTRIBUTED__WORKER__PRELOAD": json.dumps([code])}


@contextlib.contextmanager
def three_workers():
    """Yield the address of a cluster of three worker processes, and a client to disturb it by."""
    distributed = pytest.importorskip("distributed", reason="pip install 'xloss[distributed]'")
    with (
        cluster(3, env=preloaded(HOLD)) as (address, _),
        distributed.Client(address, timeout=SECONDS, set_as_default=False) as client,
    ):
        client.wait_for_workers(3, timeout=SECONDS)
        yield address, client


def saved_shards(folder):
    """Save twelve shards of 7 classes in the folder, and their labels."""
    rng = np.random.default_rng(2)
    for name in ("z", "y"):
        (folder / name).mkdir()
    for i, rows in enumerate(SIZES):
        logits = rng.normal(scale=4, size=(rows, 7)).astype(np.float32)
        labels = rng.integers(0, 7, rows)
        labels[::9] = -100
        np.save(folder / f"z/shard-{i}.npy", logits)
        np.save(folder / f"y/shard-{i}.npy", labels)


def start(*arguments, before=""):
    """Start the command in a process of its own; `before` is Python that runs first."""
    # Whatever runs the tests in the background has the interrupt ignored, and hands that down.
    heard = "import signal; signal.signal(signal.SIGINT, signal.default_int_handler)"
    code = f"{heard}\n{before}\nfrom xloss.cli import main; main()"
    return subprocess.Popen(
        [sys.executable, "-W", "error", "-c", code, "eval", *map(str, arguments)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def ended(process, code=0):
    """Return what the command says: JSON, or the line in which it refuses."""
    try:
        out, err = process.communicate(timeout=SECONDS)
    finally:
        process.kill()
    return told(process.returncode, out, err, code=code)


@contextlib.contextmanager
def held(folder, *arguments):
    """Start the command, and stop in the middle: one worker is at a shard; yield its process."""
    hold = folder / "z" / "shard-10.npy.hold"
    hold.touch()
    process = start(*arguments)
    try:
        yield process, int(until(hold.with_suffix(".waits")))
        hold.unlink(missing_ok=True)
    finally:
        hold.unlink(missing_ok=True)
