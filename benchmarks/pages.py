"""The published runs: a record as Markdown, whole; nothing is edited by hand."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import groupby, product
from typing import Any

from xloss_conformance.report.markdown import text

from . import figures, tables
from .figures import digits, off, percent, table, ulp
from .plan import TABLES
from .targets import beyond, verdict

Record = dict[str, Any]
Cells = Sequence[str]
WORDS = tables.load("words")
NONE = "not measured"
WAYS = {"forward": "value", "gradient": "value and gradient"}
PICTURED = ("Throughput against classes", "Peak memory against classes")


def page(record: Record, name: str = "performance", pictures: Sequence[str] = ()) -> str:
    """Return the document of that name; WORDS has them."""
    title, how = WORDS["titles"][name], WORDS["how"][name]
    if name == "performance-calls":
        return "\n\n".join([f"# {title}", how, *_calls(record)]) + "\n"
    parts = list(_head(record, title))
    if name == "performance-gpu":
        parts += [*_gpu(record), WORDS["logits"], *_shares(record), how, *_targets(record)]
        parts += [*_linear(record), *_host(record)]
    else:
        parts += [how]
        parts += [f"![{label}]({file})" for label, file in zip(PICTURED, pictures, strict=False)]
        parts += [*_targets(record), *_milliseconds(record), *_growth(record), *_memory(record)]
        parts += _first(record)
    parts += [*_errors(record), *_contenders(record)]
    return "\n\n".join([*parts, *(_refused(record) if record.get("gpu") else ())]) + "\n"


def _head(record: Record, title: str) -> Iterator[str]:
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
    for _, run in _runs(record):
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


def _runs(record: Record) -> Iterator[tuple[Record, Record]]:
    """Give every run of every work."""
    return ((work, run) for work in record["works"] for run in work["runs"])


def _targets(record: Record) -> Iterator[str]:
    """Give every target, those that are missed first."""
    rows = [
        [text(t["work"]), text(t["subject"]), figures.against(t), figures.reached(t)]
        for t in sorted(record["targets"], key=lambda t: bool(t["met"]))
    ]
    yield from _section("Targets", "targets", ["call", "contender", "beside", ""], rows)


def _section(title: str, words: str, head: Sequence[str], rows: Sequence[Cells]) -> Iterator[str]:
    """Give a table under its title, and what is said of it; nothing where it has no row."""
    if rows:
        yield f"## {title}"
        yield WORDS[words]
        yield table(head, rows)


# ---- On the host --------------------------------------------------------------------------------


def _milliseconds(record: Record) -> Iterator[str]:
    for op, found in groupby(record["works"], lambda work: work["op"]):
        works = list(found)
        yield f"## {WORDS['ops'][op]}"
        yield "Milliseconds:"
        yield _by_contender(works)
        refused = [f"{r['contender']}: {r['reason']}" for work in works for r in work["refused"]]
        if refused:
            yield f"Not timed: {text('; '.join(dict.fromkeys(refused)))}."


def _by_contender(works: Sequence[Record], speed: bool = False) -> str:
    """Return a table of contenders and calls; who is more stands below each other."""
    cells: dict[tuple[str, str], str] = {}
    for work in works:
        bound = [{"contender": "bound", **work["bound"]}] if work["bound"] else []
        call = work["name"] + (f", {work['threads']} threads" if "threads" in work else "")
        for run in [*work["runs"], *bound]:
            ms = run["median_ms"]
            cells[run["contender"], call] = digits(work["elements"] / ms / 1e6 if speed else ms)
    if len({who for who, _ in cells}) > len(works):
        return figures.pivot(cells)
    return figures.pivot({(call, name): cell for (name, call), cell in cells.items()})


def _growth(record: Record) -> Iterator[str]:
    if any(record[section] for section in WORDS["growth"]):
        yield "## How cost grows"
    for section, said in WORDS["growth"].items():
        if record[section]:
            yield said
            yield _by_contender(record[section], speed=section == "by_classes")


def _memory(record: Record) -> Iterator[str]:
    if record["memory"]:
        yield "## Peak memory"
        yield WORDS["memory"]
    for linear in (False, True):
        cells = {}
        for e in (e for e in record["memory"] if bool(e["features"]) == linear):
            if e["peak_bytes"] is None:
                said = text(e["reason"])
            elif linear:
                said = f"{digits(beyond(e) / 1e6)} MB"
            else:
                said = percent(e["peak_bytes"] / e["nbytes"])
            cells[e["name"], e["contender"]] = said
        if cells:
            if linear:
                yield "linear_cross_entropy, beyond inputs and gradients:"
            yield figures.pivot(cells)


def _first(record: Record) -> Iterator[str]:
    rows = []
    for e in record["first_call"]:
        ms = (e["first_ms"], e["second_ms"])
        said = [text(e["reason"]) if t is None else digits(t) for t in ms]
        rows.append([text(e["contender"]), e["caches"], *said])
    yield from _section("The first call", "first", ["", "caches", "first, ms", "second, ms"], rows)
    for entry in record["imports"]:
        yield f"`import xloss` adds {digits(entry['import_ms'])} ms to `import numpy`."


# ---- On a GPU -----------------------------------------------------------------------------------


def _gpu(record: Record) -> Iterator[str]:
    for facts in record["gpu"]:
        if facts["rehearsal"]:
            yield WORDS["rehearsal"]
            continue
        versions = ", ".join(f"{name} {number}" for name, number in facts["versions"].items())
        yield (
            f"GPU: {text(facts['name'])}, compute capability {facts['capability']}, "
            f"{facts['memory_bytes'] / 1e9:,.0f} GB, L2 {facts['l2_bytes'] / 1e6:,.0f} MB, "
            f"{facts['processors']} multiprocessors; driver {text(facts['driver'])}, "
            f"CUDA {facts['cuda']}; {text(versions)}."
        )


def _shares(record: Record) -> Iterator[str]:
    """Give a table of a copy's speed for each dtype: contenders and ways down, classes across."""
    some = [work for work in record["works"] if work["op"] in WAYS]
    copies = {(w["dtype"], w["gradient"], w["classes"]): w["bound"] for w in some if w["bound"]}
    found: dict[tuple[str, str, str, int], str] = {}
    for work in some:
        # JAX has no copy: PyTorch's of the same shape stands beside it.
        bound = work["bound"] or copies.get((work["dtype"], work["gradient"], work["classes"]))
        if bound is None:
            continue
        for run in work["runs"]:
            key = work["dtype"], run["contender"], work["op"], work["classes"]
            found[key] = percent(bound["median_ms"] / run["median_ms"])
    classes = sorted({work["classes"] for work in some})
    planned = [row for row in TABLES["gpu"] if row["op"] in WAYS]
    names = dict.fromkeys(name for row in planned for name in TABLES["who"][row["who"]])
    for dtype in dict.fromkeys(row["dtype"] for row in planned):
        yield f"## {dtype}, percent of a copy's speed"
        rows = []
        for name, op in product(names, WAYS):
            cells = [found.get((dtype, name, op, c), NONE) for c in classes]
            if set(cells) != {NONE}:
                rows.append([text(name), WAYS[op], *cells])
        yield table(["", "", *(f"{c:,}" for c in classes)], rows)


