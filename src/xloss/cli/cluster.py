"""Tasks of `xloss eval` on a Dask cluster, whose workers read the files themselves."""

from __future__ import annotations

import asyncio
import logging
import os
import sys
from collections.abc import Generator, Iterable, Iterator
from concurrent.futures import CancelledError
from contextlib import contextmanager, suppress
from dataclasses import replace
from typing import Any

from .inputs import Task
from .output import Failure, current_folder, fail, one_line
from .request import Request
from .run_task import TaskResult, TaskRunner

CONNECT_SECONDS = 5  # that a scheduler may take to answer
# That a cluster may be without a worker: one that scales by demand has none at first.
MAX_IDLE_SECONDS = 60


def on_workers(request: Request, tasks: Iterable[Task]) -> Generator[TaskResult]:
    """Yield what each task comes to, in their order, from the workers of `request.scheduler`."""
    address = str(request.scheduler)
    try:
        from distributed import Client
        from distributed.scheduler import KilledWorker
    except ModuleNotFoundError as error:
        fail(f'--scheduler: {error.name} is not installed: pip install "xloss[distributed]"')
    # What workers are sent has paths from the root.
    here, weight = current_folder(), request.weight
    request = replace(request, weight=None if weight is None else os.path.join(here, weight))
    jobs = [
        replace(t, logits=os.path.join(here, t.logits), targets=os.path.join(here, t.targets))
        for t in tasks
    ]
    with _without_logs():
        asyncio.run(_reach(address))
        connect: Any = Client  # whose functions have no types
        client = connect(address, timeout=CONNECT_SECONDS, set_as_default=False)
        try:
            client.wait_for_workers(1, timeout=MAX_IDLE_SECONDS)
            # With pure=True Dask would return its earlier result for a file of the same name.
            futures = client.map(on_worker, [request] * len(jobs), jobs, pure=False)
            for job, future in zip(jobs, futures, strict=True):
                try:
                    yield _result(client, future)
                except KilledWorker as error:
                    fail(f"--scheduler {address}: workers died at {job.logits}: {one_line(error)}")
        except (CancelledError, OSError) as error:  # what a lost connection, or a timeout, is
            fail(f"--scheduler {address}: was lost, or has no worker: {one_line(error)}")
        finally:
            with suppress(Exception):
                client.close(timeout=1)


def _result(client: Any, future: Any) -> TaskResult:
    """Wait for a task; TimeoutError if there is no worker any more that could do it."""
    while True:
        try:
            result: TaskResult = future.result(timeout=MAX_IDLE_SECONDS)
            return result
        except TimeoutError:
            if future.status == "error" or not client.nthreads():
                raise


def on_worker(request: Request, task: Task) -> TaskResult:
    """Run a task in this worker; a failure that the user has to see names the worker."""
    from distributed import get_worker

    try:
        return TaskRunner(request)(task)
    except Failure as error:
        raise Failure(f"{error} (on worker {get_worker().address})") from None


async def _reach(address: str) -> None:
    """Refuse an address without a scheduler: a client would go on trying it for a long time."""
    from distributed import Security
    from distributed.core import rpc

    try:
        arguments: Any = Security().get_connection_args("client")  # type: ignore[no-untyped-call]
        async with rpc(address, timeout=CONNECT_SECONDS, connection_args=arguments) as there:  # type: ignore[no-untyped-call]
            found = await asyncio.wait_for(there.identity(), CONNECT_SECONDS + 1)
        kind = found["type"]
    except Exception as error:  # the answer of some other server, unpacked as if it were Dask's
        fail(f"--scheduler {address}: no Dask scheduler answers: {one_line(error)}")
    if kind != "Scheduler":
        fail(f"--scheduler {address}: expected a scheduler's address, got that of a {kind}")


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
