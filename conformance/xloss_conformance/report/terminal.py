"""A record for the eye: what is wrong and whether it matters, worst errors, and one verdict."""

from __future__ import annotations

import shlex
from collections.abc import Iterator
from itertools import pairwise
from typing import Any

from rich.console import Console
from rich.text import Text

from ..result import table, wrapped
from .mistakes import group, judged, picked
from .record import Cell, Record, by_family, facts, verdict
from .training import NO, SOMETIMES, YES

NARROW = 16  # characters that one column takes at least
STYLES = {YES: "bold red", SOMETIMES: "yellow", NO: "dim"}
LEGEND = (
    "1 ulp is a wrong last binary digit. The budget is how many ulp the arithmetic itself may cost;"
    " beyond it an answer is wrong."
)


def show(record: Record, console: Console) -> None:
    """Print a run."""
    for part in (_mistakes, _families, _verdict):
        for line, style in part(record, console.width):
            console.print(Text(line, style), soft_wrap=True)


def plain(lines: list[str]) -> Iterator[tuple[str, str]]:
    """Yield lines without a style."""
    yield from ((line, "") for line in lines)


def _mistakes(record: Record, width: int) -> Iterator[tuple[str, str]]:
    """Yield what is wrong, for a reader who knows none of the suite's words; lines and styles."""
    cases = {case["name"]: case for case in record["cases"]}
    subjects = {subject["name"]: subject for subject in record["subjects"]}
    wrong = [one for one in judged(record) if one.mistakes]
    if wrong:
        yield from (("What is wrong, and whether it matters in training", "bold"), ("", ""))
    for one in wrong:
        on = f" on {one.library}" * (one.kind == "candidate")
        yield f"{one.name}{on} {one.version}", "bold"
        said = f"{one.failed:,} of {one.judged:,} answers are wrong: {one.sorts()}."
        yield from plain(wrapped(said, "  ", width))
        shown, more = picked(one.mistakes)
        for mistake in shown:
            cell, case = mistake.cell, cases[mistake.cell["case"]]
            yield f"  {mistake.matters.upper()}  {mistake.title}", STYLES[mistake.matters]
            often = f"{mistake.failed:,} of {mistake.judged:,} answers"
            told = [f"It {mistake.did} ({often}).".replace("It its", "Its")]
            told.append(f"In training: {mistake.consequence}")
            told.append(f"Why: {'; '.join([case['reason'], *case['see']])}")
            told += [f"Note: {cell['note']}"] if cell["note"] else []
            for said in told:
                yield from plain(wrapped(said, "    ", width))
            # In one line, however long: it is there to be copied.
            yield f"    See it: {again(cell, subjects, record)}", "cyan"
        if more:
            listed = "; ".join(f"{m.title}, {m.failed} ({m.matters})" for m in more)
            said = f"And {len(more)} more: {listed}. --html FILE and --json show all."
            yield from plain(wrapped(said, "  ", width))
        yield "", ""


def again(cell: Cell, subjects: dict[str, Any], record: Record) -> str:
    """Return the command that runs one cell."""
    subject = subjects[cell["subject"]]
    words = ["xloss", "conform", "--case", cell["case"]]
    name = subject["name"].removesuffix(f" {subject['dtype']}")
    how = {"xloss": ["--backend", subject["library"]], "peer": ["--peer", name]}
    words += how.get(subject["kind"], ["--candidate", name, *_kept(record["command"])])
    return shlex.join([*words, "--dtype", subject["dtype"]])


def _kept(command: str) -> list[str]:
    """Return the options of a command that say how the candidate is called."""
    words, named = shlex.split(command), ("--convention", "--arrays", "--loss")
    kept = [word for word in words if "=" in word and word.partition("=")[0] in named]
    return kept + [word for pair in pairwise(words) if pair[0] in named for word in pair]


def _families(record: Record, width: int) -> Iterator[tuple[str, str]]:
    """Yield worst errors by family, as many columns at a time as have room."""
    columns, rows = by_family(record, _column)
    fit = max(1, (width - 22) // NARROW)
    if columns:
        yield from plain([*wrapped(LEGEND, "", width), ""])
    for start in range(0, len(columns), fit):
        part = slice(start, start + fit)
        yield "Worst error in ulp", "bold"
        cells = [(name, str(cases), *map(str, of[part])) for name, cases, of in rows]
        yield from plain([*table([("family", "cases", *columns[part]), *cells]), ""])


def _column(subject: dict[str, Any]) -> str:
    return f"xloss {subject['library']}" if subject["kind"] == "xloss" else group(subject)


def _verdict(record: Record, width: int) -> Iterator[tuple[str, str]]:
    stale, missing, told = record["deviations"]["stale"], record["missing"], facts(record)
    yield from ((f"STALE DEVIATION {line}", "bold red") for line in stale)
    if missing:
        yield "Not on this machine", "bold"
        yield from plain([f"  {line}" for line in missing])
    if stale or missing:
        yield "", ""
    mode = " (quick: xloss conform runs every case)" if record["mode"] == "quick" else ""
    head, style = ("PASS", "bold green") if record["ok"] else ("FAIL", "bold red")
    yield f"{head}  {verdict(record)}, in {record['seconds']:.0f} s{mode}", style
    yield from ((f"      {told[name]}", "dim") for name in ("machine", "versions"))
