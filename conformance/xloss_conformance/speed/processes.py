"""Steps in processes of their own: with so many cores, and with nothing else going on in them.

They are spawned, not forked, so that a first call is one, and so that memory is a contender's own.
"""

from __future__ import annotations

import logging
import os
import signal
import tempfile
import threading
import time
import traceback
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from multiprocessing import get_context, parent_process
from multiprocessing.connection import Connection, wait
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .plan import Step

# Read by a library when it is imported, or by its compiler.
THREADS = ("XLOSS_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")
CACHES = ("XLOSS_CACHE_DIR", "TORCHINDUCTOR_CACHE_DIR", "TRITON_CACHE_DIR")


class BenchFailed(Exception):
    """A process died, or failed; the first line says how."""


def results(steps: Sequence[Step]) -> Iterator[tuple[Step, str, Any]]:
    """Do the steps one after the other; give what each finds."""
    process: _Process | None = None
    with tempfile.TemporaryDirectory(prefix="xloss-bench-") as folder:
        try:
            for step in steps:
                if process is not None and not process.fits(step):
                    process.stop()
                    process = None
                if process is None:
                    process = _Process(step, Path(folder))
                try:
                    for kind, found in process.do(step):
                        yield step, kind, found
                except BenchFailed as failed:
                    if step.until == float("inf"):
                        raise
                    yield step, "missing", str(failed).partition("\n")[0]
        finally:
            if process is not None:
                process.stop()


class _Process:
    def __init__(self, step: Step, folder: Path) -> None:
        self.first = step
        caches = folder / step.caches.replace(" ", "-") if step.caches else None
        context = get_context("spawn")
        self.pipe, theirs = context.Pipe()
        self.process = context.Process(target=serve, args=(theirs, step.threads))
        with environment(step.threads, caches):
            self.process.start()
        theirs.close()

    def fits(self, step: Step) -> bool:
        """Whether a further step may run in it."""
        return not (step.alone or self.first.alone) and step.threads == self.first.threads

    def do(self, step: Step) -> Iterator[tuple[str, Any]]:
        self.pipe.send((step.task, {**step.arguments, "threads": step.threads}))
        while True:
            if not self.pipe.poll(_left(step.until)):
                self.process.kill()
                yield "missing", f"a process was ended: it took too long to measure {step.section}"
                return
            try:
                kind, found = self.pipe.recv()
            except (EOFError, ConnectionResetError):
                self.process.join()
                code = self.process.exitcode or 0
                how = signal.Signals(-code).name if code < 0 else f"exit code {code}"
                raise BenchFailed(f"the process that measured {step.section} died: {how}") from None
            if kind == "done":
                return
            if kind == "failed":
                raise BenchFailed(found)
            yield kind, found

    def stop(self) -> None:
        self.process.terminate()
        self.process.join()
        self.pipe.close()


def _left(until: float) -> float | None:
    """Return the seconds until then, by time.monotonic; None: as long as it takes."""
    return None if until == float("inf") else max(0.0, until - time.monotonic())


@contextmanager
def environment(
    threads: int, caches: Path | None = None, more: Mapping[str, str] | None = None
) -> Iterator[None]:
    """Set what a new process finds; Ctrl-C does not reach it: the parent ends it."""
    new = {**dict.fromkeys(THREADS, str(threads)), **(more or {})}
    new["TF_CPP_MIN_LOG_LEVEL"] = "3"  # XLA tells of every constant that takes it a second
    if caches is not None:
        new |= {name: str(caches / name.lower()) for name in CACHES}
    before = dict(os.environ)
    os.environ.update(new)
    try:
        handler: Any = signal.signal(signal.SIGINT, signal.SIG_IGN)
    except ValueError:  # not in the main thread
        handler = None
    try:
        yield
    finally:
        if handler is not None:
            signal.signal(signal.SIGINT, handler)
        os.environ.clear()
        os.environ.update(before)


def serve(pipe: Connection, threads: int) -> None:
    """Do one task after another until the pipe is closed."""
    os.dup2(2, 1)  # stdout belongs to the report
    logging.getLogger("xloss").setLevel(logging.ERROR)  # what is compiled belongs to what is timed
    threading.Thread(target=end_with_parent, daemon=True).start()
    if hasattr(os, "sched_setaffinity"):  # threads of JAX are as many as its cores
        os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:threads])
    from .tasks import TASKS

    tasks: dict[str, Any] = dict(TASKS)
    while True:
        try:
            task, arguments = pipe.recv()
        except (EOFError, ConnectionError):
            return
        try:
            for message in tasks[task](**arguments):
                pipe.send(message)
            pipe.send(("done", None))
        except ConnectionError:
            return
        except BaseException as error:
            said = traceback.format_exception_only(error)[-1].strip()
            pipe.send(("failed", f"{said}\n{traceback.format_exc()}"))


def end_with_parent() -> None:
    """Leave when the parent is gone, be it killed: what is being timed takes long."""
    parent = parent_process()
    assert parent is not None
    wait([parent.sentinel])
    os._exit(1)
