"""What is measured on a GPU: calls, who takes part in which, their data, and how long a run has."""

from __future__ import annotations

import time
from collections.abc import Sequence
from functools import lru_cache
from typing import Any

import numpy as np

import xloss
from xloss_conformance.bench import cores

from ..plan import BadPlan
from ..processes import Job
from ..work import Data, Work, numpy_dtype

OP = "gpu"
HOST, LINEAR, SEGMENTATION = "gpu host", "gpu linear", "gpu segmentation"
CLASSES = (1024, 4096, 16384, 32768, 65536, 131072, 262144)
SOME_CLASSES, FEW_CLASSES, ONE_CLASSES = (1024, 32768, 131072), (32768, 131072), (32768,)
TINY_CLASSES = (16, 60)
ELEMENTS, TINY_ELEMENTS = 2**29, 2**10
HOST_SHAPE = (32, 1000)
LINEAR_SHAPE, LINEAR_FEATURES = (8192, 131072), 4096
SEGMENTATION_SHAPE = (8, 21, 512, 512)
DISTINCT = 2**21  # logits that are drawn; the rows of more repeat them
# Contenders by the library whose process they run in; CuPy has no bfloat16.
WHO = {
    "torch": (
        "xloss torch",
        "xloss torch, closed form",
        "xloss torch.compile",
        "torch",
        "torch.compile",
        "Quack",
        "Quack, autograd",
        "Liger",
    ),
    "cupy": ("xloss cupy", "cupy by hand"),
    "jax": ("xloss jax", "optax"),
}
DTYPES = {
    "torch": ("bfloat16", "float32"),
    "cupy": ("float16", "float32"),
    "jax": ("bfloat16", "float32"),
}
PEERS = ("torch", "torch.compile", "quack", "liger", "optax")  # as --peer names them
# Who takes part beside calls of one row of logits after the other.
ELSEWHERE = {
    HOST: ("xloss torch", "xloss torch, closed form", "torch", "xloss cupy", "cupy by hand"),
    LINEAR: ("xloss torch", "xloss torch, closed form", "torch", "Liger"),
    SEGMENTATION: ("xloss torch", "xloss torch, closed form", "torch", "torch.compile"),
}
# Whoever compiles seconds for every shape is timed on these alone.
FEWER: dict[str, dict[str, tuple[int, ...]]] = {
    "xloss torch.compile": {"bfloat16": (32768,)},
    "torch.compile": {"bfloat16": (1024, 4096, 32768, 131072), "float32": SOME_CLASSES},
    "Quack": {"bfloat16": CLASSES, "float32": SOME_CLASSES},
    "Quack, autograd": {"bfloat16": CLASSES, "float32": SOME_CLASSES},
}
# Of a turn; turns of each contender, fewer of those that would take longer than `most` seconds.
PACE = {"seconds": 0.01, "rounds": 7, "most": 2.0}
TINY_PACE = {"seconds": 1e-4, "rounds": 3, "most": 2.0}
HOST_RUNS = 100  # calls in a row, so few that no queue of launches fills
# Seconds in all.
SECONDS, QUICK_SECONDS = 290.0, 90.0
# A process of its own: a library, which of its dtypes, and the share of all seconds by which it
# begins no further call. What goes wrong on the GPU ends all calls of a process.
PARTS = (
    ("torch", "bfloat16", 0.54),
    ("torch", "float32", 0.76),
    ("cupy", "", 0.86),
    ("jax", "", 0.97),
)
ALLOWANCE = {"torch.compile": 60.0}  # seconds of a contender's first calls; others have 40
PROCESSES = 8  # that make first calls side by side


def device(tiny: bool) -> str:
    """Return where it runs: a rehearsal without a GPU on the host."""
    return "cpu" if tiny and xloss.engines()["cuda"] is not None else "cuda"


