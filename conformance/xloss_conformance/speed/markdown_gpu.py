"""The published run on a GPU, as Markdown, or that there is none; nothing is edited by hand."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from ..report.markdown import table, text
from .figures import digits, percent
from .gpu import CHECKED, ELEMENTS, HOST_SHAPE, WHO
from .gpu_check import ALLOWED, ALLOWED_16, BEYOND
from .gpu_targets import (
    FEW,
    FORWARD,
    FORWARD_FEW,
    GRADIENT,
    HOST,
    QUACK,
    QUACK_PEAK,
    QUACK_SPEEDS,
    RATIOS,
)
from .markdown import contenders, head, marked

Record = dict[str, Any]
TITLE = "Performance on a GPU"
COMMAND = "xloss bench --op gpu --publish docs"
NOT_MEASURED = f"""\
**Not measured: no GPU was at hand.** There are no figures here until this command has run on a
machine with one; it takes some minutes, and writes this page anew:

```sh
{COMMAND}
```"""
REHEARSAL = """\
**This is a rehearsal of tiny shapes on the host: no figure here says anything about a GPU.**"""
CALLS = f"""\
A call has 2²⁹ = {ELEMENTS:,} logits, bfloat16 or float32, normal, of deviation 3; class indices;
the mean. "Value" is the loss without a gradient, "value and gradient" both: by `value_and_grad`
(`closed form`), or by autograd, forward and backward."""
HOW = f"""\
First of all xloss is compared with the oracle, of {CHECKED["torch"]} rows of the same classes
(CuPy: {CHECKED["cupy"]}), every gradient entry. Before anybody is timed, its answer on the timed
arrays is compared with NumPy's in float64. Then the contenders of one library take turns in one
process; a turn is as many calls as take ten milliseconds, between two CUDA events, after one that
is not timed and keeps the GPU busy while they queue up; JAX has no events, and is read by the
host's clock. Figures are medians of the turns. Bytes are what a call must move at least: logits
read once, the gradient written once, labels; by autograd the logits, or as many bytes saved of
them, are read a second time. A copy is one of the logits, GPU to GPU, in the same turns, read and
written. CuPy has no bfloat16: float16 stands in its place."""
HEADINGS = {"forward": "Value", "gradient": "Value and gradient", "host": "Time of the host"}
HOSTS = f"""\
Microseconds of the host for a call on {HOST_SHAPE}, float32, without a gradient: many in a row,
without waiting for the GPU."""


def markdown_gpu(record: Record | None) -> str:
    """Return the document; without a record it says that nothing was measured."""
    if record is None:
        parts = [f"# {TITLE}", NOT_MEASURED, CALLS, "## Targets", goals()]
        return "\n\n".join(parts) + "\n"
    parts = [*head(record, TITLE), *_machine(record), CALLS, HOW, "## Targets", goals()]
    parts += [*_targets(record), *_times(record), *_checks(record)]
    parts += [*contenders(record), *_refused(record)]
    return "\n\n".join(parts) + "\n"


def goals() -> str:
    """Return what is meant to be reached."""
    eager, compiled, hand = RATIOS.values()
    quack = table(
        ["classes", *(f"{classes:,}" for classes in QUACK_SPEEDS)],
        [
            ["GB/s", *(f"{speed / 1e9:,.0f}" for speed in QUACK_SPEEDS.values())],
            ["share", *(percent(speed / QUACK_PEAK) for speed in QUACK_SPEEDS.values())],
        ],
    )
    return f"""\
- Of a copy's speed in the same run: a value {FORWARD:.0%} from {FEW:,} classes on,
  {FORWARD_FEW:.0%} below; value and gradient in one launch {GRADIENT:.0%}.
- {eager:g} times as fast as PyTorch's eager loss, {compiled:g} times as `torch.compile`'s,
  {hand:g} times as the loss written by hand with CuPy.
- In bfloat16, value and gradient: a larger share of the data sheet's memory speed than Quack's own
  figures, below.
- A small call without a gradient takes the host less than {HOST:g} µs.
- Within {ALLOWED:g} ulp of the oracle, value and every gradient entry; 16-bit gradients within
  {ALLOWED_16:g} ulp of their format.

Quack's forward and backward in bfloat16 on an H100, of {QUACK_PEAK / 1e9:,.0f} GB/s, logits
read once and their gradient written once:

