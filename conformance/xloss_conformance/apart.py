"""A process for what a stranger's code may do: hang, die, fork, close what it was given.

It is spawned, not forked: JAX and torch have threads, and a child forked from them hangs. It is the
leader of a process group of its own: whatever it starts ends with it.
"""

from __future__ import annotations

import logging
import os
import pickle
import signal
import threading
import time
import traceback
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from multiprocessing import get_context, parent_process
from multiprocessing.connection import Connection, wait
from typing import Any

POSIX = os.name == "posix"
CLOSED = 113  # exit code: it can say no more
START = (
    120.0  # seconds at least, until Python and a library are imported, on a machine that is busy
)
LOOK = 0.5  # seconds between two looks whether a process lives
KILLED = 10.0  # seconds in which a process that was killed is gone
Message = tuple[str, Any]
Send = Callable[[Message], None]


class WorkerFailed(Exception):
    """A process died, or took too long, or something that no verdict can tell went wrong in it."""


class Apart:
    """A process that calls `target(pipe, send, *arguments)`, and what it sends."""

    def __init__(self, target: Callable[..., None], *arguments: Any) -> None:
        context = get_context("spawn")
        self.pipe, theirs = context.Pipe()
        self.process = context.Process(target=_begin, args=(theirs, target, arguments), daemon=True)
        with _uninterrupted():
            self.process.start()
        theirs.close()
        self.heard = time.monotonic()  # when it was last given something, or last sent something

    def give(self, message: Any) -> None:
        """Send it what to do; one that is gone is found by `receive`."""
        self.heard = time.monotonic()
        with suppress(OSError):
            self.pipe.send(message)

    def receive(self, at: str) -> Message:
        """Return what it has sent; `at` says in an error what it was doing."""
        try:
            received: Message = self.pipe.recv()
        except (EOFError, OSError, pickle.UnpicklingError):
            raise self._gone(at) from None
        self.heard = time.monotonic()
        return received

    def check(self, limit: float, at: str) -> None:
        """Raise where it is gone, which a process that it forked can hide, or has taken too long.

        A long silence is one of the process only if nothing that it sent is waiting.
        """
        if self.pipe.poll():
            return
        if not self.process.is_alive():
            raise self._gone(at)
        if time.monotonic() - self.heard > limit:
            raise WorkerFailed(f"the process {at} gave no answer in {limit:g} s (--timeout)")

    def _gone(self, at: str) -> WorkerFailed:
        self.process.join(KILLED)
        code = self.process.exitcode
        if code is None or code == CLOSED:
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
        self.pipe.close()


def ready(processes: Iterable[Apart]) -> list[Apart]:
    """Return those that have sent something, or ended; wait a moment for the first."""
    by_pipe = {p.pipe: p for p in processes}
    return [by_pipe[pipe] for pipe in wait(list(by_pipe), LOOK)]  # type: ignore[index]


@contextmanager
def _uninterrupted() -> Iterator[None]:
    """Start a process that Ctrl-C does not reach: the parent, which it reaches, ends it."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


def _begin(pipe: Connection, target: Callable[..., None], arguments: tuple[Any, ...]) -> None:
    if POSIX:
        os.setsid()
    threading.Thread(target=_end_with_parent, daemon=True).start()
    os.dup2(2, 1)  # stdout belongs to the report
    logging.getLogger("xloss").setLevel(logging.ERROR)  # kernels are compiled by the dozen
    target(pipe, _sender(pipe), *arguments)


def _end_with_parent() -> None:
    """Leave when the parent is gone, be it killed: what hangs here would stay for ever."""
    parent = parent_process()
    assert parent is not None
    with suppress(OSError):
        wait([parent.sentinel])
        if POSIX:
            os.killpg(0, signal.SIGKILL)
        os._exit(1)


def _sender(pipe: Connection) -> Send:
    """Return what sends through a pipe, as long as it is that pipe, from this process alone.

    A stranger may fork and come back twice: two processes would then speak through one pipe. And
    where it has closed all descriptors and opened a file, that may have the number of the pipe.
    """
    me = os.getpid()

    def which() -> tuple[int, int]:
        found = os.fstat(pipe.fileno())
        return found.st_dev, found.st_ino

    own = which() if POSIX else None

    def send(message: Message) -> None:
        if os.getpid() != me:
            os._exit(0)
        with suppress(OSError):
            if own is None or which() == own:
                pipe.send(message)
                return
        os._exit(CLOSED)

    return send


# ---- One call ------------------------------------------------------------------------------------


def call(
    function: Callable[..., Any],
    at: str,
    timeout: float,
    refused: tuple[type[Exception], ...],
    progress: Callable[[int, int], None],
    *arguments: Any,
    **options: Any,
) -> Any:
    """Call `function(..., progress=)` in a process that may be silent for so many seconds.

    What it raises of the refused is raised here; anything else is a `WorkerFailed`.
    """
    process = Apart(_answer, function, refused, arguments, options)
    begun, done, total = False, 0, 0
    try:
        while True:
            where = f"comparing {at}" + (f", at case {done + 1} of {total}," if total else "")
            if not ready([process]):
                process.check(timeout if begun else max(timeout, START), where)
                continue
            kind, found = process.receive(where)
            begun = True
            if kind == "done":
                return found
            if kind == "refused":
                raise found
            if kind == "failed":
                raise WorkerFailed(f"{where}: {found}")
            if kind == "progress":
                done, total = found
                progress(done, total)
    finally:
        process.stop()


def _answer(
    pipe: Connection,
    send: Send,
    function: Callable[..., Any],
    refused: tuple[type[Exception], ...],
    arguments: tuple[Any, ...],
    options: dict[str, Any],
) -> None:
    def progress(done: int, total: int) -> None:
        send(("progress", (done, total)))

    try:
        send(("done", function(*arguments, progress=progress, **options)))
    except refused as error:
        send(("refused", _as_one_of(error, refused)))
    except BaseException as error:
        send(("failed", said(error)))


def _as_one_of(error: Exception, kinds: tuple[type[Exception], ...]) -> Exception:
    """Return an error that surely can be sent: of a kind that the other side knows."""
    kind = next(kind for kind in kinds if isinstance(error, kind))
    return kind(str(error))


def said(error: BaseException) -> str:
    """Return what an error says in its first line, and its traceback in those after it."""
    first = traceback.format_exception_only(error)[-1].strip()
    return f"{first}\n{traceback.format_exc()}"
