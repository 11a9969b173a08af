"""What a run measures: shapes, contenders and how long each has; from names to steps."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from . import cuts, gpu
from .contenders import LINEAR, PEERS, XLOSS
from .work import Work

OPS = (
    "forward",
    "gradient",
    "segmentation",
    "bfloat16",
    "small",
    "linear",
    "linear-large",
    "classes",
    "rows",
    "threads",
    "memory",
    "first-call",
    "dask",
    "vocab-parallel",
    gpu.OP,
)
ON_DEMAND = ("linear-large", *cuts.OPS, gpu.OP)  # takes minutes
QUICK_OPS = ("forward", "gradient", "small", "memory")
QUICK_PEERS = ("torch", "optax")
SHAPES = ((65536, 10), (8192, 1000), (2048, 32000), (512, 128256))
SEGMENTATION = (8, 21, 512, 512)
LINEAR_SHAPE = (512, 32000, 256)  # rows, classes, features
LINEAR_LARGE = (4096, 128256, 1024)
CLASSES = (10, 100, 1000, 32000, 128256)
ROWS = (16, 256, 4096, 65536)  # of 1,000 classes
ELEMENTS = 2**24  # of each point of "classes" and of "memory"


class BadPlan(ValueError):
    """What was asked for cannot be measured; the message says why in one line."""


@dataclass(frozen=True)
class Plan:
    """What is asked, as names; the empty ones ask for everything. `tiny` is for tests."""

    quick: bool = False
    ops: Sequence[str] = ()
    peers: Sequence[str] = ()
    threads: int = 0
    tiny: bool = False


@dataclass(frozen=True)
class Step:
    """What a process does: a task of `tasks`, its arguments, and how many results it gives."""

    section: str  # of the record
    task: str
    arguments: dict[str, Any]
    threads: int
    results: int = 1
    alone: bool = False  # in a process of its own
    caches: str = ""  # name of the folder, empty at first, that compilers keep their results in
    tag: dict[str, Any] = field(default_factory=dict)  # goes into each result
    until: float = float("inf")  # by time.monotonic: a process that still measures then is ended


def available() -> int:
    """Return the number of cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def among(what: str, names: Sequence[str], known: Sequence[str]) -> None:
    for name in names:
        if name not in known:
            raise BadPlan(
                f"{what} {name}: there is none of that name; expected one of {', '.join(known)}"
            )


def chosen(plan: Plan) -> tuple[tuple[str, ...], tuple[str, ...], int]:
    """Return the operations, the peers and the threads of a plan; BadPlan says what is wrong."""
    among("--op", plan.ops, OPS)
    known: tuple[str, ...] = (*PEERS, *gpu.PEERS)
    among("--peer", plan.peers, known)
    threads = plan.threads or available()
    if threads > available():
        raise BadPlan(f"--threads {threads}: this machine has {available()} cores to use")
    default = QUICK_OPS if plan.quick else tuple(o for o in OPS if o not in ON_DEMAND)
    peers = plan.peers or (*(QUICK_PEERS if plan.quick else PEERS), *gpu.PEERS)
    ops = tuple(o for o in OPS if o in (plan.ops or default))
    if gpu.OP not in ops:
        known = PEERS
    return (
        ops,
        tuple(p for p in known if p in peers),
        threads,
    )


