"""Worker processes: subjects are asked there, because a stranger's loss may hang, die or fork.

Each worker is a `ProcessPoolExecutor` of one process, so that those of one library share a process
and a death can be named. It is spawned, not forked, because JAX and PyTorch have threads and a
child forked from them hangs. What the executor does not do stands here: it cannot end a process
that ignores signals, it does not say how one died or what it was doing, and it trusts the pipe that
its results go through, which a stranger may close, or share with a process that it forked.
"""

from __future__ import annotations

import logging
import os
import signal
import stat
import threading
import time
import traceback
from collections import deque
from collections.abc import Callable, Generator, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import suppress
from itertools import islice
from math import inf
from multiprocessing import active_children, get_context, parent_process
from multiprocessing.connection import wait as wait_for_end
from typing import Any, NamedTuple

from .model import LoadError, Missing

POSIX = os.name == "posix"
PIPE_LOST = 113  # exit code of a process whose pipe a stranger has closed: it can say no more
LOADING = 120.0  # seconds at least for starting Python and a library's import, on a busy machine
LOOK = 0.5  # seconds between two looks whether a process lives
KILLED = 10.0  # seconds in which a process that was killed is gone
AHEAD = 2  # messages asked for at a time: while one is read the next is computed


class WorkerFailed(Exception):
    """A process died, or took too long, or something that no verdict can tell went wrong in it."""


# ---- In the worker -------------------------------------------------------------------------------

_messages: Iterator[Any] = iter(())  # what the worker is asked for, one after another
_pipes: dict[int, tuple[int, int]] = {}  # the pipes of the executor, by descriptor


def _begin(threads: int) -> None:
    """Prepare the process, before any stranger's code runs in it."""
    if POSIX:
        os.setsid()  # whatever it starts ends with its group; Ctrl-C reaches the parent alone
        os.register_at_fork(after_in_child=_let_go)
        found = {fd: _pipe(fd) for fd in map(int, os.listdir("/dev/fd")) if fd > 2}
        _pipes.update({fd: pipe for fd, pipe in found.items() if pipe is not None})
    # The executor terminates a process whose pipe is gone; `_next` leaves with a code that says so.
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    threading.Thread(target=_end_with_parent, daemon=True).start()
    os.dup2(2, 1)  # stdout belongs to the report
    logging.getLogger("xloss").setLevel(logging.ERROR)  # kernels are compiled by the dozen
    for variable in ("OMP_NUM_THREADS", "MKL_NUM_THREADS"):  # read when a library is imported
        os.environ.setdefault(variable, str(threads))


def _pipe(fd: int) -> tuple[int, int] | None:
    """Return which pipe a descriptor is of; None where it is closed, or of something else."""
    try:
        found = os.fstat(fd)
    except OSError:
        return None
    return (found.st_dev, found.st_ino) if stat.S_ISFIFO(found.st_mode) else None


def _let_go() -> None:
    """Hold no pipe in a process that a stranger forked: the worker's end could not be seen."""
    for fd in _pipes:
        with suppress(OSError):
            os.close(fd)


def _end_with_parent() -> None:
    """Leave when the parent is gone, be it killed: what hangs here would stay for ever."""
    parent = parent_process()
    assert parent is not None
    with suppress(OSError):
        wait_for_end([parent.sentinel])
        if POSIX:
            os.killpg(0, signal.SIGKILL)
        os._exit(1)


def _first(function: Callable[..., Iterator[Any]], arguments: tuple[Any, ...]) -> list[Any]:
    """Begin a generator, and return its first message as `_next` does."""
    global _messages
    _messages = function(*arguments)
    return _next()


def _next() -> list[Any]:
    """Return the next message in a list, or an empty one at the end."""
    me = os.getpid()
    try:
        return [*islice(_messages, 1)]
    except (LoadError, Missing) as error:
        # One that the other side knows, made of text: it can surely be sent.
        raise (Missing if isinstance(error, Missing) else LoadError)(str(error)) from None
    except BaseException as error:
        first = traceback.format_exception_only(error)[-1].strip()
        raise WorkerFailed(f"{first}\n{traceback.format_exc()}") from None
    finally:
        if os.getpid() != me:  # a stranger forked, and both processes came back
            os._exit(0)
        # Where a stranger has closed all descriptors and opened a file, that may have the number
        # of a pipe, and would be written to.
        if any(_pipe(fd) != pipe for fd, pipe in _pipes.items()):
            os._exit(PIPE_LOST)


# ---- In the parent -------------------------------------------------------------------------------


