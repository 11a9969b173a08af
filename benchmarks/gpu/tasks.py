"""What the processes of a run do on a GPU: compare answers, then time calls in turns."""

from __future__ import annotations

import gc
import time
from collections.abc import Iterator, Sequence
from dataclasses import replace
from importlib.metadata import version
from typing import Any

import xloss
from xloss_conformance.timing import Call, NotOffered, spread

from ..contenders import Contender, Missing, SameValue
from ..processes import Found
from ..work import Data, Work
from . import check, plan
from .ahead import installed, opened, said


def times(
    threads: int,
    device: str,
    library: str,
    works: Sequence[Work],
    names: Sequence[str],
    seconds: float,
    rounds: int,
    most: float,
    until: float,
    tiny: bool = False,
    engine: str = "",
) -> Iterator[Found]:
    """Time a library's contenders on each work, in turns, and a copy of the logits with them."""
    try:
        where, known = opened(library, device)
    except Missing as missing:
        yield "missing", str(missing)
        return
    here = []
    for name in names:
        needed = known[name].distribution
        if needed and not installed(needed):
            peer = name.partition(",")[0].lower()
            yield "missing", f"{peer}: {needed} is not installed: pip install {needed}"
        else:
            here.append(name)
    yield from _who(where, known, here)
    spent = dict.fromkeys(here, 0.0)

    def measured(work: Work) -> dict[str, Any]:
        where.fresh()
        given, want = where.given(work)
        who = [known[name] for name in here if plan.takes_part(name, work, tiny)]
        asked = engine or _engine(device)
        calls, checks, refused = prepared(who, work, given, want, asked, spent, until)
        peaks = {name: where.peak(call) for name, call in calls.items()} if work.features else {}
        if work.op == plan.HOST:
            taken = of_the_host(where, calls, rounds, 5 if tiny else plan.HOST_RUNS)
        else:
            bound = where.bound(work, given)
            calls |= {} if bound is None else dict([bound])
            taken = in_turns(where, calls, refused, seconds, rounds, most)
        return _told(work, library, calls, refused, taken, checks, peaks)

    for at, work in enumerate(works):
        if time.monotonic() > until:
            left = ", ".join(one.name for one in works[at:])
            yield "missing", f"no time was left to measure, with {library}: {left}"
            return
        try:
            yield "works", measured(work)
        except Exception as reason:  # of the arrays, or of what all are held against
            yield "missing", f"not measured, with {library}: {work.name}: {said(reason)}"


def _who(where: Any, known: dict[str, Contender], names: Sequence[str]) -> Iterator[Found]:
    for one in (known[name] for name in names):
        if not one.peer:
            number = xloss.__version__
        elif one.distribution:
            number = version(one.distribution)
        else:
            number = where.versions[one.name]
        about = {"name": one.name, "peer": one.peer, "library": one.library}
        yield "contenders", {**about, "call": one.said, "version": number}


def _engine(device: str) -> str:
    return "cuda" if device == "cuda" else "cpu"


def prepared(
    who: Sequence[Contender],
    work: Work,
    given: Data,
    want: check.Right,
    engine: str,
    spent: dict[str, float],
    until: float = float("inf"),
) -> tuple[dict[str, Call], dict[str, dict[str, Any]], list[dict[str, str]]]:
    """Return the calls of those whose answer is right, their errors, and why others have none.

    `spent` adds up the seconds of each contender's first calls, which compile: who has had its
    allowance is left out.
    """
    calls: dict[str, Call] = {}
    checks: dict[str, dict[str, Any]] = {}
    refused = []
    for one in who:
        allowance = plan.ALLOWANCE.get(one.name, 40.0)
        reason = ""
        if spent.get(one.name, 0.0) > allowance:
            reason = f"left out: its first calls had taken {spent[one.name]:.0f} s"
        elif time.monotonic() > until:
            reason = "left out: no time was left"
        began = time.monotonic()
        try:
            if reason:
                raise NotOffered(reason)
            call = one.prepare(work, given, 1)
            call.before()
            checks[one.name] = check.compared(work, call, call.run(), want)
            call.before()
            calls[one.name] = replace(call, engine="") if one.peer else _chosen(call, engine)
        except SameValue:
            continue
        except Exception as error:
            refused.append({"contender": one.name, "reason": said(error)})
        spent[one.name] = spent.get(one.name, 0.0) + time.monotonic() - began
    return calls, checks, refused


