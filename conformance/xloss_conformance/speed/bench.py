"""A run as one record of plain values: the only input of the table, of `--json` and of the page."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import xloss

from ..model import Missing
from ..report.record import machine, plain, versions
from . import gpu
from .plan import Plan, chosen, steps
from .processes import BenchFailed, results
from .targets import judged

SCHEMA = 1
SECTIONS = (
    "works",
    "by_classes",
    "by_rows",
    "by_threads",
    "memory",
    "first_call",
    "imports",
)


def bench(
    plan: Plan,
    progress: Callable[[int, int], None] = lambda done, total: None,
    command: str = "",
    keep: Callable[[dict[str, Any]], None] | None = None,
) -> dict[str, Any]:
    """Measure what is asked; BadPlan, Missing and BenchFailed say in their first line why not.

    `keep` is given the record after every result, so that a run that is cut off leaves what it has
    measured.
    """
    ops, peers, threads = chosen(plan)
    if gpu.OP in ops:
        gpu.present(plan.tiny)
    todo = steps(plan)
    start, load = time.monotonic(), _load()
    sections: dict[str, list[dict[str, Any]]] = {
        name: [] for name in (*SECTIONS, *(step.section for step in todo))
    }
    contenders: dict[str, dict[str, Any]] = {}
    missing: dict[str, None] = {}
    where, packages = machine(), versions()

    def made() -> dict[str, Any]:
        record: dict[str, Any] = {
            "schema": SCHEMA,
            "xloss": xloss.__version__,
            "date": datetime.now(UTC).date().isoformat(),
            "mode": "quick" if plan.quick else "full",
            "command": command,
            "machine": where,
            "versions": packages,
            "threads": threads,
            "load": [load, _load()],
            "ops": list(ops),
            "peers": list(peers),
            "seconds": round(time.monotonic() - start, 3),
            "contenders": list(contenders.values()),
            "missing": list(missing),
            **sections,
        }
        record["targets"] = judged(record)
        return dict(plain(record))

    done, total = 0, sum(step.results for step in todo)
    for step, kind, found in results(todo):
        if kind == "missing":
            for name in plan.peers:
                if found.startswith(f"{name.partition('.')[0]}:"):
                    raise Missing(found)
            missing[found] = None
        elif kind == "contenders":
            contenders |= {one["name"]: one for one in found}
        else:
            sections[step.section].append({**step.tag, **found})
            done += 1
            progress(done, total)
            if keep is not None:
                keep(made())
    if set(ops) == {gpu.OP} and not sections["works"]:
        raise BenchFailed(f"--op {gpu.OP}: nothing was measured: {'; '.join(missing)}")
    return made()


def _load() -> float | None:
    """Return how many processes have been running in the last minute, where the system tells."""
    return round(os.getloadavg()[0], 2) if hasattr(os, "getloadavg") else None