def works(op: str, plan: Plan) -> list[Work]:
    """Return the calls that an operation times."""
    shapes = tuple((max(1, n // 1024), min(c, 50)) for n, c in SHAPES) if plan.tiny else SHAPES
    elements = 2**12 if plan.tiny else ELEMENTS
    if plan.quick:
        shapes = shapes[:3]
    both = (False, True)
    if op in cuts.OPS:
        return cuts.works(op, plan.tiny)
    if op in ("forward", "gradient"):
        return [Work(op, shape, op == "gradient") for shape in dict.fromkeys(shapes)]
    if op == "segmentation":
        shape: tuple[int, ...] = (2, 3, 4, 4) if plan.tiny else SEGMENTATION
        return [Work(op, shape, gradient, axis=1) for gradient in both]
    if op == "bfloat16":
        return [Work(op, shapes[-1], gradient, "bfloat16") for gradient in both]
    if op == "small":
        return [Work(op, (32, 10), gradient) for gradient in both]
    if op in ("linear", "linear-large"):
        rows, classes, features = LINEAR_SHAPE if op == "linear" else LINEAR_LARGE
        if plan.tiny:
            rows, classes, features = 8, 50, 4
        return [Work(op, (rows, classes), True, features=features)]
    if op == "rows":
        rows_of = (4, 16) if plan.tiny else ROWS
        return [Work(op, (n, 1000), gradient) for n in rows_of for gradient in both]
    if op == "threads":
        return [Work(op, shape, gradient) for shape in shapes[2:3] for gradient in both]
    classes_of: Sequence[int] = CLASSES
    if op == "memory":
        classes_of = (1000,) if plan.quick else (10, 1000, 128256)
    if plan.tiny:
        classes_of = (10, 50)
    return [Work(op, (elements // c, c), gradient) for c in classes_of for gradient in both]


def names(op: str, plan: Plan, peers: Sequence[str]) -> tuple[str, ...]:
    """Return who takes part in an operation: xloss always, and the peers that are asked for."""
    ours: tuple[str, ...] = tuple(XLOSS)
    if op in ("classes", "rows", "threads"):
        ours = ("xloss numpy",)
        peers = [p for p in peers if p in ("torch", "torch.compile", "optax")]
        if op != "classes":  # every shape costs it seconds of compiling
            peers = [p for p in peers if p != "torch.compile"]
    elif op == "memory":
        ours = ("xloss numpy", "xloss torch")
        peers = [] if plan.quick else [p for p in peers if p not in ("keras", "sklearn")]
    elif op == "first-call":
        ours = ("xloss numpy",)
        peers = [p for p in peers if p in ("torch.compile", "optax")]
    elif plan.quick:
        ours = ("xloss numpy", "xloss torch", "xloss torch, closed form")
    elif op.startswith("linear"):
        ours = ("xloss numpy", "xloss torch", "xloss torch, closed form", "xloss jax")
        own = LINEAR if "torch" in peers else ()
        return (*ours, *own, *(p for p in peers if p in ("torch", "torch.compile", "optax")))
    elif op == "bfloat16":
        ours = ("xloss torch", "xloss torch, closed form")
    elif op in ("gradient", "segmentation"):  # where PyTorch's operations one by one take seconds
        ours = tuple(name for name in XLOSS if name != "xloss torch, generic")
    return (*ours, *peers)


def steps(plan: Plan) -> list[Step]:
    """Return what is to be done, in order."""
    ops, peers, threads = chosen(plan)
    found: list[Step] = []
    long: dict[str, Any] = {"seconds": 0.3, "least": 5, "most": 200}
    short: dict[str, Any] = {"seconds": 0.15, "least": 5, "most": 100}
    if plan.quick:
        long = short = {"seconds": 0.15, "least": 3, "most": 50}
    if plan.tiny:
        long = short = {"seconds": 0.01, "least": 3, "most": 5}
    if gpu.OP in ops:
        found += [Step(**one) for one in gpu.steps(plan.quick, plan.tiny, peers, threads)]
    peers = tuple(name for name in peers if name in PEERS)
    for op in ops:
        if op == gpu.OP:
            continue
        given = [] if op == "first-call" else works(op, plan)
        if op == "memory":
            found += _memory(given, names(op, plan, peers), threads, 3)
            continue
        if op == "first-call":
            found += _first(plan, names(op, plan, peers), threads)
            continue
        if op in cuts.OPS:
            found += _at_scale(op, given, threads, short if plan.tiny else cuts.PACE)
            continue
        pace = short if op in ("classes", "rows", "threads") else long
        if op == "small":
            pace = {**pace, "most": 10 if plan.tiny else 20000}
        if op == "linear" and not plan.tiny:
            pace = {**pace, "least": 3, "seconds": 0.5}
        if op == "linear-large":
            pace = {**pace, "least": 3, "seconds": 25.0}
        section = f"by_{op}" if op in ("classes", "rows", "threads") else "works"
        for cores in _powers(threads) if op == "threads" else (threads,):
            tag = {"threads": cores} if op == "threads" else {}
            for some, who in _parts(op, given, names(op, plan, peers)):
                arguments = {"works": some, "names": who, **pace}
                found.append(Step(section, "times", arguments, cores, len(some), tag=tag))
        if op.startswith("linear"):
            absent = ("xloss jax", "torch.compile", "optax")
            measured = [n for n in names(op, plan, peers) if n not in absent]
            found += _memory(given, measured, threads, 1)
    return found


def _parts(
    op: str, given: list[Work], who: tuple[str, ...]
) -> Iterator[tuple[list[Work], tuple[str, ...]]]:
    """Yield the works that the same contenders take part in."""
    if op != "classes":
        yield given, who
        return
    yield [work for work in given if not work.gradient], who
    # torch.compile takes ten seconds for every backward, of shapes that "gradient" has too.
    fewer = tuple(name for name in who if name != "torch.compile")
    yield [work for work in given if work.gradient], fewer


def _powers(threads: int) -> list[int]:
    return [n for n in (2**k for k in range(10)) if n < threads] + [threads]


def _memory(given: list[Work], who: Sequence[str], threads: int, trials: int) -> list[Step]:
    """Return the readings of memory, a process for each contender."""
    return [
        Step(
            "memory",
            "memory",
            {"works": given, "name": name, "trials": trials},
            threads,
            len(given),
            alone=True,
        )
        for name in who
    ]


def _at_scale(op: str, given: list[Work], threads: int, pace: dict[str, Any]) -> list[Step]:
    """Return times in turns, then memory, a process for each contender and number of processes."""
    who, kind = cuts.names(op), cuts.OPS[op]
    times = {"task": f"{kind}_times", "works": given, "names": who, **pace}
    found = [Step("works", "at_scale", times, threads, len(given), alone=True)]
    for name in who:
        for processes in dict.fromkeys(work.processes for work in given):
            some = [work for work in given if work.processes == processes]
            read = {"task": f"{kind}_memory", "works": some, "name": name, "trials": 1}
            found.append(Step("memory", "at_scale", read, threads, len(some), alone=True))
    return found


def _first(plan: Plan, who: Sequence[str], threads: int) -> list[Step]:
    """Return the first calls of a process: with empty caches on disk, then with what it left."""
    work = Work("first-call", (16, 50) if plan.tiny else (512, 1000), True)
    first = [
        Step(
            "first_call",
            "first",
            {"work": work, "name": name},
            threads,
            alone=True,
            caches=name,
            tag={"caches": caches},
        )
        for name in who
        for caches in ("empty", "filled")
    ]
    rounds = 1 if plan.tiny else 5
    return [*first, Step("imports", "imports", {"rounds": rounds}, threads, alone=True)]
