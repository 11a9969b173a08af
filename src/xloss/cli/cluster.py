"""Tasks of `xloss eval` on a Dask cluster, whose workers read the files themselves."""

from __future__ import annotations

import asyncio
import logging
import os
import sys
import time
from collections.abc import Callable, Generator, Iterable, Iterator
from concurrent.futures import CancelledError
from contextlib import contextmanager, suppress
from dataclasses import asdict, replace
from typing import Any, NoReturn

from .. import __version__
from .inputs import Task
from .output import current_folder, fail, one_line
from .request import Request
from .run_task import TaskResult

CONNECT_SECONDS = 5  # that a scheduler may take to answer
# Without a worker; a cluster that scales by demand has none at first.
MAX_IDLE_SECONDS = 60
POLL_SECONDS = 2  # between two looks at how many workers there are


def on_workers(request: Request, tasks: Iterable[Task]) -> Generator[TaskResult]:
    """Yield what each task comes to, in their order, from the workers of `request.scheduler`."""
    address = str(request.scheduler)
    try:
        import distributed

        connect: Any = distributed.Client
    except ModuleNotFoundError as error:
        fail(f'--scheduler: {error.name} is not installed: pip install "xloss[distributed]"')
    jobs = [_job(request, task) for task in tasks]
    with _without_logs():
        _reach(address)
        try:
            client = connect(address, timeout=CONNECT_SECONDS, set_as_default=False)
        except (OSError, TimeoutError) as error:
            _lost(address, error)
        try:
            # With pure=True Dask would return its earlier result for a file of the same name.
            for job, future in zip(jobs, client.map(_task(), jobs, pure=False), strict=True):
                yield _checked(address, _result(client, address, job, future))
        finally:
            with suppress(Exception):
                client.close(timeout=POLL_SECONDS)


def _reach(address: str) -> None:
    """Refuse an address without a scheduler: a client would go on trying it for a long time."""
    from distributed import Security
    from distributed.core import rpc

    async def kind() -> str:
        arguments: Any = Security().get_connection_args("client")  # type: ignore[no-untyped-call]
        async with rpc(address, timeout=CONNECT_SECONDS, connection_args=arguments) as there:  # type: ignore[no-untyped-call]
            return str((await there.identity())["type"])

    try:
        found = asyncio.run(asyncio.wait_for(kind(), CONNECT_SECONDS + 1))
    except TimeoutError:
        fail(f"--scheduler {address}: cannot be reached: no answer in {CONNECT_SECONDS} seconds")
    except (OSError, ValueError) as error:
        fail(f"--scheduler {address}: cannot be reached: {one_line(error)}")
    except Exception as error:  # the answer of some other server, unpacked as if it were Dask's
        fail(f"--scheduler {address}: does not talk as a Dask scheduler does: {one_line(error)}")
    if found != "Scheduler":
        fail(f"--scheduler {address}: expected a scheduler's address, got that of a {found}")


def _job(request: Request, task: Task) -> dict[str, Any]:
    """Return what a worker is sent: plain values, and paths from the root."""
    here = current_folder()
    logits, targets = (os.path.join(here, name) for name in (task.logits, task.targets))
    weight = None if request.weight is None else os.path.join(here, request.weight)
    return {
        "request": asdict(replace(request, weight=weight)),
        "task": asdict(replace(task, logits=logits, targets=targets)),
    }


def _task() -> Callable[[dict[str, Any]], TaskResult]:
    def task(job: dict[str, Any]) -> TaskResult:
        # A nested function is pickled by value, so that the scheduler, which unpickles it as well,
        # does not need xloss.
        from importlib import import_module

        from distributed import get_worker

        worker = {"worker": get_worker().address}
        try:
            module: Any = import_module("xloss.cli.run_task")
        except ImportError as error:
            return {"problem": f"xloss cannot be imported: {error}", **worker}
        return {**module.run_task(job), **worker}

    return task


def _result(client: Any, address: str, job: dict[str, Any], future: Any) -> TaskResult:
    """Wait for a task, and fail with one line if it cannot end."""
    from distributed.scheduler import KilledWorker

    seen = time.monotonic()
    try:
        while True:
            try:
                answer: TaskResult = future.result(timeout=POLL_SECONDS)
                return answer
            except TimeoutError:
                if future.status == "error":
                    raise
                if client.nthreads(callback_timeout=MAX_IDLE_SECONDS):
                    seen = time.monotonic()
                elif time.monotonic() - seen > MAX_IDLE_SECONDS:
                    fail(f"--scheduler {address}: has had no worker for {MAX_IDLE_SECONDS} seconds")
    except KilledWorker as error:
        fail(
            f"--scheduler {address}: {error.allowed_failures + 1} workers died at "
            f"{job['task']['logits']}, the last of them {error.last_worker.address}"
        )
    except CancelledError as error:
        _lost(address, error)
    except (OSError, TimeoutError) as error:
        if future.status == "error":  # the task itself raised it
            raise
        _lost(address, error)


def _lost(address: str, error: BaseException) -> NoReturn:
    fail(f"--scheduler {address}: was lost before it was done: {one_line(error)}")


def _checked(address: str, answer: TaskResult) -> TaskResult:
    if "problem" in answer:
        fail(f"{answer['problem']} (on worker {answer['worker']})")
    if answer["xloss"] != __version__:
        fail(
            f"--scheduler {address}: worker {answer['worker']} has xloss {answer['xloss']}, "
            f"and this is {__version__}"
        )
    return answer


@contextmanager
def _without_logs() -> Iterator[None]:
    """Keep Dask's log of a lost connection off stderr, where one line says it already."""
    before = logging.root.manager.disable
    if not sys.flags.dev_mode:
        logging.disable()
    try:
        yield
    finally:
        logging.disable(before)
