"""What the processes of a run do on the host; each gives plain results as it finds them."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from importlib.util import find_spec
from statistics import median
from typing import Any

import numpy as np

from xloss_conformance.bench import agree, why
from xloss_conformance.timing import Call, in_turns, once, spread

from .contenders import CONTENDERS, Contender, Missing, SameValue, engine_of, tensors
from .memory import peak
from .processes import Found
from .work import Data, Work, data

BLOCKS = (256, 1024, 4096)  # rows of logits that the matrix products hold at once


@dataclass(frozen=True)
class Group:
    """Calls that the same contenders take part in, for so long; they go to a section."""

    works: Sequence[Work]
    names: Sequence[str]
    pace: dict[str, Any]
    section: str = "works"
    tag: dict[str, Any] = field(default_factory=dict)  # goes into each result


def times(groups: Sequence[Group], threads: int) -> Iterator[Found]:
    """Time the contenders on each work, in turns."""
    for group in groups:
        who = []
        for one in (CONTENDERS[name] for name in group.names):
            try:
                yield "contenders", one.told()
                who.append(one)
            except Missing as missing:
                yield "missing", str(missing)
        _settle(threads)
        for work in group.works:
            given = data(work)
            calls, refused = prepared(who, work, given, threads)
            least = bounds(work, given, threads)
            taken = in_turns({**least, **calls}, **group.pace)
            made = timed(work, calls, refused, taken, list(least))
            yield group.section, {**group.tag, **made}
            del given, calls, least


def _settle(threads: int) -> None:
    if "torch" in sys.modules:
        import torch

        torch.set_num_threads(threads)


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
            right = right or got
            agree(got, right, 0.02 if work.dtype in ("bfloat16", "float16") else 1e-3)
            if not one.peer and not call.engine:
                kind = work.dtype, work.axis, work.features, work.gradient
                call = replace(call, engine=engine_of(one, *kind))
        except SameValue:
            continue
        except Exception as reason:  # a compiler that is not here, too little memory
            refused.append({"contender": one.name, "reason": why(reason)})
            continue
        calls[one.name] = call
    return calls, refused


def timed(
    work: Work,
    calls: dict[str, Call],
    refused: list[dict[str, str]],
    taken: dict[str, list[float]],
    bound: Sequence[str] = (),
) -> dict[str, Any]:
    """Return the record's entry; the bound is the fastest of those that do what all must do."""
    made: dict[str, Any] = {**work.told(), "bound": None, "runs": [], "refused": refused}
    found = {name: spread(seconds) for name, seconds in taken.items()}
    if bound:
        best = min(bound, key=lambda name: float(found[name]["median_ms"]))
        made["bound"] = {"by": best, **found[best]}
        made["bound"]["gb_s"] = work.nbytes / found[best]["median_ms"] / 1e6
    for name, call in calls.items():
        ms = found[name]["median_ms"]
        speed = {"gb_s": work.moved / ms / 1e6, "elements_s": work.elements / ms * 1e3}
        made["runs"].append({"contender": name, "engine": call.engine, **found[name], **speed})
    return made


# ---- What bounds a loss -------------------------------------------------------------------------


def bounds(work: Work, given: Data, threads: int) -> dict[str, Call]:
    """Return calls that do what every implementation must: read the logits once, or multiply."""
    if work.features:
        blocks = [n for n in BLOCKS if n <= len(given.x)] or [len(given.x)]
        named = {f"torch.matmul, {n} rows at a time": n for n in blocks}
        torch_is_here = find_spec("torch") is not None
        return {k: _products(work, given, n) for k, n in named.items() if torch_is_here}
    values = np.ones(max(threads, work.nbytes // 4), np.float32)
    parts = np.array_split(values, threads)
    pool = ThreadPoolExecutor(threads)
    read = Call(lambda: max(map(float, pool.map(np.max, parts))))
    found = {f"numpy.max, {threads} threads": read}
    if find_spec("torch"):
        import torch

        tensor = torch.from_numpy(values)
        found[f"torch.sum, {threads} threads"] = Call(lambda: torch.sum(tensor))
    return found


def _products(work: Work, given: Data, rows: int) -> Call:
    """Return the products that the linear loss and its gradients stand on, so many rows a time."""
    import torch

    x, weight, _ = tensors(given)
    logits = torch.empty((min(rows, len(x)), len(weight)), dtype=x.dtype)

    def run() -> Any:
        to_x, to_weight = torch.empty_like(x), torch.zeros_like(weight)
        for at in range(0, len(x), rows):
            part = x[at : at + rows]
            z = torch.matmul(part, weight.T, out=logits[: len(part)])
            if work.gradient:
                torch.matmul(z, weight, out=to_x[at : at + rows])
                to_weight.addmm_(z.T, part)
        return to_x, to_weight

    return Call(run)


# ---- Memory, first calls, imports ---------------------------------------------------------------


def memory(works: Sequence[Work], name: str, threads: int, trials: int) -> Iterator[Found]:
    """Read one contender's peak memory on each work."""
    one = CONTENDERS[name]
    try:
        one.told()
    except Missing as missing:
        yield "missing", str(missing)
        return
    _settle(threads)
    for work in works:
        given = data(work)
        entry = {**work.told(), "contender": name, "peak_bytes": None, "reason": ""}
        try:
            entry["peak_bytes"] = peak(one.prepare(work, given, threads), trials)
        except SameValue:
            continue
        except Exception as reason:
            entry["reason"] = why(reason)
        yield "memory", entry
        del given


def first(work: Work, name: str, caches: str, threads: int) -> Iterator[Found]:
    """Time the first call of a process, which compiles or loads what was compiled before."""
    one = CONTENDERS[name]
    entry: dict[str, Any] = {**work.told(), "contender": name, "caches": caches, "reason": ""}
    entry |= {"first_ms": None, "second_ms": None}
    try:
        one.told()
        _settle(threads)
        call = one.prepare(work, data(work), threads)
        with call.within():
            entry["first_ms"], entry["second_ms"] = (once(call) * 1e3 for _ in range(2))
    except Missing as missing:
        yield "missing", str(missing)
        return
    except Exception as reason:
        entry["reason"] = why(reason)
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
    ran = [
        subprocess.run(
            command, capture_output=True, text=True, check=True, stdin=subprocess.DEVNULL
        )
        for _ in range(rounds + 1)
    ]
    yield "imports", {"import_ms": median(float(one.stdout) for one in ran[1:])}
