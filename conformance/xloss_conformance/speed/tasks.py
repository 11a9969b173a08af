"""What the processes of a run do; each gives plain results as it finds them."""

from __future__ import annotations

import statistics
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from typing import Any

from ..model import Missing
from .clock import Call, in_turns, spread
from .contenders import Contender, NotOffered, SameValue, agree, chosen, contender
from .memory import NoMemory, peak
from .reading import bounds
from .work import Data, Work, data

Found = tuple[str, Any]


def times(
    works: Sequence[Work],
    names: Sequence[str],
    threads: int,
    *,
    seconds: float,
    least: int,
    most: int,
) -> Iterator[Found]:
    """Time the contenders on each work, in turns."""
    who, missing = present(names)
    yield from missing
    _settle(threads)
    yield "contenders", [told(one) for one in who]
    for work in works:
        given = data(work)
        calls, refused = prepared(who, work, given, threads)
        least_of = bounds(work, given, threads)
        taken = in_turns({**least_of, **calls}, seconds=seconds, least=least, most=most)
        yield "result", timed(work, calls, refused, taken, list(least_of))
        del given, calls, least_of


def present(names: Sequence[str]) -> tuple[list[Contender], list[Found]]:
    """Return the contenders that can be measured here, and what to say of the others."""
    who, missing = [], []
    for name in names:
        try:
            who.append(contender(name))
        except Missing as said:
            missing.append(("missing", str(said)))
    return who, missing


def _settle(threads: int) -> None:
    if "torch" in sys.modules:
        import torch

        torch.set_num_threads(threads)


def told(one: Contender) -> dict[str, Any]:
    return {
        "name": one.name,
        "peer": one.peer,
        "library": one.library,
        "version": one.version,
        "call": one.said,
    }


def prepared(
    who: Sequence[Contender], work: Work, given: Data, threads: int
) -> tuple[dict[str, Call], list[dict[str, str]]]:
    """Return the calls of those who offer one, and who does not; the answers are compared."""
    calls: dict[str, Call] = {}
    refused = []
    right: tuple[float, Any] | None = None
    for one in who:
        try:
            call = one.prepare(work, given, threads)
            with call.within():
                call.before()
                got = call.answer(call.run())
            call = call if one.peer else chosen(call)
            right = right or got
            agree(work, got, right)
        except SameValue:
            continue
        except Exception as reason:  # a compiler that is not here, too little memory
            refused.append({"contender": one.name, "reason": why(reason)})
            continue
        calls[one.name] = call
    return calls, refused


def why(reason: Exception) -> str:
    """Return in one line why there is no figure."""
    if isinstance(reason, NotOffered | NoMemory):
        return str(reason)
    lines = str(reason).strip().splitlines() or [""]
    return f"fails: {type(reason).__name__}: {lines[0]}"


def timed(
    work: Work,
    calls: dict[str, Call],
    refused: list[dict[str, str]],
    taken: dict[str, list[float]],
    bound: Sequence[str],
) -> dict[str, Any]:
    made: dict[str, Any] = {**work.told(), "bound": None, "runs": [], "refused": refused}
    found = {name: spread(seconds) for name, seconds in taken.items()}
    if bound:
        best = min(bound, key=lambda name: float(found[name]["median_ms"]))
        made["bound"] = {"by": best, **found[best]}
        made["bound"]["gb_s"] = work.nbytes / found[best]["median_ms"] / 1e6
    for name, call in calls.items():
        ms = found[name]["median_ms"]
        speed = {"gb_s": work.moved / ms / 1e6, "elements_s": work.elements / ms * 1e3}
        run = {"contender": name, "engine": call.engine, **found[name], **speed}
        made["runs"].append(run)
    return made


def memory(works: Sequence[Work], name: str, threads: int, trials: int) -> Iterator[Found]:
    """Read one contender's peak memory on each work."""
    try:
        one = contender(name)
    except Missing as missing:
        yield "missing", str(missing)
        return
    _settle(threads)
    found = []
    for work in works:
        given = data(work)
        entry = {**work.told(), "contender": name, "peak_bytes": None, "reason": ""}
        try:
            call = one.prepare(work, given, threads)
            entry["peak_bytes"] = peak(call, trials)
            del call
        except Exception as reason:
            entry["reason"] = why(reason)
        found.append(entry)
        del given
    for entry in found:
        yield "result", entry


def first(work: Work, name: str, threads: int) -> Iterator[Found]:
    """Time the first call of a process, which compiles or loads what was compiled before."""
    try:
        one = contender(name)
    except Missing as missing:
        yield "missing", str(missing)
        return
    _settle(threads)
    given = data(work)
    entry: dict[str, Any] = {**work.told(), "contender": name, "reason": ""}
    entry |= {"first_ms": None, "second_ms": None}
    try:
        call = one.prepare(work, given, threads)
        for key in ("first_ms", "second_ms"):
            call.before()
            start = time.perf_counter()
            call.run()
            entry[key] = (time.perf_counter() - start) * 1e3
    except Exception as reason:
        entry["reason"] = why(reason)
    yield "result", entry


PROBE = """
import numpy, time
start = time.perf_counter()
import xloss
print((time.perf_counter() - start) * 1e3)
"""


def imports(rounds: int, threads: int) -> Iterator[Found]:
    """Time what importing xloss adds to importing NumPy."""
    found = []
    for _ in range(rounds + 1):
        ran = subprocess.run(
            [sys.executable, "-c", PROBE], capture_output=True, text=True, check=True
        )
        found.append(float(ran.stdout))
    yield "result", {"import_ms": statistics.median(found[1:])}


def at_scale(task: str, **arguments: Any) -> Iterator[Found]:
    """Do a task of the file that needs its library."""
    from . import clusters, ranks

    found = clusters.TASKS if task in clusters.TASKS else ranks.TASKS
    yield from found[task](**arguments)


def on_gpu(task: str, **arguments: Any) -> Iterator[Found]:
    """Do a task of those for a GPU."""
    from . import gpu_tasks

    yield from gpu_tasks.TASKS[task](**arguments)


TASKS = {
    "times": times,
    "memory": memory,
    "first": first,
    "imports": imports,
    "at_scale": at_scale,
    "on_gpu": on_gpu,
}
