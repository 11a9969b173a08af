"""The published run: a record as Markdown, whole; nothing is edited by hand."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from ..report.markdown import code, table, text
from .figures import against, bytes_of, call, digits, percent, reached
from .targets import beyond, verdict

Record = dict[str, Any]
OPS = {
    "forward": "cross_entropy",
    "gradient": "cross_entropy",
    "segmentation": "cross_entropy of images",
    "bfloat16": "cross_entropy in bfloat16",
    "small": "a small call",
    "linear": "linear_cross_entropy",
    "linear-large": "linear_cross_entropy, large",
}
COLUMNS = ("torch", "torch.compile", "optax", "bound")
HEADS = ("torch eager", "torch.compile", "JAX jit (optax)", "reading the logits once")
HOW = """\
All calls of one table take turns in one process, so that they meet the same noise; between turns
the threads of the last library have time to fall asleep. The first call, which compiles, is not
timed here. Every figure is a median; the tables at the end have least and quartiles too. Before it
is timed, the answer of every contender is compared with the others'. Logits are normal, of
deviation 3. **Every gradient is a fresh array, in every call and of every library**; the kernel's
work on its pages is in the time, freeing the last one is not. GB/s are of the bytes that any
implementation must move: logits and labels read once, the gradient written once. "Reading once" is
the fastest reader of the logits' bytes in the same run; the bound of linear_cross_entropy is its
matrix products alone, at the best of some block sizes."""
MEMORY = """\
The most that a call holds beyond what there was before it, its gradient included, as the kernel
counts it in a process of its own (VmHWM, reset before the call; freed memory handed back first), in
shares of the logits, which have {elements} elements ({size}). A gradient alone is 100 %."""
FIRST = """\
The first call of a new process, value and gradient of (512, 1000) float32, with caches on disk
empty and then with what that left there; beside it the second call. Imports are not in it.
`xloss engines --warm` compiles ahead."""
NOTES = """\
- `xloss torch` is autograd, `.backward()` included; `xloss torch, closed form` is
  `xloss.value_and_grad` on the same tensors.
- `generic` is the same arithmetic by the library's own operations; it runs where a compiled engine
  cannot take a call, and under tracing: `xloss jax` leaves the rest to XLA.
- torch.compile and `jax.jit` compile for the one shape.
- Keras runs as its `fit` runs it. scikit-learn's loss is the one inside `LogisticRegression`. SciPy
  has no loss and no gradient: it is timed at the formula that one writes with it, on one thread.
