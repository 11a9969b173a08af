"""Figures in words, and tables of Markdown."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from typing import Any

from .targets import missed_by

Record = dict[str, Any]


def digits(value: float) -> str:
    """Return a number with three digits, without an exponent."""
    if value >= 99.95:
        return f"{value:,.0f}"
    if value >= 0.0995:
        return f"{value:.1f}" if value >= 9.995 else f"{value:.2f}"
    return f"{value:.2g}" if value >= 1e-4 else "0"


def bytes_of(value: float) -> str:
    return f"{digits(value / 1e6)} MB"


def percent(share: float) -> str:
    return f"{100 * share:.1f} %" if share < 1 else f"{100 * share:.0f} %"


def _cut(value: float) -> str:
    """Return a ratio rounded down, so that what is missed does not look as if it were met."""
    return f"{int(value * 100) / 100:.2f}×"


def reached(target: Record) -> str:
    """Return what came of a target, "4.61× (≥ 4×) met"; in bold where it is missed."""
    got, wanted, kind = target["got"], target["wanted"], target["kind"]
    if kind == "ratio":
        said = f"{_cut(got)} (≥ {round(wanted, 2):g}×)"
    elif kind in ("share", "reach"):
        said = f"{percent(got)} ({'≤' if kind == 'share' else '≥'} {percent(wanted)})"
    elif kind == "bytes":
        said = f"{bytes_of(got)} (≤ {bytes_of(wanted)})"
    else:
        unit = {"microseconds": "µs", "milliseconds": "ms"}.get(kind, kind)
        said = f"{digits(got)} {unit} (≤ {round(wanted, 1):g} {unit})"
    if target["met"]:
        return f"{said} met"
    off = missed_by(target)
    return f"**{said} missed by {'under 0.1 %' if off < 0.001 else percent(off)}**"


def against(target: Record) -> str:
    """Return what a target compares with."""
    if target["kind"] == "ulp":
        return f"the exact {target['against']}"
    if target["against"] == "bound":
        linear = target["op"].startswith("linear")
        return "the matrix products alone" if linear else "reading the logits once"
    return text(target["against"]) or "–"


def text(raw: Any) -> str:
    """Return text that Markdown takes as it stands, in one line."""
    return re.sub(r"([\\`*_\[\]<>|~#])", r"\\\1", " ".join(str(raw).split()))


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Return a table of Markdown; its cells are Markdown already."""
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def pivot(
    down: Iterable[str], across: Iterable[str], cells: dict[tuple[str, str], str], corner: str = ""
) -> str:
    """Return a table of cells by (row, column); a dash where there is none."""
    columns = list(dict.fromkeys(across))
    rows = [[text(a), *(cells.get((a, b), "–") for b in columns)] for a in dict.fromkeys(down)]
    return table([corner, *map(text, columns)], rows)
