"""A run as one record of plain values: the only input of the table, of `--json` and of the page."""

from __future__ import annotations

import os
import platform
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from math import isfinite
from typing import TYPE_CHECKING, Any

import xloss

from ..model import RULES, STATUSES, Case, Finding, Verdict
from ..printable import visible, visible_lines
from ..snippet import inputs, setup

if TYPE_CHECKING:
    from ..result import Report

SCHEMA = 1
OF_LINES = {"inputs", "setup", "got", "want", "call", "calls"}
PACKAGES = (
    "numpy",
    "array-api-compat",
    "array-api-strict",
    "torch",
    "jax",
    "tensorflow",
    "dask",
    "cupy",
    "numba",
    "optax",
    "keras",
    "scikit-learn",
    "scipy",
    "ml_dtypes",
    "mpmath",
)


def record(report: Report, *, shares: bool = False) -> dict[str, Any]:
    """Return a run as what JSON can hold; numbers that are not finite as "nan", "inf", "-inf".

    shares: with each error as a share of its budget too, by which the page colours its cells.
    """
    counts = dict.fromkeys(STATUSES, 0)
    for verdict in report.verdicts:
        counts[verdict.status] += 1
    families: dict[str, int] = {}
    for case in report.cases:
        families[case.family] = families.get(case.family, 0) + 1
    made: dict[str, Any] = plain(
        {
            "schema": SCHEMA,
            "xloss": xloss.__version__,
            "date": datetime.now(UTC).date().isoformat(),
            "mode": report.mode,
            "command": report.command,
            "machine": machine(),
            "versions": versions(),
            "seconds": round(report.seconds, 3),
            "subjects": [told._asdict() for told in report.subjects],
            "missing": report.missing,
            "families": [{"name": name, "cases": n} for name, n in families.items()],
            "rules": RULES,
            "cases": [_case(case) for case in report.cases],
            "cells": [_cell(verdict, shares) for verdict in report.verdicts],
            "deviations": {"declared": counts["declared"], "stale": report.stale},
            "summary": counts,
            "ok": report.ok,
        }
    )
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


def machine() -> dict[str, Any]:
    """Return what this machine is."""
    return {
        "python": platform.python_version(),
        "platform": f"{platform.system()} {platform.machine()}",
        "processor": _processor(),
        "cores": os.cpu_count(),
    }


def _processor() -> str:
    try:
        with open("/proc/cpuinfo", encoding="utf-8") as file:
            names = [line.partition(":")[2] for line in file if line.startswith("model name")]
    except OSError:
        names = []
    return (names[0] if names else platform.processor()).strip()


def versions() -> dict[str, str]:
    """Return the versions of the packages that take part, where they are installed."""
    found = {}
    for name in PACKAGES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found


def _case(case: Case) -> dict[str, Any]:
    return {
        "name": case.name,
        "family": case.family,
        "label": case.label,
        "loss": case.loss,
        "reason": case.reason,
        "see": list(case.see),
        "gap": case.gap,
        "quick": case.quick,
        "inputs": inputs(case),
        "setup": setup(case),
    }


def _cell(verdict: Verdict, shares: bool) -> dict[str, Any]:
    of_budget = {"value_share": verdict.value_share, "grad_share": verdict.grad_share}
    return {
        "case": verdict.case.name,
        "subject": verdict.subject,
        "status": verdict.status,
        "value_ulp": verdict.value_ulp,
        "grad_ulp": verdict.grad_ulp,
        "note": verdict.note,
        "findings": [_finding(finding) for finding in verdict.findings],
        "got": verdict.got,
        "want": verdict.want,
        "call": verdict.call,
        **(of_budget if shares else {}),
    }


def _finding(finding: Finding) -> dict[str, Any]:
    return {**finding._asdict(), "at": None if finding.at is None else list(finding.at)}