def _linear(record: Record) -> Iterator[str]:
    for work in (work for work in record["works"] if work["op"] == "linear"):
        yield "## linear_cross_entropy"
        yield text(work["name"])
        rows = []
        for run in sorted(work["runs"], key=lambda run: float(run["median_ms"])):
            held = run["peak_bytes"]
            mib = NONE if held is None else f"{held / 2**20:,.0f}"
            rows.append([text(run["contender"]), digits(run["median_ms"]), mib])
        if work["bound"]:
            rows.append([f"*{work['bound']['by']}*", digits(work["bound"]["median_ms"]), "–"])
        yield table(["", "ms", "MiB beyond inputs and gradients"], rows)


def _host(record: Record) -> Iterator[str]:
    rows = [
        [
            text(run["contender"]),
            WAYS["gradient" if work["gradient"] else "forward"],
            *(digits(run[time] * 1e3) for time in ("median_ms", "min_ms")),
        ]
        for work, run in _runs(record)
        if work["op"] == "host"
    ]
    yield from _section("Time of the host", "host_time", ["", "", "median µs", "least"], rows)


# ---- Calls that replace several ------------------------------------------------------------------


def _calls(record: Record) -> Iterator[str]:
    machine, versions = record["machine"], record["versions"]
    yield (
        f"{record['date']}, {machine['processor']}, {record['threads']} cores, numpy "
        f"{versions['numpy']}, torch {versions['torch']}; load average {record['load'][0]} before "
        f"and {record['load'][-1]} after."
    )
    rows = []
    for row in record["rows"]:
        one, several = row["one"]["median_ms"], row["several"]["median_ms"]
        times = [f"{one:.3g}", f"{several:.3g}", f"{several / one:.2f}×"]
        rows.append([row["what"], row["library"], "({}, {})".format(*row["shape"]), *times])
    heads = ["call", "library", "float32 shape", "ms", "the calls it replaces, ms", "ratio"]
    yield table(heads, rows)


# ---- On both ------------------------------------------------------------------------------------


def _errors(record: Record) -> Iterator[str]:
    """Give the worst errors of each contender and dtype, of the arrays that were timed."""
    worst: dict[tuple[str, str], dict[str, float | None]] = {}
    for work, run in _runs(record):
        row = worst.setdefault((run["contender"], work["dtype"]), {})
        for what in ("value_ulp", "gradient_ulp", "tail"):
            row[what] = max((row.get(what), run.get(what)), key=_size)
    rows = [
        [text(who), dtype, ulp(row["value_ulp"]), ulp(row["gradient_ulp"]), off(row["tail"])]
        for (who, dtype), row in worst.items()
        if row["value_ulp"] is not None
    ]
    head = ["", "dtype", "value", "gradient", "tail"]
    yield from _section("Beside the exact answer", "errors", head, rows)


def _size(error: float | None) -> float:
    return -1.0 if error is None else abs(error)


def _contenders(record: Record) -> Iterator[str]:
    yield "## Who took part"
    rows = [[text(c["name"]), text(c["version"]), f"`{c['call']}`"] for c in record["contenders"]]
    yield table(["", "version", "the call"], rows)


def _refused(record: Record) -> Iterator[str]:
    """Say who was not timed on a GPU, and why."""
    lines = list(record["missing"])
    for work in record["works"]:
        lines += [f"{r['contender']}: {work['name']}: {r['reason']}" for r in work["refused"]]
    if lines:
        yield "## Not timed"
        yield "\n".join(f"- {text(said)}" for said in lines)
