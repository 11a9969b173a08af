"""`xloss bench`: xloss beside the peers that are installed, a few shapes, a minute, one table.

`benchmarks/` in the source tree measures far more: memory, compilers, GPUs, targets.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import redirect_stdout
from dataclasses import replace
from importlib import import_module
from typing import Any

import numpy as np

import xloss

from . import timing
from .load_object import imported, installed
from .model import Missing as Missing
from .printable import first_line
from .report import record
from .result import table
from .timing import Call, NotOffered

Record = dict[str, Any]
SHAPES = ((65536, 10), (8192, 1000), (2048, 32000))
QUICK_SHAPES = SHAPES[:2]
OURS = ("numpy", "torch", "jax", "tensorflow")
PEERS = ("torch", "optax", "keras", "tensorflow", "sklearn", "scipy")
QUICK_PEERS = ("torch", "optax")
COMPILED = "cpu"  # the engine that is told from the generic one


def bench(
    quick: bool = False,
    peers: Sequence[str] = (),
    command: str = "",
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> Record:
    """Time cross_entropy, and its gradient, of every library that is here; return the record.

    A peer that is asked for by name and is not here is an error: Missing.
    """
    for name in peers:
        if name not in PEERS:
            raise Missing(f"--peer {name}: expected one of {', '.join(PEERS)}")
    start = time.perf_counter()
    made: Record = {**head(), "mode": "quick" if quick else "full", "command": command}
    names = [f"xloss {library}" for library in OURS]
    names += peers or (QUICK_PEERS if quick else PEERS)
    with redirect_stdout(sys.stderr):  # what a library prints: stdout is for the report alone
        here = []
        for name in names:
            try:
                here.append(told(name, name.removeprefix("xloss ")))
            except Missing as missing:
                if name in peers:
                    raise
                made["missing"].append(str(missing))
        made["contenders"] = here
        timed: list[Record] = []
        works = [(s, g) for s in (QUICK_SHAPES if quick else SHAPES) for g in (False, True)]
        for done, (shape, gradient) in enumerate(works):
            progress(done, len(works))
            given = [str(one["name"]) for one in here]
            timed.append(_timed(given, shape, gradient, 0.1 if quick else 0.3))
    made["works"] = timed
    made["seconds"] = round(time.perf_counter() - start, 3)
    made["load"].append(load_average())
    return dict(record.plain(made))


def head() -> Record:
    """Return what a record says of the run: when, where, by which versions, how busy it was."""
    return record.head() | {"threads": cores(), "load": [load_average()], "missing": []}


def cores() -> int:
    """Return the number of cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def load_average() -> float | None:
    """Return how many processes have been running in the last minute, where the system tells."""
    return round(os.getloadavg()[0], 2) if hasattr(os, "getloadavg") else None


def told(name: str, library: str, distribution: str = "") -> Record:
    """Return a contender as the record has it; Missing says what would install its library.

    `distribution` is what pip installs, where INSTALL does not have it under the library's name.
    """
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")  # before TensorFlow is imported
    timing.keras_backend()
    module = imported(library, name, distribution and f"pip install {distribution}")
    ours = name.startswith("xloss ")
    number = xloss.__version__ if ours else str(getattr(module, "__version__", "unknown"))
    if distribution and not ours and installed(distribution) != "unknown":
        number = installed(distribution)
    return {"name": name, "peer": not ours, "library": library, "version": number}