- Logits that are cut, into chunks of a Dask array or over processes that share the classes, have a
  [page of their own](performance-scale.md), and so has [a GPU](performance-gpu.md)."""


def markdown(record: Record, pictures: Sequence[str] = ()) -> str:
    """Return the document."""
    parts = [*head(record, "Performance"), HOW]
    if pictures:
        parts.append(f"![Throughput against classes: xloss and its peers]({pictures[0]})")
    parts += [*_targets(record), *_summary(record), *_growth(record)]
    parts += [*_memory(record, pictures), *_first(record)]
    parts += ["## Notes", NOTES, *contenders(record), *_every(record)]
    return "\n\n".join(parts) + "\n"


def head(record: Record, title: str) -> Iterator[str]:
    """Give the title, what came of the targets, and on which machine."""
    machine = record["machine"]
    yield f"# {title}"
    made = f", by {code(record['command'])}; no row is edited by hand" if record["command"] else ""
    yield f"This file is generated{made}."
    yield f"**{text(verdict(record)).capitalize()}.**"
    versions = ", ".join(f"{name} {number}" for name, number in record["versions"].items())
    where = [machine["processor"], f"{machine['cores']} cores", machine["platform"]]
    engines: dict[str, dict[str, None]] = {}
    for run in (run for work in record["works"] for run in work["runs"]):
        if run["engine"] and not run["contender"].endswith("generic"):
            engines.setdefault(run["contender"], {})[run["engine"]] = None
    ran = "; ".join(f"{name}: {' and '.join(found)}" for name, found in engines.items())
    rows = [
        ["date", text(record["date"])],
        ["machine", text(", ".join(str(part) for part in where if part))],
        ["threads", str(record["threads"])],
        ["load average before and after", " and ".join(map(str, record["load"]))],
        [
            "engines that ran",
            text(ran),
        ],
        ["versions", text(f"xloss {record['xloss']}, Python {machine['python']}, {versions}")],
        ["took", f"{record['seconds']:.0f} s"],
    ]
    if record["missing"]:
        rows.append(["not on this machine", text("; ".join(record["missing"]))])
    yield table(["", ""], rows)


# ---- Targets -------------------------------------------------------------------------------------


def _targets(record: Record) -> Iterator[str]:
    if not record["targets"]:
        return
    yield "## Targets"
    yield "How many times as fast as another, at least, and whether that was reached."
    ratios = [t for t in record["targets"] if t["kind"] == "ratio" and not _linear(t)]
    rows: dict[tuple[str, str], dict[str, str]] = {}
    for target in ratios:
        row = rows.setdefault((target["work"], target["subject"]), {})
        row[target["against"]] = marked(target)
    if rows:
        yield table(
            ["call", "contender", *HEADS],
            [
                [text(work), text(who), *(row.get(name, "–") for name in COLUMNS)]
                for (work, who), row in rows.items()
            ],
        )
    others = [t for t in record["targets"] if t not in ratios]
    if others:
        yield table(
            ["call", "contender", "beside", "what"],
            [
                [text(t["work"]), text(t["subject"]), text(against(t)) or "–", _what(t)]
                for t in others
            ],
        )


def _linear(target: Record) -> bool:
    return str(target["op"]).startswith("linear")


def _what(target: Record) -> str:
    return {"share": "memory beyond inputs and gradient: ", "bytes": "memory beyond: "}.get(
        target["kind"], ""
    ) + marked(target)


def marked(target: Record) -> str:
    said = text(reached(target))
    return said if target["met"] else f"**{said}**"


# ---- Times ---------------------------------------------------------------------------------------


def _summary(record: Record) -> Iterator[str]:
    if not record["works"]:
        return
    yield "## Milliseconds"
    for gradient in (False, True):
        works = [w for w in record["works"] if w["gradient"] == gradient]
        names = dict.fromkeys(run["contender"] for w in works for run in w["runs"])
        found = {(w["name"], run["contender"]): run for w in works for run in w["runs"]}
        if not works:
            continue
        yield f"{'Value and gradient' if gradient else 'Value'}:"
        rows = [[text(name), *(_ms(found.get((w["name"], name))) for w in works)] for name in names]
        rows.append(["*bound*", *(_ms(w["bound"]) for w in works)])
        yield table(["", *(text(call(w)) for w in works)], rows)


def _ms(run: Record | None) -> str:
    return "–" if run is None else digits(run["median_ms"])


def _every(record: Record) -> Iterator[str]:
    if record["works"]:
        yield "## Every call"
    for work in record["works"]:
        yield f"### {text(OPS[work['op']])}: {text(work['name'])}"
        bound = work["bound"]
        rows = [
            [
                text(run["contender"]),
                run["engine"] or "–",
                *figures(run),
                digits(run["gb_s"]),
                digits(run["elements_s"] / 1e9),
                _of(bound, run),
            ]
            for run in sorted(work["runs"], key=lambda run: float(run["median_ms"]))
        ]
        if bound is not None:
            rows.append(
                [f"*{text(bound['by'])}*", "–", *figures(bound), digits(bound["gb_s"]), "–", "1.00"]
            )
        head = ["", "engine", "median ms", "least", "quartiles", "runs", "GB/s", "10⁹ elements/s"]
        yield table([*head, "of the bound's speed"], rows)
        if work["refused"]:
            said = (f"{text(r['contender'])}: {text(r['reason'])}" for r in work["refused"])
            yield f"Not timed: {'; '.join(said)}."


def figures(run: Record) -> list[str]:
    return [
        digits(run["median_ms"]),
        digits(run["min_ms"]),
        f"{digits(run['q1_ms'])} to {digits(run['q3_ms'])}",
        str(run["runs"]),
    ]


def _of(bound: Record | None, run: Record) -> str:
    return "–" if bound is None else digits(bound["median_ms"] / run["median_ms"])


# ---- Growth --------------------------------------------------------------------------------------


def _growth(record: Record) -> Iterator[str]:
    titles = {
        "by_classes": ("classes", "10⁹ elements a second, at the same number of elements"),
        "by_rows": ("rows", "milliseconds at 1,000 classes"),
        "by_threads": ("threads", "milliseconds"),
    }
    if any(record[section] for section in titles):
        yield "## How cost grows"
    for section, (what, unit) in titles.items():
        works = record[section]
        if not works:
            continue
        yield f"With {what}: {unit}."
        names = dict.fromkeys(run["contender"] for w in works for run in w["runs"])
        rows = []
        for work in works:
            runs = {run["contender"]: run for run in work["runs"]}
            if section == "by_classes":
                shown = [_speed(runs.get(name)) for name in names]
                shown.append(digits(work["elements"] / work["bound"]["median_ms"] / 1e6))
            else:
                shown = [_ms(runs.get(name)) for name in names] + [_ms(work["bound"])]
            first = f"{work['threads']}" if section == "by_threads" else ""
            grad = "value and gradient" if work["gradient"] else "value"
            rows.append([*([first] if first else []), text(call(work)), grad, *shown])
        head = ["threads"] if section == "by_threads" else []
        yield table([*head, "shape", "", *(text(n) for n in names), "*reading once*"], rows)


def _speed(run: Record | None) -> str:
    return "–" if run is None else digits(run["elements_s"] / 1e9)


# ---- Memory, first call, contenders ------------------------------------------------------------


def _memory(record: Record, pictures: Sequence[str]) -> Iterator[str]:
    found = [entry for entry in record["memory"] if entry["op"] == "memory"]
    linear = [entry for entry in record["memory"] if entry["features"]]
    if not (found or linear):
        return
    yield "## Peak memory"
    if found:
        least = min(entry["elements"] for entry in found)
        size = bytes_of(min(entry["nbytes"] for entry in found))
        yield MEMORY.format(elements=f"{least:,}", size=size)
        if pictures[1:]:
            yield f"![Peak memory against classes: xloss and its peers]({pictures[1]})"
        names = dict.fromkeys(entry["contender"] for entry in found)
        cells = {(e["classes"], e["gradient"], e["contender"]): e for e in found}
        keys = sorted({(e["gradient"], e["classes"]) for e in found})
        rows = [
            [
                f"{classes:,}",
                "value and gradient" if gradient else "value",
                *(_share(cells.get((classes, gradient, name))) for name in names),
            ]
            for gradient, classes in keys
        ]
        yield table(["classes", "", *(text(name) for name in names)], rows)
    if linear:
        yield "linear_cross_entropy, beyond inputs and gradients:"
        rows = [
            [
                text(call(e)),
                text(e["contender"]),
                text(e["reason"]) if e["peak_bytes"] is None else bytes_of(beyond(e)),
            ]
            for e in linear
        ]
        yield table(["shape", "", "peak"], rows)


def _share(entry: Record | None) -> str:
    if entry is None or entry["peak_bytes"] is None:
        return "–"
    return percent(entry["peak_bytes"] / entry["nbytes"])


def _first(record: Record) -> Iterator[str]:
    if record["first_call"]:
        yield "## The first call"
        yield FIRST
        rows = [
            [
                text(e["contender"]),
                e["caches"],
                *(
                    digits(e[key]) if e[key] is not None else text(e["reason"])
                    for key in ("first_ms", "second_ms")
                ),
            ]
            for e in record["first_call"]
        ]
        yield table(["", "caches", "first, ms", "second, ms"], rows)
    for entry in record["imports"]:
        yield f"`import xloss` adds {digits(entry['import_ms'])} ms to `import numpy`."


def contenders(record: Record) -> Iterator[str]:
    """Give the table of who took part."""
    yield "## Who took part"
    rows = [[text(c["name"]), text(c["version"]), code(c["call"])] for c in record["contenders"]]
    yield table(["", "version", "the call"], rows)
