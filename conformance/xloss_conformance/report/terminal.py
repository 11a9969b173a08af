"""A record for the eye: what is wrong and whether it matters, worst errors, and one verdict."""

from __future__ import annotations

import shlex
import textwrap
from itertools import pairwise
from typing import Any

from rich import box
from rich.console import Console
from rich.markup import escape
from rich.table import Table
from rich.text import Text

from .mistakes import Judged, Mistake, group, judged, picked
from .record import Cell, Record, Tally, by_family, facts, verdict
from .training import NO, SOMETIMES, YES

NARROW = 16  # characters that one column takes at least, its rules included
STYLES = {YES: "bold red", SOMETIMES: "yellow", NO: "dim"}
LEGEND = (
    "1 ulp is a wrong last binary digit. The budget is how many ulp the arithmetic itself may cost;"
    " beyond it an answer is wrong."
)


def show(record: Record, console: Console) -> None:
    """Print a run."""
    _mistakes(console, record)
    columns, rows = by_family(record, _column)
    fit = max(1, (console.width - 22) // NARROW)
    if columns:
        _say(console, LEGEND)
        console.print()
    for start in range(0, len(columns), fit):
        console.print(Text("Worst error in ulp", "bold"))
        table = Table(box=box.SIMPLE_HEAD, pad_edge=False, show_edge=False)
        table.add_column("family")
        for head in ("cases", *columns[start : start + fit]):
            table.add_column(escape(head), justify="right", overflow="fold")
        for name, cases, of in rows:
            table.add_row(escape(name), str(cases), *map(_entry, of[start : start + fit]))
        console.print(table, "")
    _rest(console, record)
    _verdict(console, record)


def _column(subject: Record) -> str:
    return f"xloss {subject['library']}" if subject["kind"] == "xloss" else group(subject)


def _entry(tally: Tally) -> Text:
    styles = {"fail": "bold red", "declared": "yellow"}
    passes = "green" if tally.judged else "dim"
    style = next((style for status, style in styles.items() if tally.counts[status]), passes)
    return Text(str(tally), style)


def _mistakes(console: Console, record: Record) -> None:
    """Print what is wrong, for a reader who knows none of the suite's words."""
    wrong = [one for one in judged(record) if one.mistakes]
    if wrong:
        console.print(Text("What is wrong, and whether it matters in training", "bold"))
        console.print()
    for one in wrong:
        version = f" on {one.library}" * (one.kind == "candidate") + f" {one.version}"
        console.print(Text.assemble((one.name, "bold"), version), soft_wrap=True)
        _say(console, f"{one.failed:,} of {one.judged:,} answers are wrong: {one.sorts()}.", 2)
        shown, more = picked(one.mistakes)
        for mistake in shown:
            _mistake(console, one, mistake, record)
        if more:
            listed = "; ".join(f"{m.title}, {m.failed} ({m.matters})" for m in more)
            _say(console, f"And {len(more)} more: {listed}. --html FILE and --json show all.", 2)
        console.print()


def _mistake(console: Console, of: Judged, mistake: Mistake, record: Record) -> None:
    case = next(case for case in record["cases"] if case["name"] == mistake.cell["case"])
    subjects = {subject["name"]: subject for subject in record["subjects"]}
    head = Text.assemble(("  ", ""), (mistake.matters.upper(), STYLES[mistake.matters]))
    console.print(head + Text(f"  {mistake.title}", "bold"), soft_wrap=True)
    often = f"{mistake.failed:,} of {mistake.judged:,} answers"
    _say(console, f"It {mistake.did} ({often}).".replace("It its", "Its"), 4)
    _say(console, f"In training: {mistake.consequence}", 4, 12)
    _say(console, f"Why: {'; '.join([case['reason'], *case['see']])}", 4, 4)
    if mistake.cell["note"]:
        _say(console, f"Note: {mistake.cell['note']}", 4, 5)
    # In one line, however long: it is there to be copied.
    again_line = again(mistake.cell, subjects, record)
    console.print(Text.assemble(("    See it: ", "dim"), (again_line, "cyan")), soft_wrap=True)


def _say(console: Console, text: str, indent: int = 0, dim: int = 0) -> None:
    """Print a paragraph, its head dim; words longer than a line stay whole."""
    whole: Any = {"break_long_words": False, "break_on_hyphens": False}
    width, further = max(20, console.width - indent), "  " if dim else ""
    first, *rest = textwrap.wrap(text, width, subsequent_indent=further, **whole)
    styled = Text(" " * indent + first)
    styled.stylize("dim", indent, indent + dim)
    console.print(styled, soft_wrap=True)
    for line in rest:
        console.print(Text(" " * indent + line), soft_wrap=True)


def again(cell: Cell, subjects: dict[str, Any], record: Record) -> str:
    """Return the command that runs one cell."""
    subject = subjects[cell["subject"]]
    words = ["xloss", "conform", "--case", cell["case"]]
    name = subject["name"].removesuffix(f" {subject['dtype']}")
    if subject["kind"] == "xloss":
        words += ["--backend", subject["library"]]
    elif subject["kind"] == "peer":
        words += ["--peer", name]
    else:
        words += ["--candidate", name, *_kept(record["command"])]
    return shlex.join([*words, "--dtype", subject["dtype"]])


def _kept(command: str) -> list[str]:
    """Return the options of a command that say how the candidate is called."""
    words, named = shlex.split(command), ("--convention", "--arrays", "--loss")
    kept = [word for word in words if "=" in word and word.partition("=")[0] in named]
    return kept + [word for pair in pairwise(words) if pair[0] in named for word in pair]


def _rest(console: Console, record: Record) -> None:
    stale = record["deviations"]["stale"]
    for line in stale:
        console.print(Text.assemble(("STALE DEVIATION ", "bold red"), line))
    if record["missing"]:
        console.print(Text("Not on this machine", "bold"))
        for line in record["missing"]:
            console.print(Text(f"  {line}"), soft_wrap=True)
    if stale or record["missing"]:
        console.print()


def _verdict(console: Console, record: Record) -> None:
    good, about = record["ok"], facts(record)
    head = Text("PASS" if good else "FAIL", "bold green" if good else "bold red")
    mode = " (quick: xloss conform runs every case)" if record["mode"] == "quick" else ""
    line = f"  {verdict(record)}, in {record['seconds']:.0f} s{mode}"
    console.print(Text.assemble(head, line), soft_wrap=True)
    for name in ("machine", "versions"):
        console.print(Text(f"      {about[name]}", "dim"), soft_wrap=True)
