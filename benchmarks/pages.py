"""The published runs on the host: a record as Markdown, whole; nothing is edited by hand."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from .figures import against, bytes_of, digits, percent, pivot, reached, table, text
from .targets import beyond, verdict

Record = dict[str, Any]
OPS = {
    "forward": "cross_entropy: the value",
    "gradient": "cross_entropy: value and gradient",
    "bfloat16": "cross_entropy in bfloat16",
    "segmentation": "cross_entropy of images",
    "small": "A small call",
    "linear": "linear_cross_entropy",
    "linear-large": "linear_cross_entropy, large",
    "dask": "Dask",
    "vocab-parallel": "Ranks that share the classes",
}
TITLES = {
    "performance": "Performance",
    "performance-scale": "Performance of logits that are cut",
}
HOW = {
    "performance": """\
All calls of one table take turns in one process, so that they meet the same noise; between turns
the threads of the last library have time to fall asleep. The first call, which compiles, is not
timed here. Every figure is a median; the last table has least and quartiles too. Before it
is timed, the answer of every contender is compared with the others'. Logits are normal, of
deviation 3. **Every gradient is a fresh array, in every call and of every library**; the kernel's
work on its pages is in the time, freeing the last one is not. GB/s are of the bytes that any
implementation must move: logits and labels read once, the gradient written once. The bound is the
fastest reader of the logits' bytes in the same run; of linear_cross_entropy it is its matrix
products alone, at the best of some block sizes.

`xloss torch` is autograd, `.backward()` included; `xloss torch, closed form` is `value_and_grad` on
the same tensors. `generic` is the same arithmetic by the library's own operations. Compilers
compile for the one shape. Keras runs as its `fit` runs it. scikit-learn's loss is the one inside
`LogisticRegression`. SciPy has no loss and no gradient: it is timed at the formula that one writes
with it. There are pages for [logits that are cut](performance-scale.md), into chunks or over
processes, and for [a GPU](performance-gpu.md).""",
    "performance-scale": """\
This run was measured on the date above; the program that measured it is no longer in the source
tree. Every figure is a median of calls that take turns in the same processes; the first, untimed,
are compared with each other: values, and some rows of the gradients. Logits are float32, normal, of
deviation 3. The other calls stand in [performance](performance.md).

Dask: logits and labels are computed beforehand (`persist`) and stay in memory, so that neither
drawing nor reading them is timed; building the graph is. A gradient stays where its chunks are.
"Threads" is Dask's threaded scheduler; "workers" are processes of a `LocalCluster`, of one thread
each.

