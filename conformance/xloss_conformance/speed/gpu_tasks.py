"""What the processes of a run do on a GPU: compare with the oracle, then time in turns."""

from __future__ import annotations

import gc
import os
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import replace
from importlib import import_module
from importlib.metadata import PackageNotFoundError, version
from typing import Any

import xloss

from ..homes import Missing
from . import gpu, gpu_check
from .clock import Call, spread
from .contenders import Contender, NotOffered, SameValue, agree
from .tasks import Found, why
from .work import Data, Work

FILES = {"torch": "by_torch_gpu", "cupy": "by_cupy", "jax": "by_jax_gpu"}
PACKAGES = ("torch", "triton", "cuda-core", "cupy-cuda12x", "cupy-cuda13x", "jax", "optax")


def opened(library: str, device: str) -> tuple[Any, dict[str, Contender]]:
    """Return a library's device and its contenders; Missing says why there is none."""
    os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")  # else JAX takes 3/4 of it
    try:
        module = import_module(f".{FILES[library]}", __package__)
    except ModuleNotFoundError as error:
        raise Missing(f"{library}: {error.name} is not installed") from error
    return module.Device(device), module.CONTENDERS


def facts(threads: int, device: str) -> Iterator[Found]:
    """Tell which GPU this is, and what runs on it."""
    import torch

    found = {}
    for name in PACKAGES:
        with suppress(PackageNotFoundError):
            found[name] = version(name)
    told: dict[str, Any] = {"rehearsal": device != "cuda", "name": "none", "versions": found}
    if device == "cuda":
        if not torch.cuda.is_available():
            raise Missing("PyTorch finds no GPU: a CUDA build of it, whatever else is here")
        has = torch.cuda.get_device_properties(0)
        told |= {
            "name": has.name, "capability": f"{has.major}.{has.minor}",
            "memory_bytes": has.total_memory, "l2_bytes": getattr(has, "L2_cache_size", 0),
            "processors": has.multi_processor_count, "cuda": str(torch.version.cuda),
        }  # fmt: skip
    yield "result", told


def check(threads: int, device: str, library: str, works: Sequence[Work]) -> Iterator[Found]:
    """Compare xloss with the oracle on few rows: each way through it that is timed."""
    try:
        where, known = opened(library, device)
    except Missing as missing:
        yield "missing", str(missing)
        return
    who = [one for one in known.values() if not one.peer and "compile" not in one.name]
    for work, answer in zip(works, gpu_check.answers(works, threads), strict=True):
        given = where.arrays(work, gpu.data(work))
        entry: dict[str, Any] = {**work.told(), "library": library, "of": []}
        for one in who:
            with suppress(SameValue):
                one.prepare(work, given, threads)
                found = _compared(one, work, given, answer)
                entry["of"].append({"contender": one.name, **found})
        yield "result", entry


def _compared(one: Contender, work: Work, given: Data, answer: gpu_check.Answer) -> dict[str, Any]:
    try:
        call = one.prepare(work, given, 1)
        call.before()
        return {**gpu_check.compared(work, call.answer(call.run()), answer), "reason": ""}
    except Exception as reason:
        worst = gpu_check.BEYOND
        return {"value_ulp": worst, "gradient_ulp": worst, "reason": said(reason)}


def times(
    threads: int, device: str, library: str, works: Sequence[Work], names: Sequence[str],
    seconds: float, rounds: int, limit: float = gpu.COMPILING, engine: str = "",
) -> Iterator[Found]:  # fmt: skip
    """Time a library's contenders on each work, in turns, and a copy of the logits with them."""
    try:
        where, known = opened(library, device)
    except Missing as missing:
        yield "missing", str(missing)
        return
    yield from _who(where, known, names)
    began = time.monotonic()
    for work in works:
        late = time.monotonic() - began > limit
        where.fresh()
        drawn = gpu.data(work)
        given = where.arrays(work, drawn)
        who = [known[name] for name in names if not (late and "compile" in name)]
        calls, refused = prepared(who, work, drawn, given, engine or _engine(device))
        if late:
            reason = f"left out: compiling other shapes had taken {limit:.0f} s"
            refused += [{"contender": n, "reason": reason} for n in names if "compile" in n]
        copy = where.copy(given.x)
        if copy is not None:
            calls["copy"] = copy
        taken = in_turns(where, calls, refused, seconds, rounds)
        yield "result", _told(work, library, calls, refused, taken)
        del given, calls, copy


