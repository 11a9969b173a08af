"""Jobs in processes of their own: with so many cores, and with nothing else going on in them.

Each is a new Python, so that a first call is one, and so that memory is a contender's own.
"""

from __future__ import annotations

import logging
import os
import pickle
import signal
import subprocess
import sys
import tempfile
import threading
import time
import traceback
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from importlib import import_module
from math import inf
from pathlib import Path
from typing import Any

Found = tuple[str, Any]  # a section of the record, "missing" or "contenders", and what goes there
# Read by a library when it is imported, or by its compiler.
THREADS = ("XLOSS_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")
CACHES = ("XLOSS_CACHE_DIR", "TORCHINDUCTOR_CACHE_DIR", "TRITON_CACHE_DIR")


class BenchFailed(Exception):
    """A process died, or failed; the first line says how."""


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
                yield "missing", str(failed).partition("\n")[0]


def _done(job: Job, folder: Path) -> Iterator[Found]:
    with subprocess.Popen(
        [sys.executable, "-m", __name__],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env=environment(job.threads, folder / job.caches.replace(" ", "-") if job.caches else None),
        start_new_session=True,  # Ctrl-C does not reach it: it is ended here
    ) as process:
        pipe: Any = process.stdin
        left = max(0.0, min(job.until - time.monotonic(), threading.TIMEOUT_MAX))
        timer = threading.Timer(left, process.kill)
        timer.daemon = True
        timer.start()
        try:
            pickle.dump(job, pipe)
            pipe.flush()
            while True:
                kind, found = pickle.load(process.stdout)  # type: ignore[arg-type]
                if kind == "done":
                    return
                if kind == "failed":
                    raise BenchFailed(found)
                yield kind, found
        except (EOFError, OSError):
            code = process.wait()
            with suppress(BrokenPipeError):  # what is left in the buffer goes nowhere
                pipe.close()
            if time.monotonic() >= job.until:
                raise BenchFailed(f"{job.task}: its process was ended: it took too long") from None
            how = signal.Signals(-code).name if code < 0 else f"exit code {code}"
            raise BenchFailed(f"{job.task}: its process died: {how}") from None
        finally:
            timer.cancel()
            process.kill()


def environment(threads: int, caches: Path | None = None) -> dict[str, str]:
    """Return what a new process finds in its environment."""
    made = {**os.environ, **dict.fromkeys(THREADS, str(threads))}
    made["PYTHONPATH"] = os.pathsep.join(filter(None, sys.path))
    made["TF_CPP_MIN_LOG_LEVEL"] = "3"  # XLA tells of every constant that takes it a second
    if caches is not None:
        made |= {name: str(caches / name.lower()) for name in CACHES}
    return made


def main() -> None:
    """Do the job that comes by stdin, and tell what it finds on stdout, as pickles."""
    with os.fdopen(os.dup(1), "wb") as out:
        os.dup2(2, 1)  # what a library prints is not for the record
        job: Job = pickle.load(sys.stdin.buffer)
        logging.getLogger("xloss").setLevel(logging.ERROR)  # compiling belongs to what is timed
        threading.Thread(target=_end_with_parent, daemon=True).start()
        if hasattr(os, "sched_setaffinity"):  # threads of JAX are as many as its cores
            os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[: job.threads])

        def tell(kind: str, found: Any) -> None:
            pickle.dump((kind, found), out)
            out.flush()

        try:
            module, _, name = job.task.partition(":")
            task = getattr(import_module(f"{__spec__.parent}.{module}"), name)
            for kind, found in task(threads=job.threads, **job.arguments):
                tell(kind, found)
            tell("done", None)
        except BrokenPipeError:
            pass
        except Exception as error:
            said = traceback.format_exception_only(error)[-1].strip()
            tell("failed", f"{said}\n{traceback.format_exc()}")
    os._exit(0)  # threads of a library do not keep it


def _end_with_parent() -> None:
    """Leave when the parent is gone, be it killed: what is being timed takes long."""
    sys.stdin.buffer.read()
    os._exit(1)


if __name__ == "__main__":
    main()
