"""The published run on a GPU, as Markdown; nothing is edited by hand."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from ..figures import digits, percent, table, text
from ..pages import contenders, every, head, targets
from .check import BEYOND, READ
from .plan import CLASSES, DTYPES, ELEMENTS, HOST_SHAPE, WHO
from .targets import SHARES

Record = dict[str, Any]
REHEARSAL = "**A rehearsal of tiny shapes on the host: no figure here says anything about a GPU.**"
CALLS = f"""\
A call has 2²⁹ = {ELEMENTS:,} logits, normal, of deviation 3; class indices; the mean. Figures are
percent of the speed of a copy, GPU to GPU, in the same turns, of what a call must move at least:
logits read once, the gradient written once, labels; the same bytes whichever way a call goes. A
kernel that only reads can be faster than a copy."""
HOW = """\
Before anybody is timed, its answer on the timed arrays is compared with NumPy's in float64. Then
the contenders of one library take turns in one process; a turn is as many calls as take ten
milliseconds, between two CUDA events, after one that is not timed and keeps the GPU busy while they
queue up; JAX has no events, and is read by the host's clock. Figures are medians of the turns.
Kernels are compiled before. CuPy has no bfloat16: float16 stands in its place. Liger writes the
gradient over the logits. Who compiles for every shape is timed on some of them."""
NONE = "not measured"
WAYS = {"forward": "value", "gradient": "value and gradient"}


def page(record: Record) -> str:
    """Return the document."""
    parts = [*head(record, "Performance on a GPU"), *_machine(record), CALLS, *_shares(record), HOW]
    parts += [*targets(record), *_linear(record), *_host(record), *_errors(record)]
    parts += [*contenders(record), *every(record)]
    return "\n\n".join([*parts, *_refused(record)]) + "\n"


def _machine(record: Record) -> Iterator[str]:
    for facts in record["gpu"]:
        if facts["rehearsal"]:
            yield REHEARSAL
            continue
        versions = ", ".join(f"{name} {number}" for name, number in facts["versions"].items())
        yield (
            f"GPU: {text(facts['name'])}, compute capability {facts['capability']}, "
            f"{facts['memory_bytes'] / 1e9:,.0f} GB, L2 {facts['l2_bytes'] / 1e6:,.0f} MB, "
            f"{facts['processors']} multiprocessors; driver {text(facts['driver'])}, "
            f"CUDA {facts['cuda']}; {text(versions)}."
        )
    for entry in record["compiled"]:
        yield (
            f"The first calls of {entry['calls']} shapes and dtypes, which compile, took "
            f"{entry['seconds']:.0f} s in {entry['processes']} processes."
        )


# ---- Shares of a copy's speed --------------------------------------------------------------------


def _shares(record: Record) -> Iterator[str]:
    """Give a table for each dtype: contenders and ways down, classes across."""
    some = [work for work in record["works"] if work["kind"] in WAYS]
    copies = {
        (w["dtype"], w["gradient"], w["classes"]): w["bound"]["median_ms"]
        for w in some
        if w["bound"] and w["library"] == "torch"
    }
    found: dict[tuple[str, str, str, int], str] = {}
    for work in some:
        same = (work["dtype"], work["gradient"], work["classes"])
        bound = work["bound"]["median_ms"] if work["bound"] else copies.get(same)
        for run in work["runs"]:
            key = (work["dtype"], run["contender"], work["kind"], work["classes"])
            if bound is not None:
                found[key] = percent(bound / run["median_ms"])
    # A rehearsal has classes of its own.
    classes = CLASSES if not some else tuple(sorted({work["classes"] for work in some}))
    ways = [(name, kind) for of in WHO.values() for name in of for kind in WAYS]
    for dtype in dict.fromkeys(d for of in DTYPES.values() for d in of):
        yield f"## {dtype}, percent of a copy's speed"
        rows = []
        for name, kind in ways:
            cells = [found.get((dtype, name, kind, c), NONE) for c in classes]
            if (dtype, kind, name) in SHARES or set(cells) != {NONE}:
                rows.append([text(name), WAYS[kind], *cells])
        yield table(["", "", *(f"{c:,}" for c in classes)], rows)


# ---- The rest ------------------------------------------------------------------------------------


def _linear(record: Record) -> Iterator[str]:
    for work in record["works"]:
        if work["kind"] != "linear":
            continue
        yield "## linear_cross_entropy"
        yield text(work["name"])
        rows = [
            [text(r["contender"]), digits(r["median_ms"]), _mib(r["peak_bytes"])]
            for r in sorted(work["runs"], key=lambda r: float(r["median_ms"]))
        ]
        if work["bound"]:
            rows.append([f"*{work['bound']['by']}*", digits(work["bound"]["median_ms"]), "–"])
        yield table(["", "ms", "MiB beyond inputs and gradients"], rows)


def _mib(count: float | None) -> str:
    return NONE if count is None else f"{count / 2**20:,.0f}"


def _host(record: Record) -> Iterator[str]:
    some = [work for work in record["works"] if work["kind"] == "host"]
    if not some:
        return
    yield "## Time of the host"
    yield (
        f"Microseconds of the host for a call on {HOST_SHAPE}, float32: many in a row, without "
        "waiting for the GPU."
    )
    rows = []
    for work, run in ((at, run) for at in some for run in at["runs"]):
        middle, least, low, high = (digits(run[f"{k}_ms"] * 1e3) for k in QUARTILES)
        way = WAYS["gradient" if work["gradient"] else "forward"]
        rows.append([text(run["contender"]), way, middle, least, f"{low} to {high}"])
    yield table(["", "", "median µs", "least", "quartiles"], rows)


QUARTILES = ("median", "min", "q1", "q3")


def _errors(record: Record) -> Iterator[str]:
    """Give the worst errors of each contender and dtype, of the arrays that were timed."""
    worst: dict[tuple[str, str], dict[str, float]] = {}
    for work in record["works"]:
        for run in work["runs"]:
            row = worst.setdefault((run["contender"], work["dtype"]), {})
            for what in ("value_ulp", "gradient_ulp", "tail"):
                if run[what] is not None and abs(run[what]) >= abs(row.get(what, 0.0)):
                    row[what] = run[what]
    rows = [
        [text(who), dtype, _ulp(row.get("value_ulp")), _ulp(row.get("gradient_ulp")), _off(row)]
        for (who, dtype), row in worst.items()
        if row
    ]
    if rows:
        yield "## Beside the exact answer"
        yield (
            f"The worst errors of the arrays that were timed, in ulp: of the mean and of the "
            f"losses of {READ} rows, in float32; of every gradient entry of those rows, in its own "
            "format. The tail is a row whose label is 20 ahead of all other classes: by how much "
            "its loss is off."
        )
        yield table(["", "dtype", "value", "gradient", "tail"], rows)


def _ulp(found: float | None) -> str:
    if found is None:
        return "–"
    return "**no number**" if found >= BEYOND else digits(found)


def _off(row: dict[str, float]) -> str:
    return f"{row['tail']:+.2g}" if "tail" in row else "–"


def _refused(record: Record) -> Iterator[str]:
    lines = [f"- {text(said)}" for said in record["missing"]]
    for work in record["works"]:
        for refused in work["refused"]:
            who, why = text(refused["contender"]), text(refused["reason"])
            lines.append(f"- {text(work['name'])}: {who}: {why}.")
    if lines:
        yield "## Not timed"
        yield "\n".join(lines)
