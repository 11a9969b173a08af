"""Results as text on stdout, and a progress bar on stderr if that is a terminal."""

from __future__ import annotations

import io
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from itertools import groupby
from operator import itemgetter
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.markup import escape
from rich.progress import Progress

from ..diagnose import Finding
from .array_libraries import ALL
from .loss_choices import CHOICES, SCORES
from .output import print_json, visible

# Options that several commands share.
Json = Annotated[
    bool, typer.Option("--json", help="Print one JSON object on stdout, and nothing else.")
]
Names = list[str] | None


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


def show(result: dict[str, Any], as_json: bool, as_text: Callable[[dict[str, Any]], None]) -> None:
    """Print a result on stdout, as JSON or by the function that prints it as text."""
    if as_json:
        print_json(result)
        return
    if isinstance(sys.stdout, io.TextIOWrapper):  # reports have characters beyond ASCII
        sys.stdout.reconfigure(errors="replace")
    as_text(result)


# Of each table the heading of a column, and how it shows an entry of the result.
BACKENDS = {
    "xloss on": "{backend}",
    "version": "{version}",
    "engine": "{engine}",
    "loss": "{loss:.12g}",
    "accuracy": "{accuracy:.2%}",
    "first call": "{seconds:.3f} s",
}
PEERS = {
    "the same rows by": "{name}",
    "mean": "{loss:.9g}",
    "lost rows": "{lost:,}",
    "worst row": "{row}",
    "gives": "{gives:.4g}",
    "exact": "{exact:.4g}",
    "error": "{share}",
}
WORST = {"row": "{row}", "label": "{label}", "predicted": "{predicted}", "loss": "{loss:.9g}"}


def show_evaluation(result: dict[str, Any]) -> None:
    """Print what `xloss eval` found."""
    function, on_all = result["function"], result["backend"] == ALL
    reads = CHOICES[function].reads
    which = "" if function == "cross_entropy" else f" ({function})"
    label, kind = ("logits", "") if reads == SCORES else ("input", f"{reads}, ")
    shape = " x ".join(map(str, result["shape"]))
    shifted = ", judged with the label of the next position" if result["shift"] else ""
    perplexity = "none: {not_given[perplexity]}" if "not_given" in result else "{perplexity:.9g}"
    lines = {
        "loss": f"{result['loss']:.9g}{which}",
        "perplexity": perplexity.format(**result),
        "accuracy": f"{result['accuracy']:.2%}",
        "rows": "{rows:,}: {counted:,} counted, {ignored:,} ignored".format(**result),
        label: f"{kind}{result['dtype']}, {shape}{shifted}",
    }
    if not on_all:  # each library has a line of its own below
        lines["computed"] = "by {backend}, engine {engine}, in {seconds:.3f} s".format(**result)
    for name, text in lines.items():
        print(f"{name:<11} {text}")
    if on_all:
        _show_backends(result)
        _show_peers(result)
    for entry in result.get("findings", ()):
        print(Finding(**entry))
    if result["worst"]:
        print("\nworst rows")
        print_table(WORST, result["worst"])


def _show_backends(result: dict[str, Any]) -> None:
    """Print the loss on each array library, and by how much they differ."""
    print()
    print_table(BACKENDS, result["backends"])
    for entry in result["missing"]:
        print(f"  {visible(entry['reason'].removeprefix('--backend '))}")
    if len(result["backends"]) > 1:
        apart = f"differ by at most {result['spread']:.1g} of the loss"
        print(f"  The losses {apart if result['spread'] else 'are equal to the last bit'}.")


def _show_peers(result: dict[str, Any]) -> None:
    """Print what other libraries' losses make of the same rows."""
    if why := result.get("peers_not_compared"):
        print(f"\n{why}")
        return
    rows = [
        row | {"share": "100%" if row["error"] == 1 else f"{row['error']:.1g}"}
        for row in result["peers"]
        if row["row"] is not None
    ]
    print()
    print_table(PEERS, rows)
    print("  A row is lost if 0 comes out and the loss is not 0; the error is a share of the loss.")


def print_table(columns: dict[str, str], rows: Sequence[dict[str, Any]]) -> None:
    """Print what the columns show of each row, below their headings."""
    cells = [tuple(shown.format(**row) for shown in columns.values()) for row in rows]
    print_columns([tuple(columns), *cells])


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


def show_warm(result: dict[str, Any]) -> None:
    """Print what `xloss engines --warm` has done."""
    print(
        f"{result['seconds']:8.2f} s  all {len(result['kernels'])} kernels, with the start of Numba"
    )
    for entry in result["skipped"]:
        print(f"engine '{entry['engine']}' is skipped: {entry['reason']}")
    folder = result["cache"]
    print(f"kept in {folder}" if folder else "not kept on disk: the cache cannot be written")


def show_cases(result: dict[str, Any]) -> None:
    """Print the cases of each family and their reasons, for `xloss conform --list`."""
    cases = result["cases"]
    for family, of_family in groupby(cases, key=itemgetter("family")):
        print(family)
        for case in of_family:
            marks = [name for name in ("quick", "on_demand") if case[name]]
            print(f"  {', '.join([case['name'] + '  ' + case['loss'], *marks])}")
            for line in (case["reason"], *case["see"]):
                print(f"      {line}")
        print()
    print(f"{len(cases)} cases")


def print_columns(rows: Sequence[tuple[str, ...]]) -> None:
    """Print rows of text, indented and aligned; some of it are messages of other libraries."""
    rows = [tuple(map(visible, row)) for row in rows]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        cells = (text.ljust(width) for text, width in zip(row, widths, strict=True))
        print("  " + "  ".join(cells).rstrip())
