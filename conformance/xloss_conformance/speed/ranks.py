"""What the processes of a run do with a process group: ranks of this machine, a thread each."""

from __future__ import annotations

import gc
import os
import socket
import threading
import time
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import timedelta
from importlib.util import find_spec
from multiprocessing import get_context
from multiprocessing.connection import Connection, wait
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from ..libraries import LIBRARIES
from .clock import FEW, Call, enough, once
from .contenders import contender
from .cuts import LIMIT
from .memory import peak
from .processes import end_with_parent, environment
from .tasks import Found, prepared, present, timed, told, why
from .work import Work

Job = Callable[..., Iterator[Found]]
SILENCE = 4 * LIMIT  # seconds after which the ranks are ended; a collective gives up before


class RankFailed(Exception):
    """A rank died, failed, or was silent for too long."""


def ranks_times(
    works: Sequence[Work], names: Sequence[str], threads: int, **pace: Any
) -> Iterator[Found]:
    """Time the contenders on each work, in turns; a call takes as long as its slowest rank."""
    yield from _in_groups(_times, works, names=names, **pace)


def ranks_memory(works: Sequence[Work], name: str, threads: int, trials: int) -> Iterator[Found]:
    """Read one contender's peak memory on each work, of all ranks together."""
    yield from _in_groups(_memory, works, name=name, trials=trials)


def _in_groups(job: Job, works: Sequence[Work], **arguments: Any) -> Iterator[Found]:
    """Do a job in a group for each number of ranks."""
    if not find_spec("torch"):
        yield "missing", f"torch: torch is not installed: {LIBRARIES['torch'][1]}"
        return
    for ranks in dict.fromkeys(work.processes for work in works):
        some = [work for work in works if work.processes == ranks]
        yield from _in_ranks(ranks, job, {"works": some, **arguments})


# ---- Starting and ending ------------------------------------------------------------------------


def _in_ranks(ranks: int, job: Job, arguments: dict[str, Any]) -> Iterator[Found]:
    """Do a job in so many processes, whose group it is; give what the first one tells."""
    context = get_context("spawn")
    loopback = next((name for _, name in socket.if_nameindex() if name.startswith("lo")), "lo")
    started: list[tuple[Any, Connection]] = []
    with TemporaryDirectory(prefix="xloss-bench-") as folder:
        try:
            with environment(1, more={"GLOO_SOCKET_IFNAME": loopback}):
                for rank in range(ranks):
                    ours, theirs = context.Pipe(duplex=False)
                    store = str(Path(folder) / "store")
                    process = context.Process(
                        target=serve, args=(theirs, rank, ranks, store, job, arguments)
                    )
                    process.start()
                    theirs.close()
                    started.append((process, ours))
            yield from _heard(started, SILENCE)
        finally:
            for process, pipe in started:
                process.kill()
                process.join()
                pipe.close()


def _heard(started: Sequence[tuple[Any, Connection]], silence: float) -> Iterator[Found]:
    """Give what the ranks tell until all are done; RankFailed says which is not, and how."""
    speaking: dict[Any, int] = {pipe: rank for rank, (_, pipe) in enumerate(started)}
    while speaking:
        heard: Any = wait(list(speaking), timeout=silence)
        if not heard:
            raise RankFailed(f"the ranks have been silent for {silence:g} s")
        for pipe in heard:
            rank = speaking[pipe]
            try:
                kind, found = pipe.recv()
            except (EOFError, ConnectionError):
                started[rank][0].join()
                code = started[rank][0].exitcode
                raise RankFailed(f"rank {rank} died: exit code {code}") from None
            if kind == "failed":
                raise RankFailed(f"rank {rank}: {found}")
            if kind == "done":
                del speaking[pipe]
            else:
                yield kind, found


