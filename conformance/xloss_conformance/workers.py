"""Worker processes: subjects are asked there, because a stranger's loss may hang, die or fork.

Subjects of one library share a process, to which a pipe leads, and a death can be named. It is
spawned, not forked, because JAX and PyTorch have threads and a child forked from them hangs. The
pipe is not trusted: a stranger may close it, or share it with a process that it forked.
"""

from __future__ import annotations

import logging
import os
import signal
import threading
import time
import traceback
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import suppress
from functools import partial
from math import inf
from multiprocessing import get_context, parent_process
from multiprocessing.connection import Connection, wait
from typing import Any, NamedTuple

from .model import LoadError, Missing

POSIX = os.name == "posix"
PIPE_LOST = 113  # exit code of a process whose pipe a stranger has closed: it can say no more
LOADING = 120.0  # seconds at least for starting Python and a library's import, on a busy machine
LOOK = 0.5  # seconds between two looks whether a process lives
KILLED = 10.0  # seconds in which a process that was killed is gone


class WorkerFailed(Exception):
    """A process died, or took too long, or something that no verdict can tell went wrong in it."""


# ---- In the worker -------------------------------------------------------------------------------


def _run(pipe: Connection, threads: int) -> None:
    """Run one task after another that comes through the pipe, and send what it yields."""
    fds = [pipe.fileno()]
    if POSIX:
        os.setsid()  # whatever it starts ends with its group; Ctrl-C reaches the parent alone
        fds = [fd for fd in map(int, os.listdir("/dev/fd")) if fd > 2 and _file(fd) is not None]
        os.register_at_fork(after_in_child=partial(_let_go, fds))
    threading.Thread(target=_end_with_parent, daemon=True).start()
    os.dup2(2, 1)  # stdout belongs to the report
    logging.getLogger("xloss").setLevel(logging.ERROR)  # kernels are compiled by the dozen
    for variable in ("OMP_NUM_THREADS", "MKL_NUM_THREADS"):  # read when a library is imported
        os.environ.setdefault(variable, str(threads))
    mine = _file(pipe.fileno())
    while True:
        for message in _messages(*pipe.recv()):
            # It is gone where a stranger forked and both processes came back: the child let it go.
            # Where one has closed all descriptors and opened a file, that may have the number of
            # the pipe, and would be written to.
            if _file(pipe.fileno()) != mine:
                os._exit(PIPE_LOST)
            pipe.send(message)


def _file(fd: int) -> tuple[int, int] | None:
    """Return which file a descriptor is of; None where it is closed."""
    try:
        found = os.fstat(fd)
    except OSError:
        return None
    return found.st_dev, found.st_ino


def _let_go(fds: Sequence[int]) -> None:
    """Hold no pipe in a process that a stranger forked: the worker's end could not be seen."""
    for fd in fds:
        with suppress(OSError):
            os.close(fd)


def _end_with_parent() -> None:
    """Leave when the parent is gone, be it killed: what hangs here would stay for ever."""
    parent = parent_process()
    assert parent is not None
    with suppress(OSError):
        wait([parent.sentinel])
        if POSIX:
            os.killpg(0, signal.SIGKILL)
        os._exit(1)


def _messages(function: Callable[..., Iterator[Any]], arguments: tuple[Any, ...]) -> Iterator[Any]:
    """Yield what a generator does, each in a list; in the end an empty one, or why it ended."""
    try:
        for message in function(*arguments):
            yield [message]
        yield []
    except (LoadError, Missing) as error:
        # One that the other side knows, made of text: it can surely be sent.
        yield (Missing if isinstance(error, Missing) else LoadError)(str(error))
    except BaseException as error:
        first = traceback.format_exception_only(error)[-1].strip()
        yield WorkerFailed(f"{first}\n{traceback.format_exc()}")


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
        spawn = get_context("spawn")
        self.pipe, theirs = spawn.Pipe()
        self.process = spawn.Process(target=_run, args=(theirs, threads))
        # Ctrl-C does not reach it: the parent, which it reaches, ends it.
        mask = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT}) if POSIX else ()
        self.process.start()
        if POSIX:
            signal.pthread_sigmask(signal.SIG_SETMASK, mask)
        theirs.close()

    def begin(self, task: Task) -> None:
        with suppress(OSError):  # it is gone: `receive` tells it
            self.pipe.send((task.function, task.arguments))
        self.heard = time.monotonic()  # when it was last given something, or last sent something
        self.begun = False  # whether a message has come of what it was given

    def receive(self, task: Task) -> list[Any] | None:
        """Return the next message in a list, an empty one at the end, or None: it is not there yet.

        LoadError and Missing are raised here; anything else, or nothing in time, is `WorkerFailed`.
        """
        if not self.pipe.poll():
            if not self.process.is_alive() and not self.pipe.poll():
                raise self._gone(task.at())
            limit = task.limit if self.begun else max(task.limit, LOADING)
            if time.monotonic() - self.heard > limit:
                late = f"the process {task.at()} gave no answer in {limit:g} s (--timeout)"
                raise WorkerFailed(late)
            return None
        try:
            found: list[Any] | Exception = self.pipe.recv()
        except (EOFError, OSError):
            raise self._gone(task.at()) from None
        if isinstance(found, WorkerFailed):
            raise WorkerFailed(f"{task.at()}: {found}")
        if isinstance(found, Exception):
            raise found
        self.heard, self.begun = time.monotonic(), True
        return found

    def _gone(self, at: str) -> WorkerFailed:
        until = time.monotonic() + KILLED
        while (code := self.process.exitcode) is None and time.monotonic() < until:
            time.sleep(0.01)
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
            wait([worker.pipe for worker in at], LOOK)
            for worker, place in list(at.items()):
                found = worker.receive(tasks[place])
                if found:
                    yield place, found[0]
                elif found is not None:
                    take_next(worker)
    finally:
        for worker in workers:
            worker.stop()
