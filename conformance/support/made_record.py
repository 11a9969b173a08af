"""Records for the tests of reports: what a run would leave, without the run."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from xloss_conformance.model import RULES, SubjectInfo

Record = dict[str, Any]
DOCS = Path(__file__).parents[2] / "docs"  # where the record of the published run is
GAPS = (5, 8, 17, 40)
TAIL = "log(1 + r) is 0 in float32 once r < 2^-24"
MASKS = "a masked class of target 0 is absent, not NaN"


def subject(name: str, kind: str, library: str, dtype: str = "float32") -> Record:
    return SubjectInfo(name, kind, library, "", "cpu", dtype, "closed form", "1.2.3")._asdict()


def case(family: str, label: str, reason: str, gap: float | None = None) -> Record:
    return {
        "name": f"{family}/{label}",
        "family": family,
        "label": label,
        "loss": "cross_entropy",
        "reason": reason,
        "see": ["https://github.com/scipy/scipy/issues/18295"],
        "gap": gap,
        "quick": True,
        "setup": f"import numpy as np\nx = np.array([[0.0, -{gap or 1}]])\ntargets = np.array([0])",
    }


def cell(of: Record, by: Record, status: str = "pass", ulp: Any = 2.5, **more: Any) -> Record:
    off = float(ulp)
    got = 0.0 if off > 1e6 else 2.5e-07 * (1 - off * 2**-23)
    lost = {"rule": "value", "detail": "1 of 1 beyond the budget", "ulp": ulp, "at": [0]}
    budget = 4 if status == "fail" else 16  # so that 2.5 ulp pass
    share = ulp if isinstance(ulp, str) else float(f"{ulp / budget:.3g}")
    made = {
        "value_ulp": ulp,
        "grad_ulp": 1.25,
        "value_share": share,
        "grad_share": 0.312,
        "got": {"value": "[0, 0.5]"},
        "want": {"value": "[2.5e-07, 0.5]"},
        "call": f"import {by['library']}\nprint('{by['name']}')",
    }
    if status == "refused":
        made = dict.fromkeys(made) | {"got": {}, "want": {}, "call": ""}
    findings = [{**lost, "got": got, "want": 2.5e-07}] if status == "fail" else []
    told = {"case": of["name"], "subject": by["name"], "status": status, "note": ""}
    return {**told, "findings": findings, **made, **more}


def record(subjects: list[Record], cases: list[Record], cells: list[Record]) -> Record:
    families: dict[str, int] = {}
    for one in cases:
        families[one["family"]] = families.get(one["family"], 0) + 1
    summary = {
        status: sum(one["status"] == status for one in cells)
        for status in ("pass", "fail", "declared", "refused")
    }
    return {
        "schema": 1,
        "xloss": "0.1.0",
        "date": "2026-11-22",
        "mode": "full",
        "command": "xloss conform --peer torch",
        "machine": {
            "python": "3.12.4",
            "platform": "Linux x86_64",
            "processor": "A processor",
            "cores": 2,
        },
        "versions": {"numpy": "2.4.6", "torch": "2.13.0"},
        "seconds": 12.3,
        "subjects": subjects,
        "missing": ["cupy: CuPy finds no GPU"],
        "families": [{"name": name, "cases": n} for name, n in families.items()],
        "rules": RULES,
        "cases": cases,
        "cells": cells,
        "deviations": {"declared": summary["declared"], "stale": []},
        "summary": summary,
        "ok": not summary["fail"],
    }


def small() -> Record:
    """Two families, five subjects: the peers lose the tail, one refuses, one deviates."""
    subjects = [
        subject("xloss numpy float32", "xloss", "numpy"),
        subject("xloss numpy float64", "xloss", "numpy", "float64"),
        subject("xloss torch float32 autograd", "xloss", "torch"),
        subject("torch float32", "peer", "torch"),
        subject("optax float32", "peer", "jax"),
    ]
    cases = [case("tail", f"gap {gap}", TAIL, float(gap)) for gap in GAPS]
    cases += [case("masks", label, MASKS) for label in ("index", "soft", "smoothed")]
    cells = []
    for by in subjects:
        for i, of in enumerate(cases):
            peer = by["kind"] == "peer"
            if peer and of["family"] == "tail":
                cells.append(cell(of, by, "fail", [40.0, 300.0, 2.0e6, 1.5e7][i]))
            elif peer and of["label"] == "soft":
                cells.append(cell(of, by, "refused", note="takes labels only"))
            elif by["name"] == "optax float32" and of["label"] == "smoothed":
                cells.append(cell(of, by, "declared", "inf", note="known: https://example.org/1"))
            else:
                cells.append(cell(of, by))
    return record(subjects, cases, cells)


HOSTILE = "</script x><!--<script></script><img src=x onerror=\"window.pwned='{}'\"><b id=pwned>"


def hostile() -> Record:
    """Every text that others choose tries to be markup."""

    def bad(where: str) -> str:
        return HOSTILE.format(where) + "`|*_[x](javascript:window.pwned=1)"

    subjects = [subject(bad("subject"), "candidate", bad("library")) | {"version": bad("version")}]
    cases = [case(bad("family"), bad(f"label {gap}"), bad("reason"), float(gap)) for gap in GAPS]
    for one in cases:
        one["see"] = ["javascript:window.pwned='see'", bad("see")]
        one |= {"setup": bad("setup"), "loss": bad("loss")}
    finding = {
        "rule": bad("rule"),
        "detail": bad("detail"),
        "ulp": "inf",
        "at": None,
        "got": "nan",
        "want": 1.0,
    }
    sides = {"got": {bad("key"): bad("got")}, "want": {bad("key"): bad("want")}}
    cells = [
        cell(of, subjects[0], "fail", "inf", note=bad("note") + " javascript:alert(1)", **sides)
        | {"findings": [finding], "call": bad("call")}
        for of in cases
    ]
    # The first by a number that is wrong, so that its family is a heading of the page.
    cells[0]["findings"] = [finding | {"rule": "value"}]
    made = record(subjects, cases, cells)
    made["machine"]["processor"] = bad("processor")
    made["deviations"]["stale"] = [bad("stale")]
    return made | {"missing": [bad("missing")], "command": bad("command"), "date": bad("date")}
