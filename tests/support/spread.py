"""Ranks: real processes of gloo or of MPI, and devices of JAX, each told what it holds."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from contextlib import suppress
from pathlib import Path
from typing import Any

from fresh import PATIENCE

HERE = Path(__file__).parent
MPIEXEC = Path(sys.executable).parent / "mpiexec"


def sizes(ranks: int, classes: int) -> list[int]:
    """How many classes each rank holds: unequal, none where there are few."""
    if ranks == 1:
        return [classes]
    cut = [classes // 3] if ranks == 2 else [classes // 6, classes // 2]
    cut = [cut[0], 0, cut[1]] if ranks == 4 else cut
    return [*cut, classes - sum(cut)]


def part(ranks: int, rank: int, classes: int) -> slice:
    """Which classes a rank holds."""
    held = sizes(ranks, classes)
    return slice(sum(held[:rank]), sum(held[: rank + 1]))


class Ranks:
    """Processes that run one script of this folder."""

    def __init__(self, kind: str, ranks: int, script: str, *args: str) -> None:
        self.folder = tempfile.TemporaryDirectory()
        threads = dict.fromkeys(("OMP_NUM_THREADS", "XLOSS_NUM_THREADS"), "1")
        command = [sys.executable, "-W", "error", str(HERE / script), kind, *args]
        env = {**os.environ, **threads, "SPREAD_STORE": f"{self.folder.name}/store"}
        env["PYTHONPATH"] = os.pathsep.join([str(HERE), env.get("PYTHONPATH", "")])
        self.forked = ranks if kind == "gloo" else 0
        more = {}
        if kind == "gloo":
            command[3:4] = [str(HERE / "spread_forked.py"), self.folder.name, str(ranks), script]
        elif kind == "mpi":
            if not MPIEXEC.exists():
                import pytest

                self.folder.cleanup()  # left to the collector, it is a warning in a later test
                pytest.skip("no mpiexec beside this Python; the mpich wheel of the test extra")
            # -m mpi4py: a rank that raises takes the others with it, instead of leaving them wait.
            command[3:3] = ["-m", "mpi4py"]
            command = [str(MPIEXEC), "-n", str(ranks), *command]
        else:
            more = {"XLA_FLAGS": f"--xla_force_host_platform_device_count={ranks}"}
        self.process = subprocess.Popen(
            command,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env={**env, **more},
            cwd=HERE,
            start_new_session=True,
        )

    def said(self, timeout: float = 120) -> list[subprocess.CompletedProcess[str]]:
        """Return what each rank of gloo printed, or all of the others; none outlives this."""
        try:
            out, err = self.process.communicate(timeout=timeout * PATIENCE)
            ended = subprocess.CompletedProcess(
                self.process.args, self.process.returncode, out, err
            )
            if not self.forked or ended.returncode != 0:
                return [ended]
            return [
                subprocess.CompletedProcess(
                    ended.args, int(code), self.told("out", rank), self.told("err", rank)
                )
                for rank, code in enumerate(out.split())
            ]
        finally:
            with suppress(ProcessLookupError):
                os.killpg(self.process.pid, 9)
            self.process.communicate()
            self.folder.cleanup()

    def told(self, stream: str, rank: int) -> str:
        return (Path(self.folder.name) / f"{stream}-{rank}").read_text()


class Alone:
    """A group of one rank, which gives back what it gets."""

    rank, size = 0, 1

    def agree(self, facts: tuple[int, ...]) -> list[tuple[int, ...]]:
        return [facts]

    def maximum(self, x: Any) -> Any:
        return x

    total = maximum


def run(kind: str, ranks: int, script: str, *args: str, timeout: float = 120) -> list[str]:
    """Run a script on ranks, all of which must end well."""
    ended = Ranks(kind, ranks, script, *args).said(timeout)
    for one in ended:
        assert one.returncode == 0, one.stderr[-3000:]
    return [one.stdout for one in ended]


def group(kind: str, timeout: float = 60) -> Any:
    """Join the group, in a child: return it, this rank and their number."""
    if kind == "mpi":
        from mpi4py import MPI

        return MPI.COMM_WORLD, MPI.COMM_WORLD.rank, MPI.COMM_WORLD.size
    from datetime import timedelta

    import torch.distributed as dist

    rank, size = int(os.environ["SPREAD_RANK"]), int(os.environ["SPREAD_SIZE"])
    store = dist.FileStore(os.environ["SPREAD_STORE"], size)
    dist.init_process_group(
        "gloo", store=store, rank=rank, world_size=size, timeout=timedelta(seconds=timeout)
    )
    return dist.group.WORLD, rank, size


def leave(kind: str) -> None:
    """Leave the group, and end: gloo's threads abort, rarely, a process that ends by itself."""
    sys.stdout.flush()
    if kind == "gloo":
        import torch.distributed as dist

        dist.barrier()
        dist.destroy_process_group()
        os._exit(0)
