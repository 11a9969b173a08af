"""Worker processes: one source of subjects after another, those of one library in one process."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import replace
from math import inf
from multiprocessing.connection import Connection
from typing import Any

from .apart import START, Apart, Message, Send, WorkerFailed, ready, said
from .case import Case
from .cases import catalogue
from .homes import Missing
from .loading import LoadError
from .suite import Collector, Source, answers
from .verdict import Verdict

__all__ = ["WorkerFailed", "sent", "work"]

STAYS: Any = None  # stands for a case that is not sent
OURS = 10  # times as long as a stranger may xloss and its peers take, some of which compile


def work(sources: Sequence[Source], collector: Collector, jobs: int, timeout: float = inf) -> None:
    """Run every source in one of `jobs` processes; a case may take `timeout` seconds."""
    names = [case.name for case in collector.cases]
    threads = max(1, (os.cpu_count() or 1) // jobs)
    workers: list[_Worker] = []
    left = list(range(len(sources)))
    try:
        workers += (_Worker(names, threads) for _ in range(jobs))
        for worker in workers:
            worker.take_next(sources, left, workers)
        while busy := [w for w in workers if w.source is not None]:
            heard = ready(busy)
            for worker in busy:
                at = collector.at(worker.place, worker.library)
                if worker not in heard:
                    worker.check(worker.patience(timeout, sources[worker.place]), at)
                    continue
                kind, found = worker.receive(at)
                worker.begun = True
                if kind == "done":
                    worker.take_next(sources, left, workers)
                elif kind == "cannot":
                    raise found
                elif kind == "failed":
                    raise WorkerFailed(f"{at}: {found}")
                elif kind == "found":
                    collector.take(worker.place, found)
    finally:
        for worker in workers:
            worker.stop()


class _Worker(Apart):
    """A process, and what it is at."""

    def __init__(self, names: list[str], threads: int) -> None:
        super().__init__(_serve, names, threads)
        self.source: int | None = None
        self.library = ""
        self.begun = False  # whether the process and the library of its source are there

    @property
    def place(self) -> int:
        """The place of its source among all."""
        assert self.source is not None
        return self.source

    def patience(self, timeout: float, source: Source) -> float:
        """Return how many seconds it may be silent now."""
        limit = timeout if source.stranger else OURS * timeout
        return limit if self.begun else max(limit, START)

    def take_next(
        self, sources: Sequence[Source], left: list[int], workers: Sequence[_Worker]
    ) -> None:
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
        self.begun = False
        self.give(sources[self.source])


def _serve(pipe: Connection, send: Send, names: list[str], threads: int) -> None:
    """Answer source after source until the pipe is closed."""
    for variable in ("OMP_NUM_THREADS", "MKL_NUM_THREADS"):  # read when a library is imported
        os.environ.setdefault(variable, str(threads))
    named = {case.name: case for case in catalogue()}
    cases = [named[name] for name in names]
    while True:
        try:
            source = pipe.recv()
        except (EOFError, OSError):
            return
        for message in _messages(source, cases):
            send(message)


def _messages(source: Source, cases: Sequence[Case]) -> Iterator[Message]:
    try:
        source.before()
        yield "begun", None
        for found in answers(source, cases):
            yield "found", sent(found)
        yield "done", None
    except (LoadError, Missing) as error:
        yield "cannot", type(error)(str(error))
    except GeneratorExit:
        raise
    except BaseException as error:
        yield "failed", said(error)


def sent(found: Any) -> Any:
    """Return what is light to send: the case is known where it goes, by its place in the order."""
    return replace(found, case=STAYS) if isinstance(found, Verdict) else found
