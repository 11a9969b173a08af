"""What is measured on a GPU: works, who takes part, their data, and what must come out."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

import xloss

from ..case import Array, numpy_dtype
from ..homes import Missing
from .contenders import SOME
from .work import LABEL_BYTES, Data, Work

OP = "gpu"
CLASSES = (1024, 4096, 16384, 32768, 65536, 131072, 262144)
QUICK_CLASSES = (1024, 32768, 131072)
TINY_CLASSES = (16, 60)
ELEMENTS, TINY_ELEMENTS = 2**29, 2**10
HOST_SHAPE = (32, 1000)
CHECKED = {"torch": 8, "cupy": 2}  # rows whose every gradient entry the oracle computes
READ = 16  # rows of a gradient that are compared; all of those beside the oracle
DISTINCT = 2**22  # logits that are drawn; rows of more repeat them
# Contenders by the library whose process they run in; CuPy has no bfloat16.
WHO = {
    "torch": ("xloss torch", "xloss torch, closed form", "xloss torch.compile", "torch",
              "torch.compile"),
    "cupy": ("xloss cupy", "cupy by hand"),
    "jax": ("optax",),
}  # fmt: skip
DTYPES = {
    "torch": ("bfloat16", "float32"), "cupy": ("float16", "float32"), "jax": ("bfloat16", "float32")
}  # fmt: skip
# Their backward reads the logits, or as many bytes saved of them, a second time.
AUTOGRAD = ("xloss torch", "xloss torch.compile", "torch", "torch.compile")
PACE = {"seconds": 0.01, "rounds": 10}  # of a turn; turns of each contender
COMPILING = 200.0  # seconds of a process after which nobody who compiles is begun
HOST_PACE = {"runs": 200, "rounds": 30}  # calls in a row, so few that no queue of launches fills


def present(tiny: bool) -> None:
    """Raise Missing unless the engine can run here; a rehearsal needs none."""
    reason = xloss.engines()["cuda"]
    if reason is not None and not tiny:
        raise Missing(f"--op {OP}: nothing is measured: {reason}")


def device(tiny: bool) -> str:
    """Return where it runs: a rehearsal without a GPU on the host."""
    return "cpu" if tiny and xloss.engines()["cuda"] is not None else "cuda"


def works(library: str, quick: bool = False, tiny: bool = False) -> list[Work]:
    """Return the calls that a library's process times."""
    classes = TINY_CLASSES if tiny else QUICK_CLASSES if quick else CLASSES
    elements = TINY_ELEMENTS if tiny else ELEMENTS
    return [
        Work(OP, (elements // c, c), gradient, dtype)
        for dtype in DTYPES[library]
        for gradient in (False, True)
        for c in classes
    ]


def checked(library: str, quick: bool = False, tiny: bool = False) -> list[Work]:
    """Return the same calls on the few rows that are compared with the oracle."""
    rows = 2 if tiny else CHECKED[library]
    timed = works(library, quick, tiny)
    return [Work(OP, (rows, w.classes), w.gradient, w.dtype) for w in timed]


def names(library: str, peers: Sequence[str]) -> tuple[str, ...]:
    """Return who takes part: xloss and the hand-written always, of the peers those asked for."""
    left_out = {name for name in ("torch", "torch.compile", "optax") if name not in peers}
    if "torch.compile" in left_out:
        left_out.add("xloss torch.compile")
    return tuple(name for name in WHO[library] if name not in left_out)


def steps(quick: bool, tiny: bool, peers: Sequence[str], threads: int) -> list[dict[str, Any]]:
    """Return the fields of the plan's steps; each library has a process of its own."""
    where = device(tiny)
    pace = {"seconds": 1e-4, "rounds": 3} if tiny else PACE
    host = {"runs": 5, "rounds": 3} if tiny else HOST_PACE
    libraries = [library for library in WHO if names(library, peers)]
    found: list[dict[str, Any]] = []

    def step(section: str, task: str, results: int, **arguments: Any) -> None:
        given = {"task": task, "device": where, **arguments}
        found.append({"section": section, "task": "on_gpu", "arguments": given,
                      "threads": threads, "results": results, "alone": True})  # fmt: skip

    step("gpu", "facts", 1)
    for library in libraries:
        if library in CHECKED:
            some = checked(library, quick, tiny)
            step("checks", "check", len(some), library=library, works=some)
    for library in libraries:
        some = works(library, quick, tiny)
        who = names(library, peers)
        step("works", "times", len(some), library=library, works=some, names=who, **pace,
             limit=COMPILING)  # fmt: skip
        if library in CHECKED:
            one = [name for name in who if "compile" not in name]
            step("works", "host", 1, library=library, names=one, **host)
    return found


def moved(work: Work, name: str) -> int:
    """Return the bytes that a contender must move at least, by the way it goes."""
    if work.gradient and name in AUTOGRAD:
        return work.moved + work.nbytes + work.rows[0] * LABEL_BYTES
    return work.moved


# ---- Data ----------------------------------------------------------------------------------------


def data(work: Work) -> Data:
    """Return some rows of logits, which the others repeat, and all labels."""
    rng = np.random.default_rng(work.classes)
    rows, classes = work.shape
    drawn = rng.standard_normal((min(rows, max(1, DISTINCT // classes)), classes), np.float32)
    drawn *= np.float32(3)
    return Data(drawn.astype(numpy_dtype(work.dtype), copy=False), rng.integers(0, classes, rows))


def expected(work: Work, given: Data) -> tuple[float, Any]:
    """Return the mean, and the gradient where `spots` reads it, by NumPy's float64."""
    x = given.x.astype(np.float64)
    top = x.max(-1, keepdims=True)
    total = np.log(np.exp(x - top).sum(-1)) + top[:, 0]
    of = np.arange(work.shape[0]) % len(x)
    value = float((total[of] - x[of, given.y]).mean())
    if not work.gradient:
        return value, None
    at = rows_read(work)
    p = np.exp(x[of[at]] - total[of[at], None])
    p[np.arange(len(at)), given.y[at]] -= 1
    return value, spots(p / work.shape[0], given.y[at])


def rows_read(work: Work) -> Array:
    """Return the rows of a gradient that a call's answer has: from the first to the last."""
    return np.unique(np.linspace(0, work.shape[0] - 1, READ).astype(np.int64))


def spots(rows: Array, labels: Array) -> Array:
    """Return entries of some rows of a gradient: those of the labels, and the first classes."""
    own = rows[np.arange(len(rows)), labels]
    return np.concatenate([own, rows[:, : (SOME - len(rows)) // len(rows)].reshape(-1)])
