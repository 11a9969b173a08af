"""Figures in words, and tables of Markdown."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from tabulate import tabulate

from xloss_conformance.report.markdown import text

from .right import BEYOND

Record = dict[str, Any]


def digits(value: float) -> str:
    """Return a number with three digits, without an exponent."""
    if value >= 99.95:
        return f"{value:,.0f}"
    if value >= 0.0995:
        return f"{value:.1f}" if value >= 9.995 else f"{value:.2f}"
    return f"{value:.2g}" if value >= 1e-4 else "0"


def percent(share: float) -> str:
    return f"{100 * share:.1f} %" if share < 1 else f"{100 * share:.0f} %"


# Of each kind of target: which side is right, what a figure is multiplied by, and its unit.
KINDS = {
    "ratio": ("≥", 1, "×"),
    "reach": ("≥", 100, " %"),
    "share": ("≤", 100, " %"),
    "bytes": ("≤", 1e-6, " MB"),
    "microseconds": ("≤", 1, " µs"),
    "milliseconds": ("≤", 1, " ms"),
    "ulp": ("≤", 1, " ulp"),
}


def reached(target: Record) -> str:
    """Return what came of a target, "4.61× (≥ 4.00×) met"; in bold where it is missed."""
    side, times, unit = KINDS[target["kind"]]
    got, wanted = (digits(target[figure] * times) + unit for figure in ("got", "wanted"))
    said = f"{got} ({side} {wanted})"
    if target["met"]:
        return f"{said} met"
    off = abs(target["wanted"] - target["got"]) / target["wanted"]
    return f"**{said} missed by {'under 0.1 %' if off < 0.001 else percent(off)}**"


def against(target: Record) -> str:
    """Return what a target compares with."""
    if target["kind"] == "ulp":
        return f"the exact {target['against']}"
    if target["against"] == "bound":
        linear = target["op"].startswith("linear")
        read = "a copy" if target["kind"] == "reach" else "reading the logits once"
        return "the matrix products alone" if linear else read
    return text(target["against"]) or "–"


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Return a table of Markdown; its cells are Markdown already, and are not padded."""
    return str(tabulate(rows, head, tablefmt="github", disable_numparse=True, stralign=None))


def pivot(cells: dict[tuple[str, str], str]) -> str:
    """Return a table of cells by (row, column), in the order in which they came."""
    across = list(dict.fromkeys(b for _, b in cells))
    down = dict.fromkeys(a for a, _ in cells)
    rows = [[text(a), *(cells.get((a, b), "–") for b in across)] for a in down]
    return table(["", *map(text, across)], rows)


def ulp(found: float | None) -> str:
    """Return an error in ulp, which is no number where the answer was none."""
    if found is None:
        return "–"
    return "**no number**" if found >= BEYOND else digits(found)


def off(tail: float | None) -> str:
    """Return by what share the tail is off, with its sign."""
    return "–" if tail is None else f"{tail:+.2g}"