Ranks: processes of one thread each, joined by gloo over the loopback device; each holds the logits
of its classes, and all labels. A call takes as long as its slowest rank.""",
}
MEMORY = """\
The most that a call holds beyond what there was before it, its gradient included, as the kernel
counts it in processes of its own (VmHWM, reset before the call; freed memory handed back first), in
shares of the logits: a gradient alone is 100 %."""
FIRST = """\
The first call of a new process, value and gradient of (512, 1000) float32, with caches on disk
empty and then with what that left there; beside it the second call. Imports are not in it.
`xloss engines --warm` compiles ahead."""
GROWTH = {
    "by_classes": "With classes, at the same number of elements: 10⁹ elements a second.",
    "by_rows": "With rows, at 1,000 classes: milliseconds.",
    "by_threads": "With threads: milliseconds.",
}


def page(record: Record, name: str = "performance", pictures: Sequence[str] = ()) -> str:
    """Return the document of that name; TITLES has them."""
    parts = [*head(record, TITLES[name]), HOW[name]]
    parts += [f"![{label}]({file})" for label, file in zip(PICTURED, pictures, strict=False)]
    parts += [*targets(record), *_milliseconds(record), *_growth(record), *_memory(record)]
    parts += [*_first(record), *contenders(record), *every(record)]
    return "\n\n".join(parts) + "\n"


PICTURED = ("Throughput against classes", "Peak memory against classes")


def head(record: Record, title: str) -> Iterator[str]:
    """Give the title, what came of the targets, and on which machine."""
    machine = record["machine"]
    yield f"# {title}"
    yield (
        f"Measured by `{record['command']}`; `python -m benchmarks render` makes this page of the "
        "record beside it. No row is edited by hand."
    )
    yield f"**{verdict(record).capitalize()}.**"
    versions = ", ".join(f"{name} {number}" for name, number in record["versions"].items())
    where = [machine["processor"], f"{machine['cores']} cores", machine["platform"]]
    engines: dict[str, dict[str, None]] = {}
    for run in (run for work in record["works"] for run in work["runs"]):
        if run["engine"] and not run["contender"].endswith("generic"):
            engines.setdefault(run["contender"], {})[run["engine"]] = None
    ran = "; ".join(f"{name}: {' and '.join(found)}" for name, found in engines.items())
    rows = {
        "date": record["date"],
        "machine": ", ".join(str(part) for part in where if part),
        "threads": record["threads"],
        "load average before and after": " and ".join(map(str, record["load"])),
        "engines that ran": ran,
        "versions": f"xloss {record['xloss']}, Python {machine['python']}, {versions}",
        "took": f"{record['seconds']:.0f} s",
        "not on this machine": "; ".join(record["missing"]),
    }
    yield table(["", ""], [[name, text(said)] for name, said in rows.items() if said])


def targets(record: Record) -> Iterator[str]:
    """Give every target, those that are missed first."""
    rows = [
        [text(t["work"]), text(t["subject"]), against(t), reached(t)]
        for t in sorted(record["targets"], key=lambda t: bool(t["met"]))
    ]
    if rows:
        yield "## Targets"
        yield (
            "How many times as fast as another, what share of a bound, or how much memory beyond "
            "inputs and gradients; what is missed comes first."
        )
        yield table(["call", "contender", "beside", ""], rows)


def _milliseconds(record: Record) -> Iterator[str]:
    for op in dict.fromkeys(work["op"] for work in record["works"]):
        works = [work for work in record["works"] if work["op"] == op]
        yield f"## {OPS[op]}"
        yield "Milliseconds:"
        yield _by_contender(works, lambda work, run: digits(run["median_ms"]))
        yield from refused(works)


def refused(works: Sequence[Record]) -> Iterator[str]:
    """Say who was not timed, and why."""
    said = {f"{r['contender']}: {r['reason']}": None for work in works for r in work["refused"]}
    if said:
        yield f"Not timed: {text('; '.join(said))}."


def _by_contender(works: Sequence[Record], figure: Any) -> str:
    """Return a table of contenders and calls; who is more stands below each other."""
    cells, names, calls = {}, [], []
    for work in works:
        runs = list(work["runs"])
        runs += [{"contender": "bound", **work["bound"]}] if work["bound"] else []
        threads = f", {work['threads']} threads" if "threads" in work else ""
        calls.append(work["name"] + threads)
        for run in runs:
            names.append(run["contender"])
            cells[run["contender"], calls[-1]] = figure(work, run)
    if len(set(names)) > len(calls):
        return pivot(names, calls, cells)
    return pivot(calls, names, {(call, name): cell for (name, call), cell in cells.items()})


def _growth(record: Record) -> Iterator[str]:
    if any(record[section] for section in GROWTH):
        yield "## How cost grows"
    for section, said in GROWTH.items():
        if record[section]:
            yield said
            speed = section == "by_classes"
            yield _by_contender(
                record[section],
                lambda work, run, speed=speed: digits(
                    work["elements"] / run["median_ms"] / 1e6 if speed else run["median_ms"]
                ),
            )


def _memory(record: Record) -> Iterator[str]:
    if record["memory"]:
        yield "## Peak memory"
        yield MEMORY
    for linear in (False, True):
        some = [entry for entry in record["memory"] if bool(entry["features"]) == linear]
        if not some:
            continue
        if linear:
            yield "linear_cross_entropy, beyond inputs and gradients:"
        cells = {}
        for e in some:
            if e["peak_bytes"] is None:
                said = text(e["reason"])
            else:
                said = bytes_of(beyond(e)) if linear else percent(e["peak_bytes"] / e["nbytes"])
            cells[e["name"], e["contender"]] = said
        yield pivot([e["name"] for e in some], [e["contender"] for e in some], cells)


def _first(record: Record) -> Iterator[str]:
    if record["first_call"]:
        yield "## The first call"
        yield FIRST
        rows = [
            [
                text(e["contender"]),
                e["caches"],
                *(text(e["reason"]) if e[k] is None else digits(e[k]) for k in KEYS),
            ]
            for e in record["first_call"]
        ]
        yield table(["", "caches", "first, ms", "second, ms"], rows)
    for entry in record["imports"]:
        yield f"`import xloss` adds {digits(entry['import_ms'])} ms to `import numpy`."


KEYS = ("first_ms", "second_ms")


def contenders(record: Record) -> Iterator[str]:
    """Give the table of who took part."""
    yield "## Who took part"
    rows = [[text(c["name"]), text(c["version"]), f"`{c['call']}`"] for c in record["contenders"]]
    yield table(["", "version", "the call"], rows)


def every(record: Record) -> Iterator[str]:
    """Give one table of all calls, with least and quartiles."""
    yield "## Every call"
    heads = ["", "", "engine", "median ms", "least", "quartiles", "runs", "GB/s", "of the bound"]
    rows = []
    for work in record["works"]:
        runs = sorted(work["runs"], key=lambda run: float(run["median_ms"]))
        if work["bound"]:
            runs.append({"contender": work["bound"]["by"], "engine": "", **work["bound"]})
        for run in runs:
            share = work["bound"]["median_ms"] / run["median_ms"] if work["bound"] else None
            rows.append(
                [
                    text(work["name"]),
                    text(run["contender"]),
                    run["engine"] or "–",
                    digits(run["median_ms"]),
                    digits(run["min_ms"]),
                    f"{digits(run['q1_ms'])} to {digits(run['q3_ms'])}",
                    str(run["runs"]),
                    digits(run["gb_s"]),
                    "–" if share is None else digits(share),
                ]
            )
    yield table(heads, rows)
