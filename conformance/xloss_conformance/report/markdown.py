"""The published matrix: a record as Markdown, for readers of the repository."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from math import floor, inf, log10
from typing import Any

from .mistakes import judged
from .record import Tally, by_kind, tallies, verdict

Subject = dict[str, Any]
DIGITS = str.maketrans("0123456789", "⁰¹²³⁴⁵⁶⁷⁸⁹")
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
that all pass; ✓: they pass, and there was no number to measure; ✕ 3/18: 3 of 18 fail; –: not
offered. Budgets differ: that of a softcap c is 4 + c ulp, of a focal loss 4 (1 + γ)."""
KINDS = {"candidate": "The candidate", "peer": "The peers", "xloss": "xloss"}


def markdown(
    record: dict[str, Any], again: str = "", page: str = "", pictures: Sequence[str] = ()
) -> str:
    """Return the document.

    again: the command that makes it; page: the one that makes the page; pictures: files beside it.
    """
    parts = [*_head(record, again, page, pictures), *_opening(record)]
    for kind in by_kind(record):
        parts += [f"## {KINDS[kind]}", _families(record, kind)]
    return "\n\n".join(parts) + "\n"


def _head(record: dict[str, Any], again: str, page: str, pictures: Sequence[str]) -> Iterator[str]:
    machine = record["machine"]
    cases, families = len(record["cases"]), len(record["families"])
    yield "# Conformance"
    made = f", by `{again}`; no row is edited by hand" if again else ""
    yield f"This file is generated{made}."
    yield ASKED.format(cases=cases, families=families)
    yield f"**{text(verdict(record))}.**"
    if pictures:
        yield PAGE.format(page=page)
        yield f"![The page of this run]({pictures[0]})"
    versions = ", ".join(f"{name} {number}" for name, number in record["versions"].items())
    where = [machine["processor"], f"{machine['cores']} cores", machine["platform"]]
    rows = [
        ["date", text(record["date"])],
        ["command", code(record["command"]).replace("|", "\\|")],
        ["machine", text(", ".join(str(part) for part in where if part))],
        ["versions", text(f"xloss {record['xloss']}, Python {machine['python']}, {versions}")],
    ]
    if record["missing"]:
        rows.append(["not on this machine", text("; ".join(record["missing"]))])
    yield table(["", ""], rows)


def _opening(record: dict[str, Any]) -> Iterator[str]:
    """Say what differs and whether it matters, as the page does at its head, and all of it."""
    see = {case["name"]: case["see"] for case in record["cases"]}
    yield "## What differs, and whether it matters"
    for one in judged(record):
        yield f"### {text(one.name)} {text(one.version)}"
        if not one.mistakes:
            yield f"No rule is broken in {one.judged:,} calls."
            continue
        lines = [f"Wrong in {one.failed:,} of {one.judged:,} calls: {one.sorts()}.", ""]
        for mistake in one.mistakes:
            often = f"{mistake.matters}, {mistake.failed:,} of {mistake.judged:,} calls"
            named = mistake.cell["case"]
            web = [link for link in see[named] if re.match(r"https?://[^\s<>()]+$", link)]
            lines.append(
                f"- **{text(mistake.title)}** ({often}): {text(mistake.did)} ({code(named)}). "
                f"In training: {text(mistake.consequence)}" + "".join(f" <{link}>" for link in web)
            )
        yield "\n".join(lines)
    yield READ


def title(subject: Subject) -> str:
    """Return a subject's name without its dtype and its kind."""
    words = [word for word in subject["name"].split(" ") if word != subject["dtype"]]
    if subject["kind"] == "xloss" and words[:1] == ["xloss"] and len(words) > 1:
        words = words[1:]
    return " ".join(words) or str(subject["name"])


def _families(record: dict[str, Any], kind: str) -> str:
    """Families and subjects; xloss's many subjects stand together by what runs."""
    families = {case["name"]: case["family"] for case in record["cases"]}
    subjects = [subject for subject in record["subjects"] if subject["kind"] == kind]
    place = {s["name"]: title(s) if kind == "xloss" else s["name"] for s in subjects}
    groups = list(dict.fromkeys(place.values()))
    cells = [cell for cell in record["cells"] if cell["subject"] in place]
    of = tallies(cells, lambda cell: (families[cell["case"]], place[cell["subject"]]))
    whole = tallies(cells, lambda cell: place[cell["subject"]])
    rows = []
    for family in record["families"]:
        summed = (_summed(of[family["name"], group]) for group in groups)
        rows.append([f"{text(family['name'])} ({family['cases']})", *summed])
    rows.append([f"all ({len(record['cases'])})", *(_summed(whole[group]) for group in groups)])
    return table(["family (cases)", *(text(group) for group in groups)], rows)


def _summed(tally: Tally) -> str:
    if tally.counts["fail"]:
        return f"✕ {tally.counts['fail']}/{tally.judged}"
    if tally.counts["declared"]:
        return "declared"
    errors = [error for error in (tally.value, tally.grad) if error is not None]
    if not tally.judged:
        return "–"
    return brief(max(errors)) if errors else "✓"


def brief(ulp: float) -> str:
    """Return an error in few characters."""
    if ulp == inf:
        return "∞"
    if ulp < 9.95:
        return f"{ulp:.1f}"
    if ulp < 999.5:
        return f"{ulp:.0f}"
    return f"10{str(floor(log10(ulp) + 0.5)).translate(DIGITS)}"


def text(raw: Any) -> str:
    """Return text that Markdown takes as it stands, in one line."""
    return re.sub(r"([\\`*_\[\]<>|~#])", r"\\\1", " ".join(str(raw).split()))


def code(raw: Any) -> str:
    return f"`{' '.join(str(raw).replace('`', chr(39)).split())}`"


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Return a table; its cells are Markdown already."""
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)