def host(
    threads: int, device: str, library: str, names: Sequence[str], runs: int, rounds: int,
    engine: str = "",
) -> Iterator[Found]:  # fmt: skip
    """Time what a small call costs the host: many in a row, without waiting for the GPU."""
    try:
        where, known = opened(library, device)
    except Missing:  # as the step before has said
        return
    work = Work(gpu.OP, gpu.HOST_SHAPE)
    drawn = gpu.data(work)
    given = where.arrays(work, drawn)
    who = [known[name] for name in names]
    calls, refused = prepared(who, work, drawn, given, engine or _engine(device))
    taken: dict[str, list[float]] = {name: [] for name in calls}
    gc.disable()
    for _ in range(rounds):
        for name, call in calls.items():
            call.run()
            where.wait()
            start = time.perf_counter()
            for _ in range(runs):
                call.run()
            taken[name].append((time.perf_counter() - start) / runs)
            where.wait()
    gc.enable()
    told = _told(work, library, calls, refused, taken)
    yield "result", {**told, "kind": "host", "name": f"{work.name}, host"}


def _who(where: Any, known: dict[str, Contender], names: Sequence[str]) -> Iterator[Found]:
    yield "contenders", [
        {
            "name": one.name, "peer": one.peer, "library": one.library, "call": one.said,
            "version": where.versions[one.name] if one.peer else xloss.__version__,
        }
        for one in (known[name] for name in names)
    ]  # fmt: skip


def _engine(device: str) -> str:
    return "cuda" if device == "cuda" else "cpu"


def prepared(
    who: Sequence[Contender], work: Work, drawn: Data, given: Data, engine: str
) -> tuple[dict[str, Call], list[dict[str, str]]]:
    """Return the calls of those whose answer is right, and why there is none of the others."""
    calls: dict[str, Call] = {}
    refused = []
    right = gpu.expected(work, drawn)
    labels = drawn.y[gpu.rows_read(work)]
    for one in who:
        try:
            call = one.prepare(work, given, 1)
            call.before()
            value, rows = call.answer(call.run())
            agree(work, (value, None if rows is None else gpu.spots(rows, labels)), right)
            call.before()
            calls[one.name] = call if one.peer else _chosen(call, engine)
        except SameValue:
            continue
        except Exception as reason:
            refused.append({"contender": one.name, "reason": said(reason)})
    return calls, refused


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
    where: Any, calls: dict[str, Call], refused: list[dict[str, str]], seconds: float, rounds: int
) -> dict[str, list[float]]:
    """Return the seconds of a call in every turn; who fails, by memory say, is refused after all.

    A turn is as many calls as take so many seconds, and one before them that is not timed.
    """
    taken: dict[str, list[float]] = {name: [] for name in calls}
    runs: dict[str, int] = {}
    gc.collect()
    for turn in range(rounds + 1):
        for name in list(calls):
            try:
                took = where.seconds(calls[name], runs.get(name, 1))
            except Exception as reason:
                refused.append({"contender": name, "reason": said(reason)})
                del calls[name], taken[name]
                continue
            if turn == 0:  # compiles, grows pools; not counted
                runs[name] = max(1, min(where.most, int(seconds / max(took, 1e-9))))
            else:
                taken[name].append(took)
    return taken


def _told(
    work: Work, library: str, calls: dict[str, Call], refused: list[dict[str, str]],
    taken: dict[str, list[float]],
) -> dict[str, Any]:  # fmt: skip
    """Return the record's entry; the bound is what must be moved, at the speed of the copy."""
    kind = "gradient" if work.gradient else "forward"
    made: dict[str, Any] = {
        **work.told(), "kind": kind, "library": library, "bound": None, "runs": [],
        "refused": refused,
    }  # fmt: skip
    for name, call in calls.items():
        if name == "copy":
            least = [t * work.moved / (2 * work.nbytes) for t in taken[name]]
            made["bound"] = {"by": "at the speed of a copy", **spread(least)}
            made["bound"]["gb_s"] = work.moved / made["bound"]["median_ms"] / 1e6
            continue
        of = spread(taken[name])
        speed = {"gb_s": gpu.moved(work, name) / of["median_ms"] / 1e6,
                 "elements_s": work.elements / of["median_ms"] * 1e3}  # fmt: skip
        made["runs"].append({"contender": name, "engine": call.engine, **of, **speed})
    return made


def said(reason: Exception) -> str:
    """Return in one line why there is no figure; who needs more memory than there is says that."""
    if "OutOfMemory" in type(reason).__name__ or "RESOURCE_EXHAUSTED" in str(reason):
        return "out of memory"
    return str(reason) if isinstance(reason, NotOffered) else why(reason)


TASKS: dict[str, Callable[..., Iterator[Found]]] = {
    "facts": facts,
    "check": check,
    "times": times,
    "host": host,
}
