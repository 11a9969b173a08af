"""What the processes of a run do; each gives plain results as it finds them."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field, replace
from importlib.metadata import PackageNotFoundError, version
from multiprocessing import get_context
from statistics import median
from typing import Any

from xloss_conformance.bench import Missing, why
from xloss_conformance.timing import Call, in_turns, once, spread

from . import tables
from .contenders import CONTENDERS, Contender, engine_of
from .libraries import GPU, HOST, LIBRARIES, Library
from .memory import peak
from .processes import Found, ends_with_parent
from .right import Right, compared, right
from .work import Data, Work

Figures = dict[str, Any]
PROCESSES = 8  # that make first calls side by side
ROWS = 1100  # so many that no kernel for a small batch is compiled


@dataclass(frozen=True)
class Group:
    """Calls that the same contenders take part in, at this pace; they go to a section."""

    works: Sequence[Work]
    names: Sequence[str]
    pace: dict[str, Any]
    section: str = "works"
    tag: dict[str, Any] = field(default_factory=dict)  # goes into each result


@dataclass
class Place:
    """Where a process times: on the host or a GPU."""

    device: str = HOST
    threads: int = 1
    libraries: dict[str, Library] = field(default_factory=dict)
    engines: dict[tuple[Any, ...], str] = field(default_factory=dict)

    def library(self, one: Contender) -> Library:
        """Return whose arrays a contender takes; Missing says why there are none."""
        if one.arrays not in self.libraries:
            self.libraries[one.arrays] = LIBRARIES[one.arrays](self.device, self.threads)
        return self.libraries[one.arrays]

    def engine(self, one: Contender, work: Work, given: Data) -> str:
        """Return which engine computes a call of xloss: it is the same whatever the size."""
        key = one.name, work.dtype, work.axis, bool(work.features), work.gradient
        if key not in self.engines:
            compiled = "cuda" if self.device == GPU else "cpu"
            self.engines[key] = engine_of(one, work, given, self.library(one), compiled)
        return self.engines[key]


def times(
    threads: int,
    groups: Sequence[Group],
    device: str = HOST,
    until: float = float("inf"),
) -> Iterator[Found]:
    """Time the contenders on each work, in turns, with what bounds them."""
    place = Place(device, threads)
    here: dict[str, Contender] = {}
    for name in dict.fromkeys(name for group in groups for name in group.names):
        try:
            yield "contenders", CONTENDERS[name].told()
            place.library(CONTENDERS[name])
            here[name] = CONTENDERS[name]
        except Missing as missing:
            yield "missing", str(missing)
    todo = [(group, work) for group in groups for work in group.works]
    for at, (group, work) in enumerate(todo):
        who = [here[name] for name in group.names if name in here]
        libraries = ", ".join(dict.fromkeys(one.arrays for one in who))
        if who and time.monotonic() > until:
            left = ", ".join(one.name for _, one in todo[at:])
            yield "missing", f"no time was left to measure, with {libraries}: {left}"
            return
        try:
            if who:
                found = measured(work, who, place, group.pace)
                yield group.section, {**group.tag, **found}
        except Exception as reason:  # of the arrays, or of what all are held against
            yield "missing", f"not measured, with {libraries}: {work.name}: {said(reason)}"


def said(reason: Exception) -> str:
    """Return in one line why there is no figure; who needs more memory than there is says that."""
    if "OutOfMemory" in type(reason).__name__ or "RESOURCE_EXHAUSTED" in str(reason):
        return "out of memory"
    return why(reason)


def measured(
    work: Work, who: Sequence[Contender], place: Place, pace: dict[str, Any]
) -> dict[str, Any]:
    """Compare the answers, then time in turns; return the record's entry."""
    given: dict[str, Data] = {}
    for one in who:
        if one.arrays not in given:
            library = place.library(one)
            library.fresh()
            given[one.arrays] = library.given(work)
    lead, first_given = place.library(who[0]), given[who[0].arrays]
    calls, checks, refused = prepared(who, work, given, right(work, first_given), place)
    launches = work.op == "host"
    bounds = {} if launches else lead.bounds(work, first_given)
    if work.features and place.device != HOST:
        for name, call in calls.items():
            held = lead.peak(call)
            # Beyond the inputs, which were there before, and their gradients.
            checks[name]["peak_bytes"] = None if held is None else max(0, held - work.nbytes)
    lost: dict[str, Exception] = {}
    taken = in_turns(
        {**{name: of.call for name, of in bounds.items()}, **calls},
        clock=lead.clock(launches),
        lost=lost,
        **pace,
    )
    refused += [{"contender": name, "reason": said(why)} for name, why in lost.items()]
    entry: Figures = {**work.told(), "refused": refused}
    if launches:
        entry["name"] += ", host"
    if place.device != HOST:
        entry["library"] = who[0].arrays
    # The bound is the fastest of those that do what all must do.
    times = [bounds[name].told(name, taken[name]) for name in taken if name in bounds]
    entry["bound"] = min(times, key=lambda one: float(one["median_ms"]), default=None)
    entry["runs"] = [
        {"contender": name, "engine": calls[name].engine, **speed(work, times), **checks[name]}
        for name, times in taken.items()
        if name in calls
    ]
    return entry


