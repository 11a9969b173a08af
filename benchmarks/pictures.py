"""Pictures of a record, drawn by matplotlib as SVG: small, and the same bytes for the same run."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from .pages import WORDS

Record = dict[str, Any]
THROUGHPUT, MEMORY = "performance-throughput.svg", "performance-memory.svg"
Point = tuple[bool, str, float, float]  # with a gradient, a contender, classes, a figure


def draw(record: Record, folder: Path) -> tuple[str, ...]:
    """Write the pictures that the record has figures for; return their names."""
    drawn = []
    for name, points, unit, title in (
        (THROUGHPUT, _throughput(record), "10⁹ elements a second", "Throughput"),
        (MEMORY, _memory(record), "peak / size of the logits", "Peak memory"),
    ):
        if points:
            _figure(folder / name, points, unit, title)
            drawn.append(name)
    return tuple(drawn)


def _throughput(record: Record) -> list[Point]:
    return [
        (work["gradient"], who, work["classes"], work["elements"] / run["median_ms"] / 1e6)
        for work in record["by_classes"]
        for who, run in [
            *((run["contender"], run) for run in work["runs"]),
            *([("reading once", work["bound"])] if work["bound"] and not work["gradient"] else []),
        ]
    ]


def _memory(record: Record) -> list[Point]:
    return [
        (e["gradient"], e["contender"], e["classes"], max(e["peak_bytes"] / e["nbytes"], 1e-4))
        for e in record["memory"]
        if e["op"] == "memory" and e["peak_bytes"] is not None
    ]


def _figure(path: Path, points: list[Point], unit: str, title: str) -> None:
    import matplotlib as library
    import matplotlib.figure

    with library.rc_context(WORDS["pictures"]):
        figure = library.figure.Figure(figsize=(9, 3.6), layout="constrained")
        axes = figure.subplots(1, 2, sharey=True)
        for axis, gradient in zip(axes, (False, True), strict=True):
            for name in dict.fromkeys(who for way, who, *_ in points if way == gradient):
                label, color = WORDS["lines"][name]
                line = ":" if name == "reading once" else "o-"
                ours = name.startswith("xloss")
                style = {"linewidth": 2.2 if ours else 1.4, "zorder": 3 if ours else 2}
                of = sorted(xy for way, who, *xy in points if (way, who) == (gradient, name))
                xs, ys = zip(*of, strict=True)
                axis.plot(xs, ys, line, label=label, color=color, markersize=3.5, **style)
            what = "value and gradient" if gradient else "value"
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
