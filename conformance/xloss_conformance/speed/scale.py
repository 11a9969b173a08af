"""`python -m xloss_conformance.speed.scale [FOLDER]`: write the tables of FOLDER/scale.md anew.

Every figure of theirs comes from the formulas of `collectives`, from what is stated here and from
the published run of the benchmarks.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from ..report.markdown import table
from . import collectives as by
from .collectives import Collectives, Held, Network
from .figures import digits, percent

Record = dict[str, Any]
DOCUMENT = "scale.md"
ROWS = 8192  # tokens that a vocabulary group takes in a step
HIDDEN = (4096, 8192)
CLASSES = (128_256, 262_144, 1_000_000)
GROUPS = ((8, 1), (8, 8), (8, 64), (64, 64), (64, 256))  # T ranks share a vocabulary, D such groups
SIZE = 2  # bytes of a logit: bfloat16
MEMORY, FLOPS = 4.8e12, 989e12  # of an H200, as stated by its maker: bytes and bfloat16 operations
START = 6.8e-6  # of a collective
NETWORKS = (
    Network("NVLink", 450e9, 0.6e-6),
    Network("InfiniBand", 50e9, 5e-6),
    Network("Ethernet", 12.5e9, 20e-6),
)
METHODS: dict[str, tuple[Callable[[int, int], Collectives], Callable[[int], Held]]] = {
    "xloss": (by.xloss, by.xloss_held),
    "Megatron-LM": (by.megatron, by.megatron_held),
    "Megatron-LM, fused": (lambda n, size: by.megatron(n, size, fused=True), by.megatron_held),
    "torch `loss_parallel`": (by.loss_parallel, by.loss_parallel_held),
}


def main(arguments: list[str]) -> None:
    """Write the tables of scale.md in the folder, beside the run that is published there."""
    from .publish import published

    folder = Path(arguments[0] if arguments else "docs")
    rewrite(published(folder), folder)


def rewrite(record: Record, docs: Path) -> None:
    """Write the tables anew, where there is such a page."""
    path = docs / DOCUMENT
    if path.exists():
        path.write_text(written(path.read_text("utf-8"), record), encoding="utf-8")


def written(text: str, record: Record) -> str:
    """Return the page with what stands between its markers as the formulas have it."""
    for name, made in tables(record).items():
        pattern = re.compile(rf"(<!-- {name} -->\n).*?(<!-- end -->)", re.DOTALL)
        if len(pattern.findall(text)) != 1:
            raise ValueError(f"{DOCUMENT}: expected <!-- {name} --> and <!-- end --> once")
        text = pattern.sub(lambda found, made=made: f"{found[1]}{made}\n{found[2]}", text)  # type: ignore[misc]
    return text


def tables(record: Record) -> dict[str, str]:
    """Return every table by the name of its markers."""
    return {
        "stated": _stated(record),
        "collectives": _collectives(),
        "bytes": _bytes(),
        "steps": _steps(record),
        "held": _held(),
    }


def measured(record: Record, dtype: str) -> float:
    """Return seconds an element of loss and gradient, as measured on torch's tensors."""
    for work in record["works"]:
        if work["dtype"] == dtype and work["gradient"] and work["shape"][-1] == CLASSES[0]:
            found = {run["contender"]: run["median_ms"] for run in work["runs"]}
            return float(found["xloss torch"]) / 1e3 / int(work["elements"])
    raise ValueError(f"the published run has no gradient of {CLASSES[0]} classes in {dtype}")


def _stated(record: Record) -> str:
    machine = record["machine"]
    took = {dtype: measured(record, dtype) * 1e9 for dtype in ("float32", "bfloat16")}
    where = f"{machine['processor']}, {machine['cores']} cores, {record['date']}"
    rows = [
        [
            "local pass",
            "**measured**",
            f"{took['bfloat16']:.2f} ns an element of bfloat16, "
            f"{took['float32']:.2f} of float32: `cross_entropy` and `.backward()` of "
            f"{CLASSES[0]:,} classes in one process ([performance](performance.md); {where})",
        ],
        [
            "an H200",
            "stated",
            f"{MEMORY / 1e12:g} TB/s, {FLOPS / 1e12:g}·10¹² bfloat16 operations "
            "a second, both reached in full",
        ],
    ]
    rows += [
        [
            net.name,
            "stated",
            f"{net.speed / 1e9:g} GB/s each way for every rank, "
            f"{net.hop * 1e6:g} µs a hop" + (" (no source: assumed)" if net.hop > 6e-6 else ""),
        ]
        for net in NETWORKS
    ]
    rows.append(["a collective", "stated", f"{START * 1e6:g} µs to start"])
    return table(["what", "", "figure"], rows)


