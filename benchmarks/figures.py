"""Figures in words, and tables of Markdown."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

from tabulate import tabulate

from xloss_conformance.report.markdown import text

from .right import BEYOND
from .targets import missed_by

Record = dict[str, Any]
MS = ("median_ms", "min_ms", "q1_ms", "q3_ms")


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


def quartiles(run: Record, scale: float = 1.0) -> list[str]:
    """Return median, least and quartiles of a run."""
    middle, least, low, high = (digits(run[key] * scale) for key in MS)
    return [middle, least, f"{low} to {high}"]


def _cut(value: float) -> str:
    """Return a ratio rounded down, so that what is missed does not look as if it were met."""
    return f"{int(value * 100) / 100:.2f}×"


# Of each kind of target: what came, and what was wanted.
KINDS: dict[str, tuple[Callable[[float], str], Callable[[float], str]]] = {
    "ratio": (_cut, lambda wanted: f"≥ {round(wanted, 2):g}×"),
    "reach": (percent, lambda wanted: f"≥ {percent(wanted)}"),
    "share": (percent, lambda wanted: f"≤ {percent(wanted)}"),
    "bytes": (bytes_of, lambda wanted: f"≤ {bytes_of(wanted)}"),
    "microseconds": (lambda got: f"{digits(got)} µs", lambda wanted: f"≤ {round(wanted, 1):g} µs"),
    "milliseconds": (lambda got: f"{digits(got)} ms", lambda wanted: f"≤ {round(wanted, 1):g} ms"),
    "ulp": (lambda got: f"{digits(got)} ulp", lambda wanted: f"≤ {wanted:g} ulp"),
}


def reached(target: Record) -> str:
    """Return what came of a target, "4.61× (≥ 4×) met"; in bold where it is missed."""
    got, wanted = KINDS[target["kind"]]
    said = f"{got(target['got'])} ({wanted(target['wanted'])})"
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


def grouped(lines: Iterable[tuple[str, str]]) -> list[str]:
    """Return one line for each reason: of whom it is told, and if of many, how often."""
    found: dict[str, dict[str, None]] = {}
    for who, reason in lines:
        found.setdefault(reason, {})[who] = None
    said = []
    for reason, whose in found.items():
        names = list(whose)
        if len(names) > 2:
            heads = dict.fromkeys(name.partition(": ")[0] for name in names)
            names = [f"{'; '.join(heads)} ({len(names)} times)"]
        said.append(": ".join(filter(None, ["; ".join(names), reason])))
    return said


def split(missing: Iterable[str]) -> Iterable[tuple[str, str]]:
    """Give what is missing and why, of lines that say "what: why"."""
    for said in missing:
        who, sep, reason = said.partition(": fails: ")
        if not sep:
            who, _, reason = said.partition(": ")
        yield (who, f"fails: {reason}" if sep else reason) if reason else ("", who)


def mib(count: float | None) -> str:
    """Return bytes in MiB."""
    return "not measured" if count is None else f"{count / 2**20:,.0f}"


def ulp(found: float | None) -> str:
    """Return an error in ulp, which is no number where the answer was none."""
    if found is None:
        return "–"
    return "**no number**" if found >= BEYOND else digits(found)


def off(tail: float | None) -> str:
    """Return by what share the tail is off, with its sign."""
    return "–" if tail is None else f"{tail:+.2g}"