def works(library: str, quick: bool = False, tiny: bool = False) -> list[Work]:
    """Return the calls that a library's process times, in the order of what is asked first."""
    elements = TINY_ELEMENTS if tiny else ELEMENTS
    both = (True, False)
    first, second = DTYPES[library]

    def rows(dtype: str) -> list[Work]:
        classes = {"torch": CLASSES, "cupy": SOME_CLASSES, "jax": FEW_CLASSES}[library]
        if quick:
            classes = SOME_CLASSES if library == "torch" and dtype == first else ONE_CLASSES
        if tiny:
            classes = TINY_CLASSES
        return [Work(OP, (elements // c, c), g, dtype) for c in classes for g in both]

    host = [Work(HOST, HOST_SHAPE, g, second) for g in both]
    if library != "torch":
        return rows(first) + rows(second) + (host if library == "cupy" else [])
    linear = (8, 50) if tiny else LINEAR_SHAPE
    pixels = (2, 3, 4, 4) if tiny else SEGMENTATION_SHAPE

    def others(dtype: str) -> list[Work]:
        return [Work(SEGMENTATION, pixels, g, dtype, 1) for g in both]

    found = [Work(LINEAR, linear, True, first, features=4 if tiny else LINEAR_FEATURES)]
    return rows(first) + found + others(first) + host + rows(second) + others(second)


def takes_part(name: str, work: Work, tiny: bool = False) -> bool:
    """Tell whether a contender is timed on a call."""
    if work.op != OP:
        return name in ELSEWHERE[work.op]
    return tiny or name not in FEWER or work.classes in FEWER[name].get(work.dtype, ())


def names(library: str, peers: Sequence[str]) -> tuple[str, ...]:
    """Return who takes part: xloss and the hand-written always, of the peers those asked for."""
    left_out = set()
    if "torch.compile" not in peers:
        left_out.add("xloss torch.compile")
    for name in WHO[library]:
        peer = name.partition(",")[0].lower()
        if not name.startswith("xloss") and peer != "cupy by hand" and peer not in peers:
            left_out.add(name)
    return tuple(name for name in WHO[library] if name not in left_out)


def jobs(quick: bool, tiny: bool, peers: Sequence[str] = ()) -> list[Job]:
    """Return what is to be done; each library has a process of its own.

    Missing says why nothing can be measured; a rehearsal needs no GPU.
    """
    for name in peers:
        if name not in PEERS:
            raise BadPlan(f"--peer {name}: expected one of {', '.join(PEERS)}")
    peers = peers or PEERS
    reason = xloss.engines()["cuda"]
    if reason is not None and not tiny:
        raise BadPlan(f"gpu: nothing is measured: {reason}")
    seconds, began = QUICK_SECONDS if quick else SECONDS, time.monotonic()
    if tiny:  # a rehearsal may stand in a queue for a machine's cores
        seconds = float("inf")
    found: list[Job] = []

    def job(task: str, share: float, **arguments: Any) -> None:
        # A call that hangs is ended some seconds after its process should have been done.
        until = began + seconds * (share + 0.05)
        given = {"device": device(tiny), **arguments}
        found.append(Job(f"gpu.{task}", given, cores(), until=until))

    timed = {library: works(library, quick, tiny) for library in WHO}
    job("ahead:facts", 0.2)
    first = [(w.dtype, w.classes) for of in ("torch", "cupy") for w in timed[of] if w.op == OP]
    job("ahead:compile_ahead", 0.3, calls=list(dict.fromkeys(first)), quack="quack" in peers)
    for library, dtype, share in PARTS:
        some = [work for work in timed[library] if dtype in ("", work.dtype)]
        if quick and library == "jax":
            continue
        asked = {"library": library, "works": some, "names": names(library, peers), "tiny": tiny}
        until = began + seconds * share
        job("tasks:times", share, **asked, until=until, **(TINY_PACE if tiny else PACE))
    return found


# ---- Data ----------------------------------------------------------------------------------------


@lru_cache(1)
def data(op: str, shape: tuple[int, ...], dtype: str, axis: int = -1) -> Data:
    """Return some rows of logits, which the others repeat, and all labels.

    The first row's label is 20 ahead of all other classes: its loss is what log(p) of a rounded p
    loses.
    """
    work = Work(op, shape, False, dtype, axis)
    rng = np.random.default_rng(work.classes)
    rows = work.elements // work.classes
    drawn = rng.standard_normal((min(rows, max(1, DISTINCT // work.classes)), work.classes))
    drawn *= 3
    labels = rng.integers(0, work.classes, rows)
    drawn[0] = 0
    drawn[0, labels[0]] = 20
    return Data(drawn.astype(numpy_dtype(dtype), copy=False), labels)