def _chosen(call: Call, engine: str) -> Call:
    """Return a call of xloss that tells which engine computes it."""
    if call.engine:
        return call
    try:
        with xloss.use_engine(engine):
            call.before()
            call.run()
            call.before()
    except xloss.EngineUnavailable:
        return replace(call, engine="generic")
    return replace(call, engine=engine)


def in_turns(
    where: Any,
    calls: dict[str, Call],
    refused: list[dict[str, str]],
    seconds: float,
    rounds: int,
    most: float = float("inf"),
) -> dict[str, list[float]]:
    """Return the seconds of a call in every turn; who fails, by memory say, is refused after all.

    A turn is as many calls as take so many seconds, and one before them that is not timed. Who
    would take longer than `most` seconds has fewer turns, but one.
    """
    taken: dict[str, list[float]] = {name: [] for name in calls}
    runs: dict[str, int] = {}
    turns = dict.fromkeys(calls, rounds)
    gc.collect()
    for turn in range(rounds + 1):
        for name in list(calls):
            if turn > turns[name]:
                continue
            try:
                took = where.seconds(calls[name], runs.get(name, 1))
            except Exception as reason:
                refused.append({"contender": name, "reason": said(reason)})
                del calls[name], taken[name]
                continue
            if turn == 0:  # compiles, grows pools; not counted
                took = max(took, 1e-9)
                runs[name] = max(1, min(where.most, int(seconds / took)))
                turns[name] = max(1, int(min(rounds, most / ((runs[name] + 1) * took))))
            else:
                taken[name].append(took)
    return taken


def of_the_host(where: Any, calls: dict[str, Call], rounds: int, runs: int) -> Any:
    """Return what a call costs the host: many in a row, without waiting for the GPU."""
    taken: dict[str, list[float]] = {name: [] for name in calls}
    gc.collect()
    gc.disable()
    for _ in range(rounds):
        for name, call in calls.items():
            call.before()
            call.run()
            where.wait()
            start = time.perf_counter()
            for _ in range(runs):
                call.before()
                call.run()
            taken[name].append((time.perf_counter() - start) / runs)
            where.wait()
            call.before()
    gc.enable()
    return taken


KINDS = {plan.HOST: "host", plan.LINEAR: "linear", plan.SEGMENTATION: "segmentation"}


def _told(
    work: Work,
    library: str,
    calls: dict[str, Call],
    refused: list[dict[str, str]],
    taken: dict[str, list[float]],
    checks: dict[str, dict[str, Any]],
    peaks: dict[str, int | None],
) -> dict[str, Any]:
    """Return the record's entry; the bound is what must be done, at the speed of the copy."""
    kind = KINDS.get(work.op, "gradient" if work.gradient else "forward")
    made: dict[str, Any] = {
        **work.told(),
        "kind": kind,
        "library": library,
        "bound": None,
        "runs": [],
        "refused": refused,
    }
    if kind == "host":
        made["name"] += ", host"
    for name, call in calls.items():
        of = spread(taken[name])
        speed = work.moved / of["median_ms"] / 1e6
        if name == "copy":
            least = [t * work.moved / (2 * work.nbytes) for t in taken[name]]
            made["bound"] = {"by": "at the speed of a copy", **spread(least)}
            made["bound"]["gb_s"] = work.moved / made["bound"]["median_ms"] / 1e6
        elif name == "products":
            made["bound"] = {"by": "the three products alone", **of, "gb_s": speed}
        else:
            run = {"contender": name, "engine": call.engine, **of, **checks[name]}
            run |= {"gb_s": speed, "elements_s": work.elements / of["median_ms"] * 1e3}
            if name in peaks:
                peak = peaks[name]
                # Beyond the inputs, which were there before, and their gradients.
                run["peak_bytes"] = None if peak is None else max(0, peak - work.nbytes)
            made["runs"].append(run)
    return made