def _collectives() -> str:
    rows = []
    for name, (moves, held) in METHODS.items():
        wide, narrow = held(4), held(2)
        calls = moves(1, 2)
        kinds = [
            f"{sum(c.kind == kind for c in calls)} {kind}" for kind in ("all-reduce", "all-gather")
        ]
        rows.append(
            [
                name,
                " + ".join(kind for kind in kinds if kind[0] != "0"),
                _a_row(moves(1, 4)),
                _a_row(calls),
                "none",
                f"{wide.saved}, {narrow.saved}",
                f"{wide.peak}, {narrow.peak}",
            ]
        )
    heads = [
        "",
        "forward",
        "bytes a row, float32",
        "bfloat16",
        "backward",
        "saved, bytes an element: float32, bfloat16",
        "most held at once",
    ]
    return table(heads, rows)


def _a_row(calls: Collectives) -> str:
    sizes = [call.nbytes for call in calls if call.kind == "all-reduce"]
    return f"{' + '.join(map(str, sizes))} = {sum(sizes)}"


def _bytes() -> str:
    rows = [_moved(name, moves(ROWS, SIZE)) for name, (moves, _) in METHODS.items()]
    smoothed = by.xloss(ROWS, SIZE, weighted=True, smoothed=True)
    rows.insert(1, _moved("xloss, class weights and smoothing", smoothed))
    for hidden in HIDDEN:
        call = by.features_gradient(ROWS, hidden, SIZE)
        rows.append(_moved(f"gradient to {hidden:,} features, in every head's backward", call))
    heads = [f"{net.name}, T = {T}" for T in (8, 64) for net in NETWORKS]
    return table(["", "bytes sent, T = 8", "T = 64", *heads], rows)


def _moved(name: str, calls: Collectives) -> list[str]:
    sent = [_size(by.moved(calls, T)) for T in (8, 64)]
    return [
        name,
        *sent,
        *(_time(by.seconds(calls, T, n, START)) for T in (8, 64) for n in NETWORKS),
    ]


def _steps(record: Record) -> str:
    rows = []
    each = measured(record, "bfloat16")
    for T, D in GROUPS:
        for classes in CLASSES:
            elements = ROWS * -(-classes // T)
            local = (
                3 * SIZE * elements / MEMORY
            )  # read for the sums, read and written for gradients
            head = 3 * 2 * elements * HIDDEN[0] / FLOPS
            took = [by.seconds(by.xloss(ROWS, SIZE), T, net, START) for net in NETWORKS[:2]]
            mean = by.seconds(_mean(), D, NETWORKS[1], START)
            rows.append(
                [
                    f"{T * D:,} = {T} × {D}",
                    f"{classes:,}",
                    _size(SIZE * elements),
                    _time(each * elements),
                    _time(local),
                    _time(head),
                    *map(_time, took),
                    *(percent(t / (t + local + head)) for t in took),
                    _time(mean) if D > 1 else "–",
                ]
            )
    heads = [
        "P = T × D",
        "C",
        "logits of a rank",
        "local pass, 2 cores",
        "local pass, stated",
        "head's products, stated",
        "xloss's collectives, NVLink",
        "InfiniBand",
        "share of these, NVLink",
        "share, InfiniBand",
        "mean over D, InfiniBand",
    ]
    return table(heads, rows)


def _mean() -> Collectives:
    """Return the mean over all data-parallel groups: one float64, the effective count."""
    return (by.Collective("all-reduce", 8),)


def _held() -> str:
    rows = []
    for T in sorted({T for T, _ in GROUPS}):
        for classes in CLASSES:
            local = -(-classes // T)
            held = [held(SIZE) for name, (_, held) in METHODS.items() if "fused" not in name]
            saved = [_size(h.saved * ROWS * local) for h in held]
            peak = [_size(h.peak * ROWS * local) for h in held]
            count = by.blocks(ROWS, local)
            block = 4 * -(-ROWS // count) * local
            calls = by.linear(ROWS, local)
            took = by.seconds(calls, T, NETWORKS[0], START)
            rows.append(
                [str(T), f"{classes:,}", *saved, *peak, _size(block), str(len(calls)), _time(took)]
            )
    names = [name for name in METHODS if "fused" not in name]
    heads = ["T", "C", *(f"saved: {n}" for n in names), *(f"most held: {n}" for n in names)]
    return table([*heads, "`linear_cross_entropy`: a block", "its collectives", "NVLink"], rows)


def _size(nbytes: float) -> str:
    for unit, name in ((1e9, "GB"), (1e6, "MB"), (1e3, "kB")):
        if nbytes >= unit:
            return f"{digits(nbytes / unit)} {name}"
    return f"{digits(nbytes)} B"


def _time(took: float) -> str:
    for unit, name in ((1.0, "s"), (1e-3, "ms")):
        if took >= unit:
            return f"{digits(took / unit)} {name}"
    return f"{digits(took * 1e6)} µs"


if __name__ == "__main__":
    main(sys.argv[1:])
