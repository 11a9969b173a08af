"""Figures in words, the same in the terminal and in the document."""

from __future__ import annotations

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


def cut(value: float) -> str:
    """Return a ratio rounded down, so that what is missed does not look as if it were met."""
    return f"{int(value * 100) / 100:.2f}×"


def times(value: float) -> str:
    """Return a ratio that is wanted."""
    return f"{round(value, 2):g}×"


def reached(target: Record) -> str:
    """Return what came of a target: "4.61× (≥ 4×) met"."""
    got, wanted = target["got"], target["wanted"]
    if target["kind"] == "ratio":
        said = f"{cut(got)} (≥ {times(wanted)})"
    elif target["kind"] == "microseconds":
        said = f"{digits(got)} µs (≤ {wanted:g} µs)"
    elif target["kind"] == "share":
        said = f"{percent(got)} (≤ {percent(wanted)})"
    elif target["kind"] == "reach":
        said = f"{percent(got)} (≥ {percent(wanted)})"
    elif target["kind"] == "ulp":
        said = f"{digits(got)} ulp (≤ {wanted:g} ulp)"
    else:
        said = f"{bytes_of(got)} (≤ {bytes_of(wanted)})"
    if target["met"]:
        return f"{said} met"
    off = missed_by(target)
    return f"{said} missed by {'under 0.1 %' if off < 0.001 else percent(off)}"


def against(target: Record) -> str:
    """Return what a target compares with."""
    if target["kind"] == "ulp":
        return f"the exact {target['against']}"
    linear = target["op"].startswith("linear")
    bound = "the matrix products alone" if linear else "reading the logits once"
    return bound if target["against"] == "bound" else str(target["against"])


def call(work: Record) -> str:
    """Return a work in short: "(512, 128256), axis 1"."""
    said = f"({', '.join(map(str, work['shape']))})"
    if work["features"]:
        said += f" from {work['features']} features"
    if work["axis"] != -1:
        said += f", axis {work['axis']}"
    return said if work["dtype"] == "float32" else f"{said}, {work['dtype']}"
