"""A run as one record of plain values: the only input of the table, of `--json` and of the page.

And what the cells of a record come to: counts, worst errors, and one verdict.
"""

from __future__ import annotations

import os
import platform
from collections import Counter, defaultdict
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from math import inf, isfinite, isnan
from typing import TYPE_CHECKING, Any

import xloss

from ..load_object import installed
from ..model import RULES, STATUSES, Case, Verdict
from ..printable import visible, visible_lines
from ..snippet import setup

if TYPE_CHECKING:
    from ..result import Report

SCHEMA = 1
ERRORS = ("value_ulp", "grad_ulp", "value_share", "grad_share")  # of a cell; three digits are kept
OF_LINES = {"setup", "got", "want", "call", "calls"}
PACKAGES: tuple[str, ...] = ("numpy", "array-api-compat", "array-api-strict", "torch", "jax")
PACKAGES += ("tensorflow", "dask", "cupy", "numba", "optax", "keras", "scikit-learn", "scipy")
PACKAGES += ("ml_dtypes", "mpmath")


def head() -> dict[str, Any]:
    """Return what every record says first: what ran, when and where."""
    here = {name: installed(name) for name in PACKAGES}
    return {
        "schema": SCHEMA,
        "xloss": xloss.__version__,
        "date": datetime.now(UTC).date().isoformat(),
        "machine": {
            "python": platform.python_version(),
            "platform": f"{platform.system()} {platform.machine()}",
            "processor": _processor(),
            "cores": os.cpu_count(),
        },
        "versions": {name: number for name, number in here.items() if number != "unknown"},
    }


def record(report: Report) -> dict[str, Any]:
    """Return a run as what JSON can hold; numbers that are not finite as "nan", "inf", "-inf"."""
    statuses = Counter(verdict.status for verdict in report.verdicts)
    counts = {status: statuses[status] for status in STATUSES}
    families = Counter(case.family for case in report.cases)
    made = {
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
    return dict(plain(made))


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
    return {name: getattr(case, name) for name in named} | {"setup": setup(case)}


def _cell(verdict: Verdict) -> dict[str, Any]:
    named = ["subject", "status", "value_ulp", "grad_ulp", "value_share", "grad_share", "note"]
    named += ["findings", "got", "want", "call"]
    told = {name: getattr(verdict, name) for name in named}
    told |= {name: told[name] and float(f"{told[name]:.3g}") for name in ERRORS}
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
    worst: float | None = None  # the worst error in ulp, where there is any

    def add(self, cell: Cell) -> None:
        self.counts[cell["status"]] += 1
        for ulp in [float(cell[of]) for of in ("value_ulp", "grad_ulp") if cell[of] is not None]:
            self.worst = max(self.worst or 0.0, inf if isnan(ulp) else ulp)

    @property
    def judged(self) -> int:
        return self.counts.total() - self.counts["refused"]

    def __str__(self) -> str:
        """Return it as an entry of a table: how many fail, or else the worst error."""
        if self.counts["fail"]:
            return f"{self.counts['fail']}/{self.judged} fail"
        if self.counts["declared"]:
            return "declared"
        if not self.judged:
            return "-"
        return "ok" if self.worst is None else f"{self.worst:.1f}"


def by_family(
    record: Record, column: Callable[[Record], str]
) -> tuple[list[str], list[tuple[str, int, list[Tally]]]]:
    """Return the columns of subjects that were judged, and a row for each family and for all.

    A row is a name, how many cases there are, and what they come to in each column.
    """
    subjects = sorted(record["subjects"], key=lambda subject: [*KINDS].index(subject["kind"]))
    columns = {subject["name"]: column(subject) for subject in subjects}
    families = {case["name"]: case["family"] for case in record["cases"]}
    found: dict[tuple[str, str], Tally] = defaultdict(Tally)
    for cell in record["cells"]:
        for name in (families[cell["case"]], "all"):
            found[name, columns[cell["subject"]]].add(cell)
    shown = [of for of in dict.fromkeys(columns.values()) if of and found["all", of].judged]
    counts = {family["name"]: family["cases"] for family in record["families"]}
    counts["all"] = len(record["cases"])
    return shown, [(name, n, [found[name, of] for of in shown]) for name, n in counts.items()]


def by_kind(record: Record) -> dict[str, Tally]:
    """Return what the cells of each kind of subject come to, in the order of telling."""
    kinds = {subject["name"]: subject["kind"] for subject in record["subjects"]}
    found = {kind: Tally() for kind in KINDS}
    for cell in record["cells"]:
        found[kinds[cell["subject"]]].add(cell)
    return {kind: of for kind, of in found.items() if of.counts}


def facts(record: Record) -> dict[str, str]:
    """Return what was run, when, on what."""
    machine, versions = record["machine"], record["versions"]
    where = [machine["processor"], f"{machine['cores']} cores", machine["platform"]]
    of = {"xloss": record["xloss"], "Python": machine["python"], **versions}
    told = {
        "date": record["date"],
        "command": record["command"],
        "machine": ", ".join(filter(None, where)),
        "versions": ", ".join(f"{name} {number}" for name, number in of.items()),
        "not on this machine": "; ".join(record["missing"]),
        "declared, but no deviation": "; ".join(record["deviations"]["stale"]),
    }
    return {name: text for name, text in told.items() if text}


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