def serve(
    pipe: Connection, rank: int, ranks: int, store: str, job: Job, arguments: Mapping[str, Any]
) -> None:
    """Join the group, do the job, and tell what came of it."""
    os.dup2(2, 1)  # stdout belongs to the report
    threading.Thread(target=end_with_parent, daemon=True).start()
    try:
        import torch
        import torch.distributed as dist

        torch.set_num_threads(1)
        dist.init_process_group(
            "gloo",
            init_method=f"file://{store}",
            rank=rank,
            world_size=ranks,
            timeout=timedelta(seconds=LIMIT),
        )
        for message in job(**arguments):
            if rank == 0:
                pipe.send(message)
        dist.destroy_process_group()
        pipe.send(("done", None))
    except BaseException as error:
        said = traceback.format_exception_only(error)[-1].strip()
        pipe.send(("failed", f"{said}\n{traceback.format_exc()}"))


# ---- What every rank does ------------------------------------------------------------------------


def _times(works: Sequence[Work], names: Sequence[str], **pace: Any) -> Iterator[Found]:
    from .by_ranks import shard

    who, missing = present(names)
    yield from missing
    yield "contenders", [told(one) for one in who]
    for work in works:
        given = shard(work)
        calls, refused = _everywhere(*prepared(who, work, given, 1))
        yield "result", timed(work, calls, refused, turns(calls, **pace), ())
        del given, calls


def _memory(works: Sequence[Work], name: str, trials: int) -> Iterator[Found]:
    from .by_ranks import shard

    one = contender(name)
    for work in works:
        given = shard(work)
        held, reason = 0, ""
        try:
            held = peak(one.prepare(work, given, 1), trials)
        except Exception as error:
            reason = why(error)
        parts = _gathered((held, reason))
        reasons = [reason for _, reason in parts if reason]
        total = None if reasons else sum(held for held, _ in parts)
        entry = {"contender": name, "peak_bytes": total, "reason": "".join(reasons[:1])}
        yield "result", {**work.told(), **entry}
        del given


def _gathered(mine: Any) -> list[Any]:
    """Return what each rank has."""
    import torch.distributed as dist

    parts: list[Any] = [None] * dist.get_world_size()
    dist.all_gather_object(parts, mine)
    return parts


def _everywhere(
    calls: dict[str, Call], refused: list[dict[str, str]]
) -> tuple[dict[str, Call], list[dict[str, str]]]:
    """Return the calls that every rank has, and of the others why one of them has not."""
    parts = _gathered(refused)
    reasons = {entry["contender"]: entry for part in parts for entry in part}
    kept = {name: call for name, call in calls.items() if name not in reasons}
    return kept, list(reasons.values())


def turns(
    calls: Mapping[str, Call], *, seconds: float, least: int, most: int
) -> dict[str, list[float]]:
    """Return the seconds of each call's runs, of each run those of the slowest rank.

    As `in_turns`, but that all ranks must run the same: how often is settled before.
    """
    runs: dict[str, int] = {}
    for name, call in calls.items():
        with call.within():
            once_everywhere(call)
            (estimate,) = _slowest([once_everywhere(call)])
        wanted = min(most, int(seconds / max(estimate, 1e-9)))
        runs[name] = max(wanted, enough(FEW * estimate, seconds, least))
    times: dict[str, list[float]] = {name: [] for name in calls}
    gc.collect()
    gc.disable()
    try:
        for turn in range(max(runs.values(), default=0)):
            for name, call in calls.items():
                if turn < runs[name]:
                    with call.within():
                        times[name].append(once_everywhere(call))
    finally:
        gc.enable()
    return {name: _slowest(taken) for name, taken in times.items()}


def once_everywhere(call: Call) -> float:
    """Return the seconds of one run that all ranks begin together."""
    import torch.distributed as dist

    call.before()
    dist.barrier()
    return once(call, time.perf_counter)


def _slowest(times: Sequence[float]) -> list[float]:
    return [max(parts) for parts in zip(*_gathered(times), strict=True)]


TASKS: dict[str, Any] = {"ranks_times": ranks_times, "ranks_memory": ranks_memory}
