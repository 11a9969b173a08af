"""The published matrix: a record as Markdown, for readers of the repository."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from .record import Record, by_family, by_kind, facts, verdict

ASKED = """\
The suite asks every subject the same {cases} calls in {families} families, each of them a mistake
that losses are known to make, and compares value and gradient with the exact answer: that of an
oracle of many digits on the arguments as stored. Errors are in units in the last place (ulp) of the
result's format. A call fails when an error is beyond its budget, which follows from the arithmetic
and is the same for everybody ([accuracy](accuracy.md)), or when another of the suite's rules is
broken. Where a library defines a loss otherwise, it is judged by its own definition; what it does
not offer is not held against it."""
PAGE = """\
The page of this run begins with what each loss does wrong, whether it matters in training and how
to see it again; it also has every call, with lines that reproduce it. The documentation site has
it, and `{page}` makes it here, in one file that needs no network."""
READ = """\
In the tables of families a number alone is the worst error of value or gradient, in ulp, of calls
that all pass; ok: they pass, and there was no number to measure; 3/18 fail: 3 of 18 fail; -: not
offered. Budgets differ: that of a softcap c is 4 + c ulp, of a focal loss 4 (1 + γ)."""
KINDS = {"candidate": "The candidate", "peer": "The peers", "xloss": "xloss"}


def markdown(record: Record, again: str = "", page: str = "", picture: str = "") -> str:
    """Return the document.

    again: the command that makes it; page: the one that makes the page; picture: a file beside it.
    """
    parts = [*_head(record, again, page, picture), READ]
    for kind in by_kind(record):
        parts += [f"## {KINDS[kind]}", _families(record, kind)]
    return "\n\n".join(parts) + "\n"


def _head(record: Record, again: str, page: str, picture: str) -> Iterator[str]:
    yield "# Conformance"
    made = f", by `{again}`; no row is edited by hand" if again else ""
    yield f"This file is generated{made}."
    yield ASKED.format(cases=len(record["cases"]), families=len(record["families"]))
    yield f"**{text(verdict(record))}.**"
    if picture:
        yield PAGE.format(page=page)
        yield f"![The page of this run]({picture})"
    told = facts(record)
    shown = {name: text(fact) for name, fact in told.items()}
    shown["command"] = code(told["command"]).replace("|", "\\|")
    yield table(["", ""], shown.items())


def _families(record: Record, kind: str) -> str:
    """Families and subjects; xloss's many subjects stand together by what runs."""

    def column(subject: Record) -> str:
        if subject["kind"] != kind:
            return ""
        words = str(subject["name"]).split(" ")
        xloss = [word for word in words[1:] if word != subject["dtype"]]
        return " ".join(xloss if kind == "xloss" and xloss else words)

    columns, rows = by_family(record, column)
    lines = ([f"{text(name)} ({n})", *map(str, of)] for name, n, of in rows)
    return table(["family (cases)", *map(text, columns)], lines)


def text(raw: Any) -> str:
    """Return text that Markdown takes as it stands, in one line."""
    return re.sub(r"([\\`*_\[\]<>|~#])", r"\\\1", " ".join(str(raw).split()))


def code(raw: Any) -> str:
    return f"`{' '.join(str(raw).replace('`', chr(39)).split())}`"


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Return a table; its cells are Markdown already."""
    return "\n".join("| " + " | ".join(line) + " |" for line in [head, ["---"] * len(head), *rows])
