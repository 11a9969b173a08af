"""Ranks: real processes of gloo or of MPI, and devices of JAX, each told what it holds."""

from __future__ import annotations

import os
import pickle
import signal
import subprocess
import sys
import time
import traceback
from collections.abc import Callable
from datetime import timedelta
from multiprocessing import get_context
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest

from fresh import PATIENCE

MPIEXEC = Path(sys.executable).parent / "mpiexec"
GROUP: list[Any] = []  # in a rank: its group, its number and how many they are


# All classes divided by this come before the second rank, the third and the fourth: the ranks have
# unequal numbers, and one of four has none.
ENDS = {1: (), 2: (3,), 3: (6, 1.5), 4: (6, 6, 1.5)}


def part(ranks: int, rank: int, classes: int) -> slice:
    """Which classes a rank holds."""
    ends = [0, *(int(classes // share) for share in ENDS[ranks]), classes]
    return slice(ends[rank], ends[rank + 1])


class Alone:
    """A group of one rank, which gives back what it gets."""

    rank, size = 0, 1

    def agree(self, facts: tuple[int, ...]) -> list[tuple[int, ...]]:
        return [facts]

    def maximum(self, x: Any) -> Any:
        return x

    total = maximum


def ended(
    kind: str,
    ranks: int,
    function: Callable[..., Any],
    *args: Any,
    timeout: float = 120,
    answer: tuple[int, ...] | None = None,
) -> list[Any]:
    """Run a function on ranks; return what it returns on each, on those alone that have to answer.

    No process outlives this. What a rank raises is raised here; of one that dies EOFError is
    returned. `function` is a module's, for it is found by its name there.
    """
    with TemporaryDirectory() as folder:
        if kind == "mpi":
            return _by_mpi(ranks, folder, (function, args), timeout * PATIENCE)
        # One process has imported the libraries, which takes longer than what most ranks do, and
        # the ranks are its forks.
        context: Any = get_context("forkserver")
        context.set_forkserver_preload(["torch", "jax", "xloss.backends.torch.process_group"])
        children, pipes = [], []
        for rank in range(1 if kind == "jax" else ranks):
            ours, theirs = context.Pipe()
            given = theirs, kind, rank, ranks, f"{folder}/store", function, args
            children.append(context.Process(target=_child, args=given, daemon=True))
            children[-1].start()
            theirs.close()
            pipes.append(ours)
        late = time.monotonic() + timeout * PATIENCE
        try:
            asked = pipes if answer is None else [pipes[rank] for rank in answer]
            return [_answer(pipe, late) for pipe in asked]
        finally:
            for child in children:
                child.kill()
                child.join()


def _answer(pipe: Any, late: float) -> Any:
    assert pipe.poll(max(0.0, late - time.monotonic())), "a rank does not answer"
    try:
        well, said = pipe.recv()
    except EOFError:
        return EOFError
    assert well, said
    return said


def _child(pipe, kind, rank, ranks, store, function, args) -> None:
    """Be that rank: answer, and wait to be killed, for gloo's threads may abort one that ends."""
    import warnings

    warnings.simplefilter("error")
    try:
        os.environ["XLOSS_NUM_THREADS"] = "1"
        if kind == "jax":
            os.environ["XLA_FLAGS"] = f"--xla_force_host_platform_device_count={ranks}"
        else:
            import torch
            import torch.distributed as dist

            torch.set_num_threads(1)
            files = dist.FileStore(store, ranks)
            limit = timedelta(seconds=60 * PATIENCE)
            dist.init_process_group("gloo", store=files, rank=rank, world_size=ranks, timeout=limit)
            GROUP[:] = dist.group.WORLD, rank, ranks
        answer = True, function(*args)
    except BaseException:  # the test that asked raises it; an exit too would be a rank that died
        answer = False, traceback.format_exc()
    pipe.send(answer)
    signal.pause()


def _by_mpi(ranks: int, folder: str, call: tuple[Any, ...], timeout: float) -> list[Any]:
    if not MPIEXEC.exists():
        pytest.skip("no mpiexec beside this Python; the mpich wheel of the test extra")
    Path(folder, "call").write_bytes(pickle.dumps(call))
    # -m mpi4py: a rank that raises takes the others with it, instead of leaving them wait.
    code = "import sys, spread; spread.on_mpi(sys.argv[1])"
    python = [sys.executable, "-W", "error", "-m", "mpi4py", "-c", code, folder]
    process = subprocess.Popen(
        [MPIEXEC, "-n", str(ranks), *python],
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1", "XLOSS_NUM_THREADS": "1"},
        cwd=Path(__file__).parent,
        start_new_session=True,
    )
    try:
        _, err = process.communicate(timeout=timeout)
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
            process.communicate()
    assert process.returncode == 0, err[-3000:]
    return [pickle.loads(Path(folder, str(rank)).read_bytes()) for rank in range(ranks)]


def on_mpi(folder: str) -> None:
    """Be a rank of MPI."""
    from mpi4py import MPI

    world = MPI.COMM_WORLD
    GROUP[:] = world, world.rank, world.size
    function, args = pickle.loads(Path(folder, "call").read_bytes())
    said = pickle.dumps(function(*args))
    world.Barrier()
    Path(folder, str(world.rank)).write_bytes(said)


def run(kind: str, ranks: int, function: Callable[..., Any], *args: Any, **how: Any) -> list[Any]:
    """Return what a function returns on each rank, all of which must end well."""
    said = ended(kind, ranks, function, *args, **how)
    assert EOFError not in said, f"a rank has died: {said}"
    return said
