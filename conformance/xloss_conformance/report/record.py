"""A run as one record of plain values: the only input of the table, of `--json` and of the page.

And what the cells of a record come to: counts, worst errors, and one verdict.
"""

from __future__ import annotations

import os
import platform
from collections import Counter, defaultdict
from collections.abc import Callable, Hashable, Iterable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from math import inf, isfinite, isnan
from typing import TYPE_CHECKING, Any

import xloss

from ..load_object import installed
from ..model import RULES, STATUSES, Case, Verdict
from ..printable import visible, visible_lines
from ..snippet import setup
from .pack import short

if TYPE_CHECKING:
    from ..result import Report

SCHEMA = 1
OF_LINES = {"setup", "got", "want", "call", "calls"}
PACKAGES: tuple[str, ...] = ("numpy", "array-api-compat", "array-api-strict", "torch", "jax")
PACKAGES += ("tensorflow", "dask", "cupy", "numba", "optax", "keras", "scikit-learn", "scipy")
PACKAGES += ("ml_dtypes", "mpmath")


def head() -> dict[str, Any]:
    """Return what every record says first: what ran, when and where."""
    found = {"schema": SCHEMA, "xloss": xloss.__version__}
    found["date"] = datetime.now(UTC).date().isoformat()
    machine = {
        "python": platform.python_version(),
        "platform": f"{platform.system()} {platform.machine()}",
        "processor": _processor(),
        "cores": os.cpu_count(),
    }
    here = {name: installed(name) for name in PACKAGES}
    versions = {name: number for name, number in here.items() if number != "unknown"}
    return {**found, "machine": machine, "versions": versions}


def record(report: Report) -> dict[str, Any]:
    """Return a run as what JSON can hold; numbers that are not finite as "nan", "inf", "-inf"."""
    statuses = Counter(verdict.status for verdict in report.verdicts)
    counts = {status: statuses[status] for status in STATUSES}
    families = Counter(case.family for case in report.cases)
    made: dict[str, Any] = {
        **head(),
        "mode": report.mode,
        "command": report.command,
        "seconds": round(report.seconds, 3),
        "subjects": [told._asdict() for told in report.subjects],
        "missing": report.missing,
        "families": [{"name": name, "cases": n} for name, n in families.items()],
        "rules": RULES,
        "cases": [_case(case) for case in report.cases],
        "cells": [_cell(verdict) for verdict in report.verdicts],
        "deviations": {"declared": counts["declared"], "stale": report.stale},
        "summary": counts,
        "ok": report.ok,
    }
    made = plain(made)
    return made


def plain(value: Any, key: str = "") -> Any:
    """Return a value as strict JSON can hold it, and text as a terminal only shows it."""
    if isinstance(value, float) and not isfinite(value):
        return str(value)
    if isinstance(value, str):
        return visible_lines(value) if key in OF_LINES else visible(value)
    if isinstance(value, dict):
        under = {k: key if key in OF_LINES else str(k) for k in value}
        return {plain(k): plain(v, under[k]) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [plain(v, key) for v in value]
    return value


def _processor() -> str:
    try:
        with open("/proc/cpuinfo", encoding="utf-8") as file:
            names = [line.partition(":")[2] for line in file if line.startswith("model name")]
    except OSError:
        names = []
    return (names[0] if names else platform.processor()).strip()


def _case(case: Case) -> dict[str, Any]:
    named = ("name", "family", "label", "loss", "reason", "see", "gap", "quick")
    told = {name: getattr(case, name) for name in named}
    return {**told, "setup": setup(case)}


def _cell(verdict: Verdict) -> dict[str, Any]:
    named = ["subject", "status", "value_ulp", "grad_ulp", "value_share", "grad_share", "note"]
    named += ["findings", "got", "want", "call"]
    told = {name: getattr(verdict, name) for name in named}
    told["findings"] = [finding._asdict() for finding in verdict.findings]
    return {"case": verdict.case.name, **told}


# ---- What it comes to ----------------------------------------------------------------------------

Record = dict[str, Any]
Cell = dict[str, Any]
KINDS = {"candidate": "candidates", "peer": "the peers", "xloss": "xloss"}  # as they are told


@dataclass
class Tally:
    """What some cells come to."""

    counts: Counter[str] = field(default_factory=Counter)  # by status
    value: float | None = None  # the worst errors in ulp, where there is any
    grad: float | None = None

    def add(self, cell: Cell) -> None:
        self.counts[cell["status"]] += 1
        self.value = _worst(self.value, cell["value_ulp"])
        self.grad = _worst(self.grad, cell["grad_ulp"])

    @property
    def judged(self) -> int:
        return self.counts.total() - self.counts["refused"]


def _worst(known: float | None, ulp: Any) -> float | None:
    """Return the larger error, to as many digits as the page keeps, so that all say the same."""
    if ulp is None:
        return known
    kept = float(short(ulp))
    return max(known or 0.0, inf if isnan(kept) else kept)


def tallies(cells: Iterable[Cell], place: Callable[[Cell], Hashable]) -> dict[Any, Tally]:
    """Return what the cells of each place come to; where there is no cell, to nothing."""
    found: dict[Any, Tally] = defaultdict(Tally)
    for cell in cells:
        found[place(cell)].add(cell)
    return found


def by_kind(record: Record) -> dict[str, Tally]:
    """Return what the cells of each kind of subject come to, in the order of telling."""
    kinds = {subject["name"]: subject["kind"] for subject in record["subjects"]}
    found = tallies(record["cells"], lambda cell: kinds[cell["subject"]])
    return {kind: found[kind] for kind in KINDS if kind in found}


def verdict(record: Record) -> str:
    """Return the verdict in one line."""
    said = []
    for kind, of in by_kind(record).items():
        names = {s["name"] for s in record["subjects"] if s["kind"] == kind}
        who = names.pop() if kind == "candidate" and len(names) == 1 else KINDS[kind]
        s = "" if kind != "xloss" and who == KINDS[kind] else "s"
        if not of.judged:
            said.append(f"{who} {'was' if s else 'were'} asked nothing")
        elif of.counts["fail"]:
            said.append(f"{who} fail{s} {of.counts['fail']:,} of {of.judged:,} calls")
        elif of.counts["declared"]:
            passed = f"{of.counts['pass']:,} of {of.judged:,} calls"
            said.append(f"{who} pass{'es' * bool(s)} {passed}, the others as declared")
        else:
            said.append(f"{who} pass{'es' * bool(s)} all {of.judged:,} calls")
    stale = len(record["deviations"]["stale"])
    if stale:
        said.append(f"{stale} stale deviation{'s' * (stale > 1)}")
    line = "; ".join(said) or "nothing was judged"
    return line[0].upper() + line[1:] if line.startswith("the ") else line