def _timed(names: Sequence[str], shape: tuple[int, int], gradient: bool, seconds: float) -> Record:
    """Return the times of all contenders on one shape; a wrong answer is not timed."""
    rng = np.random.default_rng(0)
    x = rng.standard_normal(shape, dtype=np.float32) * np.float32(3)
    y = rng.integers(0, shape[1], shape[0])
    what = "value and gradient" if gradient else "value"
    moved = x.nbytes * (1 + gradient) + y.nbytes
    work: Record = {"name": f"float32 {shape}, {what}", "shape": list(shape), "dtype": "float32"}
    work |= {"gradient": gradient, "classes": shape[1], "moved": moved, "runs": [], "refused": []}
    calls: dict[str, Call] = {}
    right: tuple[float, Any] | None = None
    for name in names:
        try:
            call = _prepare(name, x, y, gradient)
            got = call.answer(call.run())
            right = right or got
            agree(got, right)
            engine = _engine(name, gradient) if name.startswith("xloss ") else ""
            calls[name] = replace(call, engine=engine)
        except Exception as reason:  # of a stranger's library, anything
            work["refused"].append({"contender": name, "reason": why(reason)})
    lost: dict[str, Exception] = {}
    for name, times in timing.in_turns(calls, seconds=seconds, most=100, lost=lost).items():
        found = timing.spread(times)
        speed = {"gb_s": moved / found["median_ms"] / 1e6}
        work["runs"].append({"contender": name, "engine": calls[name].engine, **found, **speed})
    work["refused"] += [{"contender": k, "reason": why(reason)} for k, reason in lost.items()]
    return work


def _prepare(name: str, x: Any, y: Any, gradient: bool) -> Call:
    """Return the call of a contender: "xloss LIBRARY", or a peer's name."""
    if name == "xloss numpy":
        return timing.on_numpy(xloss.cross_entropy, (x, y), gradient)
    if name == "sklearn":
        return timing.on_sklearn(x, y, gradient, cores())
    if name == "scipy":
        return timing.on_scipy(x, y, gradient)
    losses: dict[str, Any] = {"keras": timing.keras_loss, "optax": timing.optax_loss}
    losses["tensorflow"] = timing.tensorflow_loss
    loss = losses[name]() if name in losses else xloss.cross_entropy
    whose = {"keras": timing.keras_backend(), "optax": "jax"}.get(name, name)
    library: Any = import_module(whose.removeprefix("xloss "))
    if name == "torch":
        loss = library.nn.functional.cross_entropy
    if library.__name__ == "torch":
        return timing.on_torch(loss, (library.from_numpy(x), library.from_numpy(y)), gradient)
    if library.__name__ == "jax":
        given = library.numpy.asarray(x), library.numpy.asarray(y, np.int32)
        return timing.on_jax(loss, given, gradient)
    return timing.on_tensorflow(loss, (library.constant(x), library.constant(y)), gradient)


def _engine(name: str, gradient: bool) -> str:
    """Return which engine computes a call of xloss: the same whatever the size of the arrays."""
    try:
        with xloss.use_engine(COMPILED):
            _prepare(name, np.zeros((2, 3), np.float32), np.zeros(2, np.int64), gradient).run()
    except xloss.EngineUnavailable:
        return "generic"
    return COMPILED


def agree(got: tuple[float, Any], right: tuple[float, Any], loose: float = 1e-3) -> None:
    """Raise NotOffered where an answer is not the right one: another thing would be timed."""
    if not abs(got[0] - right[0]) <= loose * abs(right[0]):
        raise NotOffered(f"computes something else: {got[0]:.6g}, not {right[0]:.6g}")
    if got[1] is None or right[1] is None:
        return
    if not np.abs(got[1] - right[1]).max() <= loose * np.abs(right[1]).max():
        raise NotOffered("computes another gradient")


def why(reason: Exception) -> str:
    """Return in one line why there is no figure."""
    return str(reason) if isinstance(reason, NotOffered) else f"fails: {first_line(reason)}"


def lines(found: Record) -> Iterator[str]:
    """Give the table: a line for each contender, a column for each call, milliseconds."""
    rows = [("milliseconds", *(str(tuple(work["shape"])) for work in found["works"]))]
    rows.append(("", *("with gradient" if w["gradient"] else "value" for w in found["works"])))
    for one in found["contenders"]:
        runs = [[r for r in w["runs"] if r["contender"] == one["name"]] for w in found["works"]]
        engine = next((f" ({r['engine']})" for of in runs for r in of if r["engine"]), "")
        cells = (f"{of[0]['median_ms']:.3g}" if of else "-" for of in runs)
        rows.append((one["name"] + engine, *cells))
    yield from table(rows)
    reasons = {(r["contender"], r["reason"]): None for w in found["works"] for r in w["refused"]}
    yield from (f"not timed: {name}: {reason}" for name, reason in reasons)
    yield from found["missing"]
    yield f"{found['threads']} threads, in {found['seconds']:.0f} s"
