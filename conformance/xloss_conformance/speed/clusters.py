"""What the processes of a run do with Dask: on its threads, or on a cluster of this machine."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from tempfile import TemporaryDirectory
from typing import Any

from ..model import Missing
from .clock import Call, in_turns
from .contenders import contender
from .cuts import LIMIT
from .memory import held_most, held_now, peak
from .tasks import Found, prepared, present, timed, told, why
from .work import Data, Work


def dask_times(
    works: Sequence[Work],
    names: Sequence[str],
    threads: int,
    *,
    seconds: float,
    least: int,
    most: int,
) -> Iterator[Found]:
    """Time the contenders on each work, in turns; the inputs are in memory before."""
    who, missing = present(names)
    yield from missing
    yield "contenders", [told(one) for one in who]
    for workers, some in _by_workers(works):
        with _scheduler(workers, threads):
            for work, given in _with_inputs(some):
                calls, refused = prepared(who, work, given, threads)
                taken = in_turns(calls, seconds=seconds, least=least, most=most)
                yield "result", timed(work, calls, refused, taken, ())
                del calls


def dask_memory(works: Sequence[Work], name: str, threads: int, trials: int) -> Iterator[Found]:
    """Read one contender's peak memory on each work: of this process, or of all workers."""
    try:
        one = contender(name)
    except Missing as missing:
        yield "missing", str(missing)
        return
    for workers, some in _by_workers(works):
        with _scheduler(workers, threads) as client:
            for work, given in _with_inputs(some):
                found = {**work.told(), "contender": name, "peak_bytes": None, "reason": ""}
                try:
                    call = one.prepare(work, given, threads)
                    found["peak_bytes"] = _peak(call, client) if client else peak(call, trials)
                    del call
                except Exception as reason:
                    found["reason"] = why(reason)
                yield "result", found


def _peak(call: Call, client: Any) -> int:
    """Return the most that the workers held beyond what there was before, added up."""
    call.before()
    call.run()
    call.before()
    held = client.run(held_now)
    got = call.run()
    most = client.run(held_most)
    del got
    return sum(max(0, most[worker] - held[worker]) for worker in held)


def _by_workers(works: Sequence[Work]) -> Iterator[tuple[int, list[Work]]]:
    for workers in dict.fromkeys(work.processes for work in works):
        yield workers, [work for work in works if work.processes == workers]


def _with_inputs(works: Sequence[Work]) -> Iterator[tuple[Work, Data]]:
    """Give each work with its arguments, which are drawn once for those of the same chunks."""
    for chunks in dict.fromkeys(work.chunks for work in works):
        some = [work for work in works if work.chunks == chunks]
        given = _held(some[0])
        yield from ((work, given) for work in some)
        del given


def _held(work: Work) -> Data:
    """Return the arguments, computed: their chunks stay where the scheduler put them."""
    import dask

    from .by_dask import arrays, wait

    made = dask.persist(*arrays(work))  # type: ignore[attr-defined,no-untyped-call]
    if work.processes:
        wait(made)
    return Data(*made)


@contextmanager
def _scheduler(workers: int, threads: int) -> Iterator[Any]:
    """Compute on threads of this process (give None), or on so many workers (give the client)."""
    import dask

    if not workers:
        with dask.config.set(scheduler="threads", num_workers=threads):
            yield None
        return
    import distributed

    with (
        TemporaryDirectory(prefix="xloss-bench-") as folder,
        dask.config.set({"distributed.comm.timeouts.connect": LIMIT}),
        distributed.LocalCluster(  # type: ignore[no-untyped-call]
            n_workers=workers,
            threads_per_worker=1,
            processes=True,
            host="127.0.0.1",
            dashboard_address="127.0.0.1:0",
            memory_limit=0,
            local_directory=folder,
            silence_logs=logging.CRITICAL,
        ) as cluster,
        distributed.Client(cluster, timeout=LIMIT) as client,  # type: ignore[no-untyped-call]
    ):
        yield client


TASKS: dict[str, Any] = {"dask_times": dask_times, "dask_memory": dask_memory}
