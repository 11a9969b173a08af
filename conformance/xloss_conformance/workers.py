"""Worker processes: one source of subjects after another, those of one library in one process.

They are spawned, not forked: JAX and torch have threads, and a child forked from them hangs.
"""

from __future__ import annotations

import os
import signal
import threading
import traceback
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from multiprocessing import get_context
from multiprocessing.connection import Connection, wait
from typing import Any

from .case import Case
from .cases import catalogue
from .homes import Missing
from .loading import LoadError
from .suite import Collector, Source, answers
from .verdict import Verdict

STAYS: Any = None  # stands for a case that is not sent


class WorkerFailed(Exception):
    """A process died, or something that no verdict can tell went wrong in it."""


def work(sources: Sequence[Source], collector: Collector, jobs: int) -> None:
    """Run every source in one of `jobs` processes."""
    names = [case.name for case in collector.cases]
    threads = max(1, (os.cpu_count() or 1) // jobs)
    with _uninterrupted():
        workers = [_Worker(names, threads) for _ in range(jobs)]
    left = list(range(len(sources)))
    try:
        for worker in workers:
            worker.give(sources, left, workers)
        while busy := {w.pipe: w for w in workers if w.source is not None}:
            for pipe in wait(list(busy)):
                worker = busy[pipe]  # type: ignore[index]
                assert worker.source is not None
                kind, found = worker.receive(collector)
                if kind == "done":
                    worker.give(sources, left, workers)
                elif kind == "cannot":
                    raise found
                elif kind == "failed":
                    raise WorkerFailed(f"{collector.at(worker.source)}: {found}")
                else:
                    collector.take(worker.source, found)
    finally:
        for worker in workers:
            worker.stop()


@contextmanager
def _uninterrupted() -> Iterator[None]:
    """Start processes that Ctrl-C does not reach: the parent, which it reaches, ends them."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


class _Worker:
    """A process, and what it is at."""

    def __init__(self, names: list[str], threads: int) -> None:
        context = get_context("spawn")
        self.pipe, theirs = context.Pipe()
        self.process = context.Process(target=_serve, args=(theirs, names, threads), daemon=True)
        self.process.start()
        theirs.close()
        self.source: int | None = None
        self.library = ""

    def give(self, sources: Sequence[Source], left: list[int], workers: list[_Worker]) -> None:
        """Hand it a source: of its own library, else of one that nobody is at, else any."""
        if not left:
            self.source = None
            return
        taken = {w.library for w in workers}
        of = {i: sources[i] for i in left}
        self.source = min(
            left,
            key=lambda i: (of[i].library != self.library, of[i].library in taken, -of[i].cost, i),
        )
        left.remove(self.source)
        self.library = sources[self.source].library
        self.pipe.send(sources[self.source])

    def receive(self, collector: Collector) -> tuple[str, Any]:
        assert self.source is not None
        try:
            received: tuple[str, Any] = self.pipe.recv()
        except (EOFError, ConnectionResetError):
            self.process.join()
            code = self.process.exitcode or 0
            how = signal.Signals(-code).name if code < 0 else f"exit code {code}"
            raise WorkerFailed(f"the process {collector.at(self.source)} died: {how}") from None
        return received

    def stop(self) -> None:
        self.process.terminate()  # an idle one too: unloading JAX and torch takes time
        self.process.join()
        self.pipe.close()


def _serve(pipe: Connection, names: list[str], threads: int) -> None:
    """Answer source after source until the pipe is closed."""
    for variable in ("OMP_NUM_THREADS", "MKL_NUM_THREADS"):  # read when a library is imported
        os.environ.setdefault(variable, str(threads))
    os.dup2(2, 1)  # stdout belongs to the report
    named = {case.name: case for case in catalogue()}
    cases = [named[name] for name in names]
    while True:
        try:
            source = pipe.recv()
        except (EOFError, ConnectionError):
            return
        for message in _messages(source, cases):
            try:
                pipe.send(message)
            except ConnectionError:
                return


def _messages(source: Source, cases: Sequence[Case]) -> Iterator[tuple[str, Any]]:
    try:
        for found in answers(source, cases):
            yield "found", sent(found)
        yield "done", None
    except (LoadError, Missing) as error:
        yield "cannot", type(error)(str(error))
    except GeneratorExit:
        raise
    except BaseException as error:
        said = traceback.format_exception_only(error)[-1].strip()
        yield "failed", f"{said}\n{traceback.format_exc()}"


def sent(found: Any) -> Any:
    """Return what is light to send: the case is known where it goes, by its place in the order."""
    return replace(found, case=STAYS) if isinstance(found, Verdict) else found
