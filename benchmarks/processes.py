"""Jobs in processes of their own: with so many cores, and with nothing else going on in them.

Each is a new Python, so that a first call is one, and so that memory is a contender's own.
"""

from __future__ import annotations

import logging
import os
import signal
import tempfile
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from importlib import import_module
from math import inf
from multiprocessing import get_context, parent_process
from multiprocessing.connection import Connection, wait
from pathlib import Path
from typing import Any
from unittest.mock import patch

from xloss_conformance.bench import Missing
from xloss_conformance.printable import first_line

Found = tuple[str, Any]  # a section of the record, "missing" or "contenders", and what goes there
# Read by a library when it is imported, or by its compiler.
THREADS = ("XLOSS_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")
CACHES = ("XLOSS_CACHE_DIR", "TORCHINDUCTOR_CACHE_DIR", "TRITON_CACHE_DIR")


class BenchFailed(Exception):
    """Nothing can be measured, or a process died or failed; one line says how."""


@dataclass(frozen=True)
class Job:
    """What a process does: a function "module:name" of this package, which yields what it finds."""

    task: str
    arguments: Mapping[str, Any]
    threads: int = 1
    caches: str = ""  # name of the folder, empty at first, that compilers keep their results in
    # By time.monotonic: a process that still measures then is ended, and one that fails is a line
    # of the record. Without it, a process that fails ends the run.
    until: float = inf


def results(jobs: Sequence[Job]) -> Iterator[Found]:
    """Do the jobs one after the other; give what each finds."""
    with tempfile.TemporaryDirectory(prefix="xloss-bench-") as folder:
        for job in jobs:
            try:
                yield from _done(job, Path(folder))
            except BenchFailed as failed:
                if job.until == inf:
                    raise
                yield "missing", str(failed)


def _done(job: Job, folder: Path) -> Iterator[Found]:
    context = get_context("spawn")
    ours, theirs = context.Pipe(duplex=False)
    process = context.Process(target=_do, args=(job, theirs))
    variables = dict.fromkeys(THREADS, str(job.threads))
    variables["TF_CPP_MIN_LOG_LEVEL"] = "3"  # XLA tells of every constant that takes it a second
    if job.caches:
        caches = folder / job.caches.replace(" ", "-")
        variables |= {name: str(caches / name.lower()) for name in CACHES}
    with patch.dict(os.environ, variables):
        process.start()
    theirs.close()  # so that its end is the pipe's
    try:
        while True:
            left = None if job.until == inf else max(0.0, job.until - time.monotonic())
            if not ours.poll(left):
                raise BenchFailed(f"{job.task}: its process was ended: it took too long")
            kind, found = ours.recv()
            if kind == "failed":
                raise BenchFailed(found)
            yield kind, found
    except (EOFError, OSError):
        process.join()
        if process.exitcode:
            died = f"{job.task}: its process died: exit code {process.exitcode}"
            raise BenchFailed(died) from None
    finally:
        process.kill()
        process.join()


def _do(job: Job, out: Connection) -> None:
    """Do a job in a process of its own, and tell what it finds."""
    os.dup2(2, 1)  # what a library prints is not for the report
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # it is ended by its parent
    logging.getLogger("xloss").setLevel(logging.ERROR)  # compiling belongs to what is timed
    ends_with_parent()
    if hasattr(os, "sched_setaffinity"):  # threads of JAX are as many as its cores
        os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[: job.threads])
    try:
        module, _, name = job.task.partition(":")
        task = getattr(import_module(f"{__package__}.{module}"), name)
        for found in task(threads=job.threads, **job.arguments):
            out.send(found)
    except Missing as missing:
        out.send(("missing", str(missing)))
    except Exception as error:  # of any library: who asked raises it, or records it
        with suppress(BrokenPipeError):
            out.send(("failed", first_line(error)))
    os._exit(0)  # threads of a library do not keep it


def ends_with_parent() -> None:
    """Leave when the parent is gone, be it killed: what is being timed takes long."""
    parent = parent_process()

    def leave() -> None:
        if parent is not None:
            wait([parent.sentinel])
            os._exit(1)

    threading.Thread(target=leave, daemon=True).start()
