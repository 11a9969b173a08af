"""A run for the eye: a table for each call, then the targets."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from ..result import table
from .figures import against, digits, percent, reached
from .targets import verdict

Record = dict[str, Any]
Rows = list[tuple[str, ...]]


def lines(record: Record) -> Iterator[str]:
    """Give the lines to print."""
    for section in ("works", "by_classes", "by_rows", "by_threads"):
        for work in record[section]:
            on = f", {work['threads']} threads" if section == "by_threads" else ""
            yield f"{work['name']}{on}"
            yield from (f"  {line}" for line in _work(work))
            yield ""
    if record["memory"]:
        yield "peak memory beyond the inputs, in shares of them"
        rows: Rows = [
            (e["name"], e["contender"], e["reason"] or percent(e["peak_bytes"] / e["nbytes"]))
            for e in record["memory"]
        ]
        yield from (f"  {line}" for line in table(rows, left=True))
        yield ""
    if record["first_call"]:
        yield "the first call of a process, and the second"
        rows = [
            (
                e["contender"],
                f"caches {e['caches']}",
                e["reason"] or f"{digits(e['first_ms'])} ms",
                "" if e["reason"] else f"{digits(e['second_ms'])} ms",
            )
            for e in record["first_call"]
        ]
        yield from (f"  {line}" for line in table(rows, left=True))
        yield ""
    for entry in record["imports"]:
        yield f"import xloss adds {digits(entry['import_ms'])} ms to import numpy"
    if record["targets"]:
        yield "targets"
        rows = [
            (t["work"], t["subject"], f"beside {against(t)}" if t["against"] else "", reached(t))
            for t in record["targets"]
        ]
        yield from (f"  {line}" for line in table(rows, left=True))
    yield from record["missing"]
    yield f"{verdict(record)}; {record['threads']} threads, in {record['seconds']:.0f} s"


def _work(work: Record) -> Iterator[str]:
    rows: Rows = [("", "engine", "median ms", "least", "quartiles", "GB/s", "of the bound")]
    bound = work["bound"]
    for run in sorted(work["runs"], key=lambda run: float(run["median_ms"])):
        of = digits(bound["median_ms"] / run["median_ms"]) if bound else "-"
        rows.append((run["contender"], run["engine"] or "-", *_figures(run), of))
    if bound:
        rows.append((f"bound: {bound['by']}", "-", *_figures(bound), "1.00"))
    yield from table(rows)
    for refused in work["refused"]:
        yield f"not timed: {refused['contender']}: {refused['reason']}"


def _figures(run: Record) -> tuple[str, str, str, str]:
    quartiles = f"{digits(run['q1_ms'])} to {digits(run['q3_ms'])}"
    return digits(run["median_ms"]), digits(run["min_ms"]), quartiles, digits(run["gb_s"])
