"""What a run measures, as jobs: plan.toml says which calls, and who takes part in each."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Any

import xloss
from xloss_conformance.bench import cores

from . import tables
from .libraries import GPU, REHEARSAL
from .processes import BenchFailed, Job
from .tasks import Group
from .work import Work

Row = dict[str, Any]
TABLES = tables.load("plan")
OPS = tuple(dict.fromkeys(row["op"] for row in TABLES["host"]))
TINY_PACE = {"seconds": 0.01, "least": 3, "most": 5}
# On a GPU seven turns; fewer of who takes longer than two fifths of a second for a call.
GPU_PACE = {"seconds": 0.2, "least": 7, "most": 7}
SECONDS, QUICK_SECONDS = 290.0, 90.0  # of a run on a GPU, in all
# Without a gradient these are another contender's call.
GRADIENT_ONLY = ("xloss torch, closed form", "Quack, autograd")
AHEAD = ("xloss torch", "xloss torch, closed form")  # their kernels are CuPy's too


@dataclass(frozen=True)
class Plan:
    """What is asked; no ops ask for everything that is not on demand. `tiny` is for tests."""

    run: str = "host"
    ops: Sequence[str] = ()
    quick: bool = False
    tiny: bool = False

    def works(self, row: Row) -> list[Work]:
        """Return the calls of a row: all gradients of one shape, then the next."""
        mode = "tiny" if self.tiny else "quick" if self.quick else "shapes"
        found: list[list[int]] = row[mode] if mode in row else row["shapes"]
        of = row.get("dtype", "float32"), row.get("axis", -1), row.get("features", 0)
        return [Work(row["op"], tuple(s), g, *of) for s in found for g in row["gradient"]]

    def names(self, row: Row, work: Work) -> tuple[str, ...]:
        """Return who takes part in a call."""
        only = row.get("only", {})
        names = TABLES["who"][row["who"]]
        some = (n for n in names if work.gradient or n not in GRADIENT_ONLY)
        return tuple(n for n in some if n not in only or work.classes in only[n])

    def groups(self, row: Row, pace: dict[str, Any], **how: Any) -> list[Group]:
        """Return the calls of a row, by who takes part."""
        found = groupby(self.works(row), lambda work: self.names(row, work))
        return [Group(list(works), names, pace, **how) for names, works in found]


def jobs(plan: Plan) -> list[Job]:
    """Return what is to be done, in order; BenchFailed says what cannot be."""
    if plan.run == "replaced":
        return [Job("replaced:compared", {"tiny": plan.tiny}, cores())]
    return list(_on_gpu(plan) if plan.run == "gpu" else _on_host(plan))


# ---- The host -----------------------------------------------------------------------------------


def _on_host(plan: Plan) -> Iterator[Job]:
    threads, every = cores(), TABLES["host"]
    chosen = [r for r in every if r["op"] in plan.ops or not (plan.ops or "on_demand" in r)]
    groups: dict[int, list[Group]] = {}
    for row in (row for row in chosen if "alone" not in row):
        pace, section = TINY_PACE if plan.tiny else row["pace"], row.get("section", "works")
        for n in _powers(threads) if row["op"] == "threads" else [threads]:
            tag = {"threads": n} if row["op"] == "threads" else {}
            groups.setdefault(n, []).extend(plan.groups(row, pace, section=section, tag=tag))
    for n, some in sorted(groups.items(), key=lambda one: one[0] != threads):
        yield Job("tasks:times", {"groups": some}, n)
    for row in chosen:
        calls = plan.works(row)
        names = plan.names(row, calls[0])
        remembered = names if row.get("alone") == "memory" else row.get("remembered", ())
        for name in (name for name in names if name in remembered):
            asked = {"works": calls, "name": name, "trials": 3 if "alone" in row else 1}
            yield Job("tasks:memory", asked, threads)
        if row.get("alone") == "first":
            for name, caches in ((name, c) for name in names for c in ("empty", "filled")):
                first = {"work": calls[0], "name": name, "caches": caches}
                yield Job("tasks:first", first, threads, caches=name)
            yield Job("tasks:imports", {"rounds": 1 if plan.tiny else 5}, threads)


def _powers(threads: int) -> list[int]:
    return [n for n in (2**k for k in range(10)) if n < threads] + [threads]


# ---- A GPU --------------------------------------------------------------------------------------


def _on_gpu(plan: Plan) -> Iterator[Job]:
    """Give what is to be done; a rehearsal needs no GPU."""
    reason = xloss.engines()["cuda"]
    if reason is not None and not plan.tiny:
        raise BenchFailed(f"gpu: nothing is measured: {reason}")
    device = REHEARSAL if reason is not None else GPU
    seconds, began = QUICK_SECONDS if plan.quick else SECONDS, time.monotonic()
    if plan.tiny:  # a rehearsal may stand in a queue for a machine's cores
        seconds = float("inf")

    def job(task: str, share: float, **arguments: Any) -> Job:
        # A call that hangs is ended some seconds after its process should have been done.
        until = began + seconds * (share + 0.05)
        return Job(task, {"device": device, **arguments}, cores(), until=until)

    yield job("tasks:facts", 0.2)
    yield job("tasks:compile_ahead", 0.3, calls=first_calls(plan))
    for process, share in TABLES["processes"].items():
        rows = [row for row in TABLES["gpu"] if row["process"] == process]
        groups = [group for row in rows for group in plan.groups(row, GPU_PACE)]
        if groups:
            yield job("tasks:times", share, groups=groups, until=began + seconds * share)


def first_calls(plan: Plan) -> list[tuple[str, str, int]]:
    """Return whose first calls are made ahead, in which dtypes and classes.

    Quack, too, keeps on disk what it compiles.
    """
    found: dict[tuple[str, str, int], None] = {}
    for row in (r for r in TABLES["gpu"] if r["op"] in ("forward", "gradient")):
        for work in plan.works(row) if row["process"] != "jax" else ():
            quack = [n for n in plan.names(row, work) if n.startswith("Quack")]
            found |= {(name, work.dtype, work.classes): None for name in (*AHEAD, *quack)}
    # A contender after the other, so that who compiles the same kernel finds it.
    return sorted(found, key=lambda call: call[0], reverse=True)
