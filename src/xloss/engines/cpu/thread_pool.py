"""The library's own threads, which run the blocks of a call beside the calling thread.

No lock is waited for: a call whose helpers are busy or cannot be started does all the work itself.
What the threads share is made anew in a forked child, where the parent's threads do not exist.
"""

from __future__ import annotations

import os
import re
import threading
from collections.abc import Callable
from queue import SimpleQueue

__all__ = ["run", "threads"]

Task = Callable[[int], None]
# How many threads a library uses itself: entered by its backend, which is then in use.
LIMITS: dict[str, Callable[[], int]] = {}


def threads() -> int:
    """Return how many threads a call may use: XLOSS_NUM_THREADS, else the CPUs of this process.

    Without XLOSS_NUM_THREADS they are no more than OMP_NUM_THREADS says, and than a library uses
    whose tensors have been in a call: on the same CPUs more would be in the way of its own.
    """
    setting = os.environ.get("XLOSS_NUM_THREADS")
    if setting:
        if not re.fullmatch(r"[ \t]*0*[1-9][0-9]{0,8}[ \t]*", setting):
            raise ValueError(f"XLOSS_NUM_THREADS: expected a positive integer, got {setting!r}")
        return int(setting)
    # A list has a number for each level of nested loops. What is not a positive integer OpenMP
    # ignores, too.
    others = re.match(r"\s*0*([1-9]\d{0,8})\s*(,|$)", os.environ.get("OMP_NUM_THREADS", ""))
    most = int(others[1]) if others else _cpus()
    return min(_cpus(), most, *(limit() for limit in LIMITS.values()))


def _cpus() -> int:
    if hasattr(os, "process_cpu_count"):
        return os.process_cpu_count() or 1
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0)) or 1
    return os.cpu_count() or 1


def run(task: Task, count: int) -> None:
    """Call ``task(0)`` to ``task(count - 1)``, each once, on as many threads as `threads` says.

    After an exception no further task is started, and it is raised here once the tasks that were
    running have ended; after an interrupt between two tasks it may be raised before.
    """
    helpers = min(count, threads()) - 1
    if helpers <= 0:
        for i in range(count):
            task(i)
        return
    job, pool = _Job(task, count), _pool()
    try:
        pool.help_with(job, helpers)
        job.work()
        for _ in job.entered:  # which may grow meanwhile
            job.left.get()
    finally:
        job.todo.clear()
        if job in pool.jobs:
            pool.jobs.remove(job)
        job.task = None  # a helper that comes late must not keep the call's arrays alive
    if job.errors:
        first = job.errors[0]
        job.errors.clear()
        try:
            raise first
        finally:
            # The traceback refers to this frame: without this the exception keeps all arrays alive.
            del first


class _Job:
    """One call of `run`."""

    def __init__(self, task: Task, count: int) -> None:
        self.task: Task | None = task
        self.todo = list(range(count - 1, -1, -1))  # list.pop is atomic: each task is taken once
        self.errors: list[BaseException] = []
        # Each item a helper; it enters before it takes a task, so that `run` waits for its end.
        self.entered: list[None] = []
        self.left: SimpleQueue[None] = SimpleQueue()

    def work(self) -> None:
        """Run tasks until none is left."""
        task, todo = self.task, self.todo
        while todo and task is not None:
            try:
                i = todo.pop()
            except IndexError:
                return
            try:
                task(i)
            except BaseException as error:
                self.errors.append(error)
                todo.clear()


class _Pool:
    """The helpers of one process."""

    def __init__(self) -> None:
        self.process = os.getpid()
        self.jobs: list[_Job] = []
        # Each item wakes one helper, which looks at all jobs. A helper that is too late for one
        # call serves the next, so that no more items are needed than there are helpers.
        self.calls: SimpleQueue[None] = SimpleQueue()
        self.started = 0
        self.starting = threading.Lock()

    def help_with(self, job: _Job, helpers: int) -> None:
        """Wake at most `helpers` threads for a job; start some where there are too few."""
        if self.started < helpers and self.starting.acquire(blocking=False):
            try:
                while self.started < helpers:
                    threading.Thread(target=self._serve, name="xloss", daemon=True).start()
                    self.started += 1
            except RuntimeError:  # no more threads here, or the interpreter is shutting down
                pass
            finally:
                self.starting.release()
        self.jobs.append(job)
        for _ in range(min(helpers, self.started - self.calls.qsize())):
            self.calls.put(None)

    def _serve(self) -> None:
        while True:
            self.calls.get()
            for job in tuple(self.jobs):
                if job.todo:
                    job.entered.append(None)
                    job.work()
                    job.left.put(None)


_current = _Pool()


def _pool() -> _Pool:
    """Return this process's helpers; the process id tells a child, however it was forked."""
    global _current
    if _current.process != os.getpid():
        _current = _Pool()
    return _current
