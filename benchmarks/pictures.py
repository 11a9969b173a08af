"""Pictures of a record, drawn by matplotlib as SVG: small, and the same bytes for the same run."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from .pages import WORDS

Record = dict[str, Any]
THROUGHPUT, MEMORY = "performance-throughput.svg", "performance-memory.svg"
Lines = dict[str, list[tuple[float, float]]]


def draw(record: Record, folder: Path) -> tuple[str, ...]:
    """Write the pictures that the record has figures for; return their names."""
    drawn = []
    both = (False, True)
    for name, lines, unit, title in (
        (THROUGHPUT, _throughput, "10⁹ elements a second", "Throughput"),
        (MEMORY, _memory, "peak / size of the logits", "Peak memory"),
    ):
        panels = [lines(record, gradient) for gradient in both]
        if any(panels):
            _figure(folder / name, panels, unit, title)
            drawn.append(name)
    return tuple(drawn)


def _throughput(record: Record, gradient: bool) -> Lines:
    lines: Lines = {}
    for work in (work for work in record["by_classes"] if work["gradient"] == gradient):
        runs = {run["contender"]: run for run in work["runs"]}
        if work["bound"] is not None and not gradient:
            runs["reading once"] = work["bound"]
        for name, run in runs.items():
            point = (work["classes"], work["elements"] / run["median_ms"] / 1e6)
            lines.setdefault(name, []).append(point)
    return lines


def _memory(record: Record, gradient: bool) -> Lines:
    lines: Lines = {}
    for entry in record["memory"]:
        of = entry["op"] == "memory" and entry["gradient"] == gradient
        if of and entry["peak_bytes"] is not None:
            share = max(entry["peak_bytes"] / entry["nbytes"], 1e-4)
            lines.setdefault(entry["contender"], []).append((entry["classes"], share))
    return lines


def _figure(path: Path, panels: list[Lines], unit: str, title: str) -> None:
    import matplotlib as library
    import matplotlib.figure

    with library.rc_context(WORDS["pictures"]):
        figure = library.figure.Figure(figsize=(9, 3.6), layout="constrained")
        axes = figure.subplots(1, 2, sharey=True)
        for axis, lines, what in zip(axes, panels, ("value", "value and gradient"), strict=True):
            for name, points in lines.items():
                label, color = WORDS["lines"][name]
                line = ":" if name == "reading once" else "o-"
                ours = name.startswith("xloss")
                style = {"linewidth": 2.2 if ours else 1.4, "zorder": 3 if ours else 2}
                xs, ys = zip(*sorted(points), strict=True)
                axis.plot(xs, ys, line, label=label, color=color, markersize=3.5, **style)
            axis.set(xscale="log", xlabel="classes", title=f"{title}: {what}")
            if path.name == THROUGHPUT:
                axis.set_yscale("log")
            else:
                axis.set_ylim(bottom=0)
            axis.minorticks_off()
            axis.grid(color="#dddddd", linewidth=0.6)
            axis.spines[["top", "right"]].set_visible(False)
        axes[0].set_ylabel(unit)
        handles, labels = axes[0].get_legend_handles_labels()
        figure.legend(handles, labels, loc="outside lower center", ncols=3, frameon=False)
        figure.savefig(path, format="svg", metadata={"Date": None})