class Task(NamedTuple):
    """A generator that runs in a process: picklable, as all that it yields."""

    function: Callable[..., Iterator[Any]]
    arguments: tuple[Any, ...]
    at: Callable[[], str]  # says what it is doing
    limit: float = inf  # seconds that it may be silent
    library: str = ""  # those of one library share a process
    cost: int = 0  # the higher, the earlier it begins


class Worker:
    """A process that runs one task after another, and the messages that they yield."""

    def __init__(self, threads: int) -> None:
        self.asked: deque[Future[Any]] = deque()
        self.pool = ProcessPoolExecutor(1, get_context("spawn"), _begin, (threads,))
        before = set(active_children())
        # Ctrl-C does not reach it: the parent, which it reaches, ends it.
        mask = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT}) if POSIX else ()
        self.pool.submit(os.getpid)  # starts the process
        if POSIX:
            signal.pthread_sigmask(signal.SIG_SETMASK, mask)
        (self.process,) = set(active_children()) - before
        self.heard = time.monotonic()  # when it was last given something, or last sent something
        self.begun = False  # whether a message has come of what it was given

    def begin(self, task: Task) -> None:
        self.asked.clear()
        self._ask(_first, task.function, task.arguments)
        for _ in range(AHEAD - 1):
            self._ask(_next)
        self.heard, self.begun = time.monotonic(), False

    def _ask(self, call: Callable[..., Any], *arguments: Any) -> None:
        try:
            self.asked.append(self.pool.submit(call, *arguments))
        except BrokenProcessPool as error:  # `receive` tells it
            self.asked.append(Future())
            self.asked[-1].set_exception(error)

    def receive(self, task: Task) -> list[Any] | None:
        """Return the next message in a list, an empty one at the end, or None: it is not there yet.

        LoadError and Missing are raised here; anything else, or nothing in time, is `WorkerFailed`.
        """
        if not self.asked[0].done():
            if not self.process.is_alive() and not self.asked[0].done():
                raise self._gone(task.at())
            limit = task.limit if self.begun else max(task.limit, LOADING)
            if time.monotonic() - self.heard > limit:
                late = f"gave no answer in {limit:g} s (--timeout)"
                raise WorkerFailed(f"the process {task.at()} {late}")
            return None
        try:
            found: list[Any] = self.asked.popleft().result()
        except BrokenProcessPool:
            raise self._gone(task.at()) from None
        except WorkerFailed as error:
            raise WorkerFailed(f"{task.at()}: {error}") from None
        self.heard, self.begun = time.monotonic(), True
        if found:
            self._ask(_next)
        return found

    def _gone(self, at: str) -> WorkerFailed:
        until = time.monotonic() + KILLED
        while (code := self.process.exitcode) is None and time.monotonic() < until:
            time.sleep(0.01)  # a thread of the executor may be collecting it just now
        if code is None or code == PIPE_LOST:
            how = "it closed the pipe that its answers go through"
        else:
            how = signal.Signals(-code).name if code < 0 else f"exit code {code}"
        return WorkerFailed(f"the process {at} died: {how}")

    def stop(self) -> None:
        """End it and all that it started; it is not asked, for it may not listen."""
        if self.process.pid is not None and POSIX:
            with suppress(ProcessLookupError, PermissionError):
                os.killpg(self.process.pid, signal.SIGKILL)
        self.process.kill()  # too: it may not have come to be a group's leader
        self.process.join(KILLED)
        self.pool.shutdown(wait=False, cancel_futures=True)


def messages(tasks: Sequence[Task], jobs: int = 1) -> Generator[tuple[int, Any], None, None]:
    """Yield what the tasks send from `jobs` processes, each message with its task's place."""
    threads = max(1, (os.cpu_count() or 1) // jobs)
    left = list(range(len(tasks)))
    at: dict[Worker, int] = {}  # the place of the task that each is at
    workers: list[Worker] = []

    def take_next(worker: Worker) -> None:
        """Hand it a task: of its own library, else of one that nobody is at, else any."""
        own = tasks[at[worker]].library if worker in at else ""
        taken = {tasks[place].library for place in at.values()}
        at.pop(worker, None)
        if left:
            key = {i: (tasks[i].library != own, tasks[i].library in taken) for i in left}
            at[worker] = min(left, key=lambda i: (*key[i], -tasks[i].cost, i))
            left.remove(at[worker])
            worker.begin(tasks[at[worker]])

    try:
        workers += (Worker(threads) for _ in range(jobs))
        for worker in workers:
            take_next(worker)
        while at:
            wait([worker.asked[0] for worker in at], LOOK, FIRST_COMPLETED)
            for worker, place in list(at.items()):
                found = worker.receive(tasks[place])
                if found:
                    yield place, found[0]
                elif found is not None:
                    take_next(worker)
    finally:
        for worker in workers:
            worker.stop()