{quack}"""


def _machine(record: Record) -> Iterator[str]:
    for facts in record["gpu"]:
        if facts["rehearsal"]:
            yield REHEARSAL
            continue
        versions = ", ".join(f"{name} {number}" for name, number in facts["versions"].items())
        yield (
            f"GPU: {text(facts['name'])}, compute capability {facts['capability']}, "
            f"{facts['memory_bytes'] / 1e9:,.0f} GB, L2 {facts['l2_bytes'] / 1e6:,.0f} MB, "
            f"{facts['processors']} multiprocessors; CUDA {facts['cuda']}; {text(versions)}."
        )


def _targets(record: Record) -> Iterator[str]:
    """Give a row a call of whom, and a column each thing it is measured by."""
    columns = {"copy": "of a copy's speed", **{n: f"beside {n}" for n in RATIOS}, QUACK: QUACK}
    rows: dict[tuple[str, str], dict[str, str]] = {}
    for target in record["targets"]:
        if target["kind"] in ("reach", "ratio"):
            row = rows.setdefault((target["work"], target["subject"]), {})
            row[target["against"]] = marked(target)
    if rows:
        yield table(
            ["call", "contender", *columns.values()],
            [
                [text(work), text(who), *(row.get(name, "–") for name in columns)]
                for (work, who), row in rows.items()
            ],
        )
    others = [t for t in record["targets"] if t["kind"] == "microseconds"]
    if others:
        found = [[text(t["work"]), text(t["subject"]), marked(t)] for t in others]
        yield table(["call", "contender", "the host"], found)


def _times(record: Record) -> Iterator[str]:
    for kind, heading in HEADINGS.items():
        some = [work for work in record["works"] if work["kind"] == kind]
        if not some:
            continue
        yield f"## {heading}"
        if kind == "host":
            yield HOSTS
            runs = [run for work in some for run in work["runs"]]
            cells = [[text(r["contender"]), r["engine"] or "–", *_spread(r)] for r in runs]
            yield table(["", "engine", "median µs", "least", "quartiles"], cells)
            continue
        yield "Milliseconds; GB/s; share of a copy's speed."
        for dtype in dict.fromkeys(work["dtype"] for work in some):
            yield f"{dtype}:"
            yield _table([work for work in some if work["dtype"] == dtype])


def _table(works: list[Record]) -> str:
    """Return the table of one dtype; what each library's process timed stands in one row."""
    runs: dict[tuple[int, str], str] = {}
    copies: dict[int, float] = {}
    for work in works:
        if work["bound"]:
            copies.setdefault(work["classes"], work["bound"]["gb_s"])
    for work in works:
        copy = work["bound"]["gb_s"] if work["bound"] else copies.get(work["classes"])
        for run in work["runs"]:
            share = "" if copy is None else f"; {percent(run['gb_s'] / copy)}"
            said = f"{digits(run['median_ms'])}; {digits(run['gb_s'])}{share}"
            runs[work["classes"], run["contender"]] = said
    who = [n for names in WHO.values() for n in names if any(name == n for _, name in runs)]
    shapes = {work["classes"]: work["shape"] for work in works}
    return table(
        ["shape", *(text(name) for name in who), "*a copy*, GB/s"],
        [
            [
                f"({', '.join(map(str, shape))})",
                *(runs.get((classes, name), "–") for name in who),
                digits(copies[classes]) if classes in copies else "–",
            ]
            for classes, shape in shapes.items()
        ],
    )


def _spread(run: Record) -> list[str]:
    low, high, least = (run[key] * 1e3 for key in ("q1_ms", "q3_ms", "min_ms"))
    return [digits(run["median_ms"] * 1e3), digits(least), f"{digits(low)} to {digits(high)}"]


def _checks(record: Record) -> Iterator[str]:
    if not record.get("checks"):
        return
    yield "## Beside the oracle"
    yield "The worst errors in ulp: of the loss, and of the gradient in its own format."
    yield table(
        ["call", "contender", "value", "gradient"],
        [
            [
                text(entry["name"]), text(one["contender"]), _ulp(one, "value"),
                _ulp(one, "gradient"),
            ]
            for entry in record["checks"]
            for one in entry["of"]
        ],
    )  # fmt: skip


def _ulp(one: Record, what: str) -> str:
    found = one[f"{what}_ulp"]
    if found is None:
        return "–"
    said = text(one["reason"]) or "no number"
    return f"**{said}**" if found >= BEYOND else digits(found)


def _refused(record: Record) -> Iterator[str]:
    for work in record["works"]:
        for refused in work["refused"]:
            who, why = text(refused["contender"]), text(refused["reason"])
            yield f"Not timed, {text(work['name'])}: {who}: {why}."
