"""Results as text on stdout, and a progress bar on stderr if that is a terminal."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.progress import Progress

from ..diagnose import Finding
from .array_converters import ALL
from .loss_choices import SCORES, choice_of
from .output import visible


@contextmanager
def progress_bar(title: str) -> Iterator[Callable[[int, int], None]]:
    """Yield the function to call with the number of rows done and the number of all rows."""
    console = Console(stderr=True)
    if not console.is_terminal:
        yield lambda done, total: None
        return
    with Progress(console=console, transient=True) as progress:
        task = progress.add_task(escape(visible(title)), total=None)
        yield lambda done, total: progress.update(task, completed=done, total=total)


def show_evaluation(result: dict[str, Any]) -> None:
    """Print what `xloss eval` found."""
    shape = " x ".join(map(str, result["shape"]))
    function, reads = result["function"], choice_of(result["function"]).reads
    which = "" if function == "cross_entropy" else f" ({function})"
    label, kind = ("logits", "") if reads == SCORES else ("input", f"{reads}, ")
    shifted = ", judged with the label of the next position" if result["shift"] else ""
    lines = [
        ("loss", f"{result['loss']:.9g}{which}"),
        ("perplexity", _perplexity(result)),
        ("accuracy", f"{result['accuracy']:.2%}"),
        ("rows", "{rows:,}: {counted:,} counted, {ignored:,} ignored".format(**result)),
        (label, f"{kind}{result['dtype']}, {shape}{shifted}"),
        (
            "computed",
            f"by {result['backend']}, engine {result['engine']}, "
            f"in {result['seconds']:.3f} s{_by_whom(result)}",
        ),
    ]
    if result["backend"] == ALL:
        lines.pop()  # each library has a line of its own below
    for name, text in lines:
        print(f"{name:<11} {text}")
    if result["backend"] == ALL:
        _show_backends(result)
        _show_peers(result)
    for entry in result.get("findings", ()):
        print(Finding(**entry))
    if result["worst"]:
        print("\nworst rows")
        rows = [
            (str(r["row"]), str(r["label"]), str(r["predicted"]), f"{r['loss']:.9g}")
            for r in result["worst"]
        ]
        print_columns([("row", "label", "predicted", "loss"), *rows])


def _show_backends(result: dict[str, Any]) -> None:
    """Print the loss on each array library, and by how much they differ."""
    heading = ("xloss on", "version", "engine", "loss", "accuracy", "first call")
    rows = [
        (
            row["backend"],
            row["version"],
            row["engine"],
            f"{row['loss']:.12g}",
            f"{row['accuracy']:.2%}",
            f"{row['seconds']:.3f} s",
        )
        for row in result["backends"]
    ]
    print()
    print_columns([heading, *rows])
    for entry in result["missing"]:
        print(f"  {visible(entry['reason'].removeprefix('--backend '))}")
    if len(rows) > 1:
        apart = f"differ by at most {result['spread']:.1g} of the loss"
        print(f"  The losses {apart if result['spread'] else 'are equal to the last bit'}.")


def _show_peers(result: dict[str, Any]) -> None:
    """Print what other libraries' losses make of the same rows."""
    if why := result.get("peers_not_compared"):
        print(f"\n{why}")
        return
    heading = ("the same rows by", "mean", "lost rows", "worst row", "gives", "exact", "error")
    rows = [
        (
            row["name"],
            f"{row['loss']:.9g}",
            f"{row['lost']:,}",
            str(row["row"]),
            f"{row['gives']:.4g}",
            f"{row['exact']:.4g}",
            "100%" if row["error"] == 1 else f"{row['error']:.1g}",
        )
        for row in result["peers"]
        if row["row"] is not None
    ]
    print()
    print_columns([heading, *rows])
    print("  A row is lost if 0 comes out and the loss is not 0; the error is a share of the loss.")


def _perplexity(result: dict[str, Any]) -> str:
    if result["perplexity"] is None:
        return f"none: {result['not_given']['perplexity']}"
    return f"{result['perplexity']:.9g}"


def _by_whom(result: dict[str, Any]) -> str:
    number = result.get("workers", 0)
    return f" on {number} {'worker' if number == 1 else 'workers'}" if number else ""


def show_machine(result: dict[str, Any]) -> None:
    """Print what `xloss engines` found."""
    for kind in ("backends", "engines"):
        print(kind)
        rows = []
        for entry in result[kind]:
            yes = entry["available"]
            said = [*entry.get("devices", ())] if yes else [entry["reason"]]
            said += [entry["install"]] if entry.get("install") else []
            rows.append((entry["name"], entry.get("version") or "-", "; ".join(said) or "ready"))
        print_columns(rows)


def show_kernel(name: str, seconds: float) -> None:
    """Print the name of a kernel that has been compiled, and how long it took."""
    print(f"{seconds:8.2f} s  {name}", flush=True)


def show_warm(result: dict[str, Any]) -> None:
    """Print what `xloss engines --warm` has done."""
    print(
        f"{result['seconds']:8.2f} s  all {len(result['kernels'])} kernels, with the start of Numba"
    )
    for entry in result["skipped"]:
        print(f"engine '{entry['engine']}' is skipped: {entry['reason']}")
    folder = result["cache"]
    print(f"kept in {folder}" if folder else "not kept on disk: the cache cannot be written")


def show_cases(cases: Sequence[dict[str, Any]]) -> None:
    """Print the cases of each family and their reasons, for `xloss conform --list`."""
    family = ""
    for case in cases:
        if case["family"] != family:
            family = case["family"]
            print(f"\n{family}" if case is not cases[0] else family)
        marks = [name for name in ("quick", "on_demand") if case[name]]
        print(f"  {case['name']}  {case['loss']}{''.join(f', {m}' for m in marks)}")
        lines = [case["reason"], *case["see"]]
        print("\n".join(f"      {line}" for line in lines))
    print(f"\n{len(cases)} cases")


def print_columns(rows: Sequence[tuple[str, ...]]) -> None:
    """Print rows of text, indented and aligned; some of it are messages of other libraries."""
    rows = [tuple(map(visible, row)) for row in rows]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        cells = (text.ljust(width) for text, width in zip(row, widths, strict=True))
        print("  " + "  ".join(cells).rstrip())