def speed(work: Work, times: Sequence[float]) -> Figures:
    """Return the spread of a call's seconds, and how much it moves and computes in one."""
    taken = spread(times)
    ms = taken["median_ms"]
    return {**taken, "gb_s": work.moved / ms / 1e6, "elements_s": work.elements / ms * 1e3}


def prepared(
    who: Sequence[Contender], work: Work, given: dict[str, Data], want: Right, place: Place
) -> tuple[dict[str, Call], dict[str, dict[str, Any]], list[dict[str, str]]]:
    """Return the calls of those whose answer is right, their errors, and why others have none."""
    calls: dict[str, Call] = {}
    checks: dict[str, dict[str, Any]] = {}
    refused = []
    for one in who:
        try:
            call = one.prepare(work, given[one.arrays], place.library(one))
            with call.within():
                call.before()
                checks[one.name] = compared(work, call, call.run(), want)
                call.before()
            if not one.peer and not call.engine:
                call = replace(call, engine=place.engine(one, work, given[one.arrays]))
            calls[one.name] = call
        except Exception as reason:  # a compiler that is not here, too little memory
            refused.append({"contender": one.name, "reason": said(reason)})
    return calls, checks, refused


# ---- Memory and first calls ---------------------------------------------------------------------


def alone(
    name: str, works: Sequence[Work], threads: int, read: Callable[[Call], Figures], **more: Any
) -> Iterator[Figures]:
    """Read figures of one contender's calls; where it is not installed, Missing ends the task."""
    one = CONTENDERS[name]
    one.told()
    where = Place(threads=threads).library(one)
    for work in works:
        entry = {**work.told(), "contender": name, "reason": "", **more}
        try:
            entry |= read(one.prepare(work, where.given(work), where))
        except Exception as reason:  # of any peer: the record says it in place of a figure
            entry["reason"] = said(reason)
        yield entry


def memory(works: Sequence[Work], name: str, threads: int, trials: int) -> Iterator[Found]:
    """Read one contender's peak memory on each work."""

    def most(call: Call) -> Figures:
        return {"peak_bytes": peak(call, trials)}

    for entry in alone(name, works, threads, most, peak_bytes=None):
        yield "memory", entry


def first(work: Work, name: str, caches: str, threads: int) -> Iterator[Found]:
    """Time the first call of a process, which compiles or loads what was compiled before."""

    def twice(call: Call) -> Figures:
        with call.within():
            return {which: once(call) * 1e3 for which in ("first_ms", "second_ms")}

    none = {"caches": caches, "first_ms": None, "second_ms": None}
    for entry in alone(name, [work], threads, twice, **none):
        yield "first_call", entry


PROBE = """
import numpy, time
start = time.perf_counter()
import xloss
print((time.perf_counter() - start) * 1e3)
"""


def imports(rounds: int, threads: int) -> Iterator[Found]:
    """Time what importing xloss adds to importing NumPy."""
    command = [sys.executable, "-c", PROBE]
    ms = [float(subprocess.check_output(command)) for _ in range(rounds + 1)]
    yield "imports", {"import_ms": median(ms[1:])}


# ---- What comes before the times on a GPU ------------------------------------------------------


def facts(threads: int, device: str) -> Iterator[Found]:
    """Tell which GPU this is, and what runs on it."""
    import torch

    found = {}
    for name in tables.load("plan")["packages"]["gpu"]:
        with suppress(PackageNotFoundError):
            found[name] = version(name)
    told: dict[str, Any] = {"rehearsal": device != GPU, "name": "none", "versions": found}
    if device == GPU:
        has = torch.cuda.get_device_properties(0)
        told |= {
            "name": has.name,
            "capability": f"{has.major}.{has.minor}",
            "memory_bytes": has.total_memory,
            "l2_bytes": getattr(has, "L2_cache_size", 0),
            "processors": has.multi_processor_count,
            "cuda": str(torch.version.cuda),
            "driver": "unknown",
        }
        # PyTorch does not tell the driver.
        asked = ["nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader"]
        with suppress(OSError, subprocess.SubprocessError):
            driver = subprocess.check_output(asked, text=True, timeout=20)
            told["driver"] = driver.partition("\n")[0]
    yield "gpu", told


def compile_ahead(
    threads: int, device: str, calls: Sequence[tuple[str, str, int]]
) -> Sequence[Found]:
    """Make first calls (contender, dtype, classes) side by side, so that caches on disk are filled.

    What fails here fails again, and is told, where it is timed.
    """
    workers = max(1, min(PROCESSES, threads // 2, len(calls)))
    # A worker would wait for its next call for ever when the run is ended from outside.
    with ProcessPoolExecutor(workers, get_context("spawn"), initializer=ends_with_parent) as pool:
        list(pool.map(first_call, [device] * len(calls), *zip(*calls, strict=True)))
    return ()


def first_call(device: str, name: str, dtype: str, classes: int) -> None:
    """Make a contender's calls, with a gradient and without."""
    one = CONTENDERS[name]
    with suppress(Exception):  # of any peer; why, is told where it is timed
        where = Place(device).library(one)
        for gradient in (False, True):
            work = Work("ahead", (ROWS if device == GPU else 2, classes), gradient, dtype)
            call = one.prepare(work, where.given(work), where)
            call.before()
            call.run()
