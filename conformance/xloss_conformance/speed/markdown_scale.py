"""The published run of logits that are cut, as Markdown; nothing is edited by hand."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from ..report.markdown import table, text
from .cuts import names
from .figures import digits, percent
from .markdown import contenders, figures, head, marked

Record = dict[str, Any]
HEADINGS = {"dask": "Dask", "vocab-parallel": "Ranks that share the classes"}
HOW = """\
Every figure is a median of calls that take turns in the same processes; the first, untimed, are
compared with each other: values, and some rows of the gradients, to 10⁻⁵. Logits are float32,
normal, of deviation 3. Memory is the most that a call holds beyond what there was before it, its
gradient included, as the kernel counts it (VmHWM, reset before the call, which is the second) in
processes of its own, in shares of the logits: a gradient alone is 100 %. Targets count what is
beyond the gradient too. The other calls stand in [performance](performance.md)."""
SAID = {
    "dask": """\
Logits and labels are computed beforehand (`persist`) and stay in memory, so that neither drawing
nor reading them is timed; building the graph is. A gradient stays where its chunks are. "Threads"
is Dask's threaded scheduler; "workers" are processes of a `LocalCluster`, of one thread each, whose
memory is added up. `dask` is the loss by the operations of `dask.array`: max, exp, sum, log, and
the label's logit; `dask, by chunk` is written by hand, with a NumPy function for each chunk.""",
    "vocab-parallel": """\
Processes of one thread each, joined by gloo over the loopback device; each holds the logits of its
classes, and all labels. A call takes as long as its slowest rank; memory is that of all ranks
together. "Value and gradient" is the loss and `.backward()`.""",
}


def markdown_scale(record: Record) -> str:
    """Return the document."""
    parts = [*head(record, "Performance of logits that are cut"), HOW]
    for op in HEADINGS:
        if op in record["ops"]:
            parts += _op(record, op)
    parts += [*contenders(record), *_every(record)]
    return "\n\n".join(parts) + "\n"


def _op(record: Record, op: str) -> Iterator[str]:
    yield f"## {HEADINGS[op]}"
    yield SAID[op]
    works = [work for work in record["works"] if work["op"] == op]
    who = names(op)
    judged = {(t["work"], t["against"], t["kind"]): t for t in record["targets"] if t["op"] == op}
    runs = {(w["name"], run["contender"]): run for w in works for run in w["runs"]}
    read = {(e["name"], e["contender"]): e for e in record["memory"] if e["op"] == op}
    yield "Milliseconds:"
    yield table(
        ["", *who],
        [[text(w["name"]), *(_ms(runs.get((w["name"], name))) for name in who)] for w in works],
    )
    yield "Peak memory:"
    yield table(
        ["", *who],
        [[text(w["name"]), *(_share(read.get((w["name"], name))) for name in who)] for w in works],
    )
    yield """\
Targets: how many times as fast as a peer; and memory beyond inputs and gradient, at most the
peer's, or 5 % of the logits where that is more."""
    yield table(
        ["", *(f"{name}: {what}" for name in who[1:] for what in ("time", "memory"))],
        [
            [
                text(w["name"]),
                *(
                    marked(judged[key]) if (key := (w["name"], name, kind)) in judged else "–"
                    for name in who[1:]
                    for kind in ("ratio", "bytes")
                ),
            ]
            for w in works
        ],
    )


def _ms(run: Record | None) -> str:
    return "–" if run is None else digits(run["median_ms"])


def _share(entry: Record | None) -> str:
    if entry is None or entry["peak_bytes"] is None:
        return "–"
    return percent(entry["peak_bytes"] / entry["nbytes"])


def _every(record: Record) -> Iterator[str]:
    yield "## Every call"
    rows = [
        [
            text(w["name"]),
            text(run["contender"]),
            run["engine"] or "–",
            *figures(run),
            digits(run["gb_s"]),
        ]
        for w in record["works"]
        for run in sorted(w["runs"], key=lambda run: float(run["median_ms"]))
    ]
    yield table(["", "", "engine", "median ms", "least", "quartiles", "runs", "GB/s"], rows)
    for w in record["works"]:
        for refused in w["refused"]:
            who, why = text(refused["contender"]), text(refused["reason"])
            yield f"Not timed, {text(w['name'])}: {who}: {why}."
