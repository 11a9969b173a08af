"""What the processes of a run do; each gives plain results as it finds them."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from statistics import median
from typing import Any

from xloss_conformance.bench import Missing, why
from xloss_conformance.timing import Call, NotOffered, in_turns, once, spread

from .bounds import Bound
from .contenders import CONTENDERS, Contender, engine_of
from .libraries import GPU, HOST, LIBRARIES, Library
from .memory import peak
from .processes import Found
from .right import Right, compared, right
from .work import Data, Work

ALLOWED = 40.0  # seconds of a contender's first calls, where a run has an end
ALLOWED_TO = {"torch.compile": 60.0, "xloss torch.compile": 90.0}  # which is compiled twice


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
    """Where a process times: on the host or a GPU, by which compiled engine, until when."""

    device: str = HOST
    threads: int = 1
    compiled: str = ""  # the engine that is told from the generic one
    until: float = float("inf")
    libraries: dict[str, Library] = field(default_factory=dict)
    engines: dict[tuple[Any, ...], str] = field(default_factory=dict)
    # Of each contender's first calls, which compile: who has had its allowance is left out.
    spent: dict[str, float] = field(default_factory=dict)

    def library(self, one: Contender) -> Library:
        """Return whose arrays a contender takes; Missing says why there are none."""
        if one.arrays not in self.libraries:
            self.libraries[one.arrays] = LIBRARIES[one.arrays](self.device, self.threads)
        return self.libraries[one.arrays]

    def engine(self, one: Contender, work: Work, given: Data) -> str:
        """Return which engine computes a call of xloss: it is the same whatever the size."""
        asked = self.compiled or ("cuda" if self.device == GPU else "cpu")
        key = one.name, work.dtype, work.axis, bool(work.features), work.gradient
        if key not in self.engines:
            self.engines[key] = engine_of(one, work, given, self.library(one), asked)
        return self.engines[key]


def times(
    threads: int,
    groups: Sequence[Group],
    device: str = HOST,
    compiled: str = "",
    until: float = float("inf"),
) -> Iterator[Found]:
    """Time the contenders on each work, in turns, with what bounds them."""
    place = Place(device, threads, compiled, until)
    here: dict[str, Contender | None] = {}
    todo = [(group, work) for group in groups for work in group.works]
    for at, (group, work) in enumerate(todo):
        for name in group.names:
            if name not in here:
                here[name] = None
                try:
                    yield "contenders", CONTENDERS[name].told()
                    place.library(CONTENDERS[name])
                    here[name] = CONTENDERS[name]
                except Missing as missing:
                    yield "missing", str(missing)
        who = [one for name in group.names if (one := here[name])]
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
    lead = place.library(who[0])
    calls, checks, refused = prepared(who, work, given, right(work, given[who[0].arrays]), place)
    launches = work.op == "host"
    bounds = {} if launches else lead.bounds(work, given[who[0].arrays])
    reads = work.features and place.device != HOST
    peaks = {name: lead.peak(call) for name, call in calls.items()} if reads else {}
    lost: dict[str, Exception] = {}
    taken = in_turns(
        {**{name: of.call for name, of in bounds.items()}, **calls},
        clock=lead.clock(launches),
        lost=lost,
        **pace,
    )
    refused += [{"contender": name, "reason": said(why)} for name, why in lost.items()]
    entry = timed(work, calls, taken, bounds)
    for run in entry["runs"]:
        run |= checks[run["contender"]]
        if run["contender"] in peaks:
            held = peaks[run["contender"]]
            # Beyond the inputs, which were there before, and their gradients.
            run["peak_bytes"] = None if held is None else max(0, held - work.nbytes)
    if place.device != HOST:
        entry["library"] = who[0].arrays
    return {**entry, "refused": refused}


def prepared(
    who: Sequence[Contender], work: Work, given: dict[str, Data], want: Right, place: Place
) -> tuple[dict[str, Call], dict[str, dict[str, Any]], list[dict[str, str]]]:
    """Return the calls of those whose answer is right, their errors, and why others have none."""
    calls: dict[str, Call] = {}
    checks: dict[str, dict[str, Any]] = {}
    refused = []
    for one in who:
        began, spent = time.monotonic(), place.spent.get(one.name, 0.0)
        try:
            if place.until < float("inf") and spent > ALLOWED_TO.get(one.name, ALLOWED):
                raise NotOffered(f"left out: its first calls had taken {spent:.0f} s")
            if began > place.until:
                raise NotOffered("left out: no time was left")
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
        place.spent[one.name] = spent + time.monotonic() - began
    return calls, checks, refused


def timed(
    work: Work,
    calls: dict[str, Call],
    taken: dict[str, list[float]],
    bounds: dict[str, Bound],
) -> dict[str, Any]:
    """Return the record's entry; the bound is the fastest of those that do what all must do."""
    made: dict[str, Any] = {**work.told(), "bound": None, "runs": [], "refused": []}
    if work.op == "host":
        made["name"] += ", host"
    found = {}
    for name, of in bounds.items():
        if name in taken:
            scale = work.moved / of.moves if of.scales else 1.0
            found[name] = {"by": name, **spread([t * scale for t in taken[name]])}
            found[name]["gb_s"] = of.moves * scale / found[name]["median_ms"] / 1e6
    made["bound"] = min(found.values(), key=lambda one: float(one["median_ms"]), default=None)
    for name, call in calls.items():
        if name in taken:
            times = spread(taken[name])
            ms = times["median_ms"]
            speed = {"gb_s": work.moved / ms / 1e6, "elements_s": work.elements / ms * 1e3}
            run = {"contender": name, "engine": call.engine, **times, **speed}
            made["runs"].append(run)
    return made


# ---- Memory and first calls ---------------------------------------------------------------------


def installed(name: str, threads: int) -> tuple[Contender, Library]:
    """Return a contender and its library; where that is not installed, Missing ends the task."""
    one = CONTENDERS[name]
    one.told()
    return one, Place(threads=threads).library(one)


def memory(works: Sequence[Work], name: str, threads: int, trials: int) -> Iterator[Found]:
    """Read one contender's peak memory on each work."""
    one, where = installed(name, threads)
    for work in works:
        entry = {**work.told(), "contender": name, "peak_bytes": None, "reason": ""}
        try:
            entry["peak_bytes"] = peak(one.prepare(work, where.given(work), where), trials)
        except Exception as reason:  # of any peer: the record says it in place of a figure
            entry["reason"] = said(reason)
        yield "memory", entry


def first(work: Work, name: str, caches: str, threads: int) -> Iterator[Found]:
    """Time the first call of a process, which compiles or loads what was compiled before."""
    one, where = installed(name, threads)
    entry: dict[str, Any] = {**work.told(), "contender": name, "caches": caches, "reason": ""}
    entry |= {"first_ms": None, "second_ms": None}
    try:
        call = one.prepare(work, where.given(work), where)
        with call.within():
            entry["first_ms"], entry["second_ms"] = (once(call) * 1e3 for _ in range(2))
    except Exception as reason:  # of any peer: the record says it in place of a figure
        entry["reason"] = said(reason)
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
