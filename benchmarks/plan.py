"""What a run on the host measures: shapes, contenders and how long each has; as jobs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Any

from xloss_conformance.bench import cores

from .contenders import XLOSS
from .processes import Job
from .tasks import Group
from .work import Work

GROWTH = ("classes", "rows", "threads")  # how cost grows with each
OPS = (
    "forward",
    "gradient",
    "bfloat16",
    "segmentation",
    "small",
    "linear",
    "linear-large",
    *GROWTH,
    "memory",
    "first-call",
)
ON_DEMAND = ("linear-large",)  # takes minutes
PEERS = (
    "torch",
    "torch.compile",
    "optax",
    "keras",
    "tensorflow",
    "tf.function",
    "sklearn",
    "scipy",
)
SHAPES = ((65536, 10), (8192, 1000), (2048, 32000), (512, 128256))
SEGMENTATION = (8, 21, 512, 512)
LINEAR = {"linear": (512, 32000, 256), "linear-large": (4096, 128256, 1024)}  # and features
CLASSES = (10, 100, 1000, 32000, 128256)
ROWS = (16, 256, 4096, 65536)  # of 1,000 classes
ELEMENTS = 2**24  # of each point of "classes" and of "memory"
LINEAR_PEERS = ("torch linear", "torch linear, chunked")
TORCH = {"xloss torch", "xloss torch, closed form", "torch", "torch.compile"}
# Who takes part where not everybody does.
WHO: dict[str, set[str]] = {
    "segmentation": {"xloss numpy", *TORCH, "xloss jax", "optax", "scipy"},
    "linear": {"xloss numpy", *TORCH, "xloss jax", *LINEAR_PEERS, "optax"},
    "classes": {"xloss numpy", "torch", "torch.compile", "optax"},
    "rows": {"xloss numpy", "torch", "optax"},
    "threads": {"xloss numpy", "torch", "optax"},
    "memory": {"xloss numpy", "xloss torch", "xloss jax", "torch", "torch.compile", "optax"},
    "first-call": {"xloss numpy", "xloss torch.compile", "xloss jax", "torch.compile", "optax"},
}
WHO["linear-large"] = WHO["linear"]


class BadPlan(ValueError):
    """What was asked for cannot be measured; the message says why in one line."""


@dataclass(frozen=True)
class Plan:
    """What is asked, as names; the empty ones ask for everything. `tiny` is for tests."""

    ops: Sequence[str] = ()
    peers: Sequence[str] = ()
    threads: int = 0
    tiny: bool = False


def chosen(plan: Plan) -> tuple[tuple[str, ...], tuple[str, ...], int]:
    """Return the operations, the peers and the threads of a plan; BadPlan says what is wrong."""
    for what, names, known in (("--op", plan.ops, OPS), ("--peer", plan.peers, PEERS)):
        for name in names:
            if name not in known:
                raise BadPlan(f"{what} {name}: expected one of {', '.join(known)}")
    threads = plan.threads or cores()
    if threads > cores():
        raise BadPlan(f"--threads {threads}: this machine has {cores()} cores to use")
    ops = tuple(o for o in OPS if o in (plan.ops or set(OPS) - set(ON_DEMAND)))
    return ops, tuple(p for p in PEERS if p in (plan.peers or PEERS)), threads


def works(op: str, tiny: bool = False) -> list[Work]:
    """Return the calls that an operation times."""
    shapes = tuple((max(1, n // 1024), min(c, 50)) for n, c in SHAPES) if tiny else SHAPES
    both = (False, True)
    if op in ("forward", "gradient"):
        return [Work(op, shape, op == "gradient") for shape in dict.fromkeys(shapes)]
    if op == "bfloat16":
        return [Work(op, shape, g, op) for shape in dict.fromkeys(shapes) for g in both]
    if op == "segmentation":
        images = (2, 3, 4, 4) if tiny else SEGMENTATION
        return [Work(op, images, gradient, axis=1) for gradient in both]
    if op == "small":
        return [Work(op, (32, 10), gradient) for gradient in both]
    if op in LINEAR:
        rows, classes, features = (8, 50, 4) if tiny else LINEAR[op]
        return [Work(op, (rows, classes), True, features=features)]
    if op == "rows":
        return [Work(op, (n, 1000), g) for n in ((4, 16) if tiny else ROWS) for g in both]
    if op == "threads":
        return [Work(op, shapes[2], gradient) for gradient in both]
    if op == "first-call":
        return [Work(op, (16, 50) if tiny else (512, 1000), True)]
    elements = 2**12 if tiny else ELEMENTS
    classes_of = (10, 50) if tiny else (10, 1000, 128256) if op == "memory" else CLASSES
    return [Work(op, (elements // c, c), gradient) for c in classes_of for gradient in both]


def names(work: Work, peers: Sequence[str]) -> tuple[str, ...]:
    """Return who takes part in a call: xloss always, and the peers that are asked for."""
    known = (*XLOSS, *LINEAR_PEERS, *PEERS)
    some = WHO.get(work.op, set(known) - {"xloss numpy, generic", *LINEAR_PEERS})
    if work.op in ("forward", "gradient", "small"):
        some = some | {"xloss numpy, generic"}
    if work.op not in ("forward", "gradient") or work.classes not in (1000, 32000):
        some = some - {"xloss torch.compile, generic"}  # compiles for many seconds
    if work.dtype == "bfloat16":  # which neither NumPy nor these know
        some = some - {"xloss numpy", "sklearn", "scipy"}
    if work.op == "classes" and work.gradient:
        some = some - {"torch.compile"}
    asked = {*XLOSS, *peers, *(LINEAR_PEERS if "torch" in peers else ())}
    return tuple(name for name in known if name in some & asked)


def jobs(plan: Plan) -> list[Job]:
    """Return what is to be done, in order."""
    ops, peers, threads = chosen(plan)
    groups: dict[int, list[Group]] = {}
    for op in ops:
        section = f"by_{op}" if op in GROWTH else "works"
        for n in _powers(threads) if op == "threads" else [threads]:
            tag = {"threads": n} if op == "threads" else {}
            timed = [] if op in ("memory", "first-call") else works(op, plan.tiny)
            for who, some in groupby(timed, lambda work: names(work, peers)):
                group = Group(list(some), who, _pace(op, plan.tiny), section, tag)
                groups.setdefault(n, []).append(group)
    found = [
        Job("tasks:times", {"groups": some}, n)
        for n, some in sorted(groups.items(), key=lambda one: one[0] != threads)
    ]
    for op in ("memory", *LINEAR):
        calls = works(op, plan.tiny) if op in ops else []
        traced = set() if op == "memory" else {"xloss jax", "torch.compile", "optax"}
        for name in (n for n in names(calls[0], peers) if n not in traced) if calls else ():
            asked = {"works": calls, "name": name, "trials": 3 if op == "memory" else 1}
            found.append(Job("tasks:memory", asked, threads))
    if "first-call" in ops:
        (work,) = works("first-call", plan.tiny)
        for name in names(work, peers):
            for caches in ("empty", "filled"):
                first = {"work": work, "name": name, "caches": caches}
                found.append(Job("tasks:first", first, threads, caches=name))
        found.append(Job("tasks:imports", {"rounds": 1 if plan.tiny else 5}, threads))
    return found


def _pace(op: str, tiny: bool) -> dict[str, Any]:
    if tiny:
        return {"seconds": 0.01, "least": 3, "most": 5}
    if op == "linear-large":
        return {"seconds": 25.0, "least": 3}
    if op == "linear":
        return {"seconds": 0.5, "least": 3}
    if op == "small":
        return {"seconds": 0.3, "most": 20000}
    return {"seconds": 0.15, "most": 100} if op in GROWTH else {"seconds": 0.3}


def _powers(threads: int) -> list[int]:
    return [n for n in (2**k for k in range(10)) if n < threads] + [threads]
