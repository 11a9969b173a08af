"""Pictures of a record, drawn by matplotlib as SVG: small, and the same bytes for the same run."""

from __future__ import annotations

from pathlib import Path
from typing import Any

Record = dict[str, Any]
THROUGHPUT, MEMORY = "performance-throughput.svg", "performance-memory.svg"
# Contender -> what the picture calls it, and its colour.
LINES = {
    "xloss numpy": ("xloss, NumPy", "#c2410c"),
    "xloss torch": ("xloss, PyTorch", "#fb923c"),
    "xloss jax": ("xloss, jax.jit", "#fdba74"),
    "torch": ("PyTorch eager", "#1d4ed8"),
    "torch.compile": ("torch.compile", "#60a5fa"),
    "optax": ("optax, jax.jit", "#15803d"),
    "scipy": ("SciPy", "#b45309"),
    "reading once": ("reading once", "#737373"),
}
Lines = dict[str, list[tuple[float, float]]]


def draw(record: Record, folder: Path) -> tuple[str, ...]:
    """Write the pictures that the record has figures for; return their names."""
    drawn = []
    throughput = [_throughput(record, gradient) for gradient in (False, True)]
    if any(throughput):
        _figure(
            folder / THROUGHPUT, throughput, "10⁹ elements a second", "Throughput", record, log=True
        )
        drawn.append(THROUGHPUT)
    memory = [_memory(record, gradient) for gradient in (False, True)]
    if any(memory):
        what = "peak / size of the logits"
        _figure(folder / MEMORY, memory, what, "Peak memory", record)
        drawn.append(MEMORY)
    return tuple(drawn)


def _throughput(record: Record, gradient: bool) -> Lines:
    lines: Lines = {}
    for work in record["by_classes"]:
        if work["gradient"] != gradient:
            continue
        for run in work["runs"]:
            point = (work["classes"], run["elements_s"] / 1e9)
            lines.setdefault(run["contender"], []).append(point)
        if work["bound"] is not None and not gradient:
            speed = work["elements"] / work["bound"]["median_ms"] / 1e6
            lines.setdefault("reading once", []).append((work["classes"], speed))
    return lines


def _memory(record: Record, gradient: bool) -> Lines:
    lines: Lines = {}
    for entry in record["memory"]:
        of = entry["op"] == "memory" and entry["gradient"] == gradient
        if of and entry["peak_bytes"] is not None:
            share = max(entry["peak_bytes"] / entry["nbytes"], 1e-4)
            lines.setdefault(entry["contender"], []).append((entry["classes"], share))
    return lines


def _figure(
    path: Path, panels: list[Lines], unit: str, title: str, record: Record, *, log: bool = False
) -> None:
    import matplotlib as library
    import matplotlib.figure

    settings: Any = {
        "svg.fonttype": "none",
        "svg.hashsalt": "xloss",
        "font.size": 10,
        "font.sans-serif": ["DejaVu Sans", "Helvetica", "Arial"],
    }
    with library.rc_context(settings):
        figure = library.figure.Figure(figsize=(9, 3.6), layout="constrained")
        axes = figure.subplots(1, 2, sharey=True)
        for axis, lines, what in zip(axes, panels, ("value", "value and gradient"), strict=True):
            for name, points in lines.items():
                xs, ys = zip(*sorted(points), strict=True)
                bound = name == "reading once"
                axis.plot(
                    xs,
                    ys,
                    label=LINES[name][0],
                    color=LINES[name][1],
                    marker="" if bound else "o",
                    markersize=3.5,
                    linestyle=":" if bound else "-",
                    linewidth=2.2 if name.startswith("xloss") else 1.4,
                    zorder=3 if name.startswith("xloss") else 2,
                )
            axis.set(xscale="log", xlabel="classes", title=f"{title}: {what}")
            if log:
                axis.set_yscale("log")
            else:
                axis.set_ylim(bottom=0)
            axis.minorticks_off()
            axis.grid(color="#dddddd", linewidth=0.6)
            axis.spines[["top", "right"]].set_visible(False)
        axes[0].set_ylabel(unit)
        handles, labels = axes[0].get_legend_handles_labels()
        columns = len(labels) if len(labels) < 6 else 3
        figure.legend(handles, labels, loc="outside lower center", ncols=columns, frameon=False)
        machine = record["machine"]
        figure.suptitle(
            f"float32, {record['threads']} threads, {machine['processor']}, {record['date']}",
            fontsize=8,
            color="#555555",
        )
        figure.savefig(path, format="svg", metadata={"Date": None})
