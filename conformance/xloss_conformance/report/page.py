"""One page for a browser: a record, and the script and style that show it; nothing from outside."""

from __future__ import annotations

import base64
import hashlib
import json
import re
import zlib
from functools import cache
from html import escape
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

from .mistakes import Judged, Mistake, judged, picked
from .record import ERRORS, Record, by_kind, facts, verdict
from .training import NO, RULES, SOMETIMES, WORDS, YES

ASSETS = Path(__file__).with_name("assets")
SCRIPTS = ("data.js", "state.js", "matrix.js", "panel.js", "plot.js", "main.js")
LOOKS = {YES: "yes", SOMETIMES: "sometimes", NO: "no"}
DETAILS = ("findings", "got", "want", "call")  # of a cell, beside the setup of its case
FAIL = {"candidate": "candidates fail", "peer": "peers fail", "xloss": "xloss fails"}


def word(name: str, text: str = "") -> str:
    """Return a word of the suite as a button that explains it, by touch and by keyboard too."""
    where = f"word-{name.replace(' ', '-')}"
    return f'<button type="button" class="word" popovertarget="{where}">{text or name}</button>'


MATRIX = (
    f"A row is a case, and cases that ask about the same thing are a {word('family')}; a column is "
    f"a {word('subject')}. A cell says how much of its own {word('budget')} the worst error of "
    f"that {word('call')} takes: 31% is well within, ✕12 is twelve times too much. The names of "
    f"xloss’s columns say on which arrays it runs, and by which engine: {word('generic')} is the "
    "plain one."
)


def page(record: Record) -> str:
    """Return the page of a record that has the shares of budgets."""
    head, details = pack(record)
    style = _asset("page.css")
    script = "\n".join(_asset(name) for name in SCRIPTS)
    parts = {
        "policy": escape(_policy(style, script)),
        "title": escape(f"xloss conformance: {verdict(record)}"),
        "style": style,
        "verdict": escape(verdict(record)),
        "opening": opening(record),
        "left_out": left_out(record),
        "matrix": MATRIX,
        "facts": "\n".join(
            f'<p class="facts">{name}: {escape(fact)}</p>' for name, fact in facts(record).items()
        ),
        "tiles": tiles(record),
        "words": words(),
        "training": _embedded({name: rule.training for name, rule in RULES.items()}),
        "data": _embedded(head),
        "details": base64.b64encode(zlib.compress(details.encode(), 9)).decode(),
        "script": script,
    }
    # In one pass: what a record says is never looked through for places to fill.
    return re.sub(r"\{\{(\w+)\}\}", lambda found: parts[found[1]], _asset("page.html"))


class Table(dict[str, int]):
    """Distinct values, each by its place."""

    def place(self, value: Any) -> int:
        return self.setdefault(json.dumps(value), len(self))

    def all(self) -> list[Any]:
        return list(map(json.loads, self))


def pack(record: Record) -> tuple[Record, str]:
    """Return what the matrix shows, and the details of every cell, a line of JSON for each case."""
    names = [subject["name"] for subject in record["subjects"]]
    found = {(cell["case"], cell["subject"]): cell for cell in record["cells"]}
    rows = [[found.get((case["name"], name)) for name in names] for case in record["cases"]]
    cells = [cell for row in rows for cell in row]
    notes = Table()

    def column(key: str) -> str:
        numbers = (cell[key] if cell else None for cell in cells)
        return ",".join("" if number is None else f"{float(number):.3g}" for number in numbers)

    head = record | {
        "cases": [{k: v for k, v in case.items() if k != "setup"} for case in record["cases"]],
        "cells": {
            "status": "".join(cell["status"][0] if cell else "." for cell in cells),
            "note": ",".join(str(notes.place(c["note"])) if c and c["note"] else "" for c in cells),
            "notes": notes.all(),
            **{key: column(key) for key in ERRORS},
        },
    }
    details = []
    for case, row in zip(record["cases"], rows, strict=True):
        texts = Table()
        packed = [cell and [texts.place(cell[key]) for key in DETAILS] for cell in row]
        details.append(_json({"setup": case["setup"], "texts": texts.all(), "cells": packed}))
    return head, "\n".join(details)


@cache
def _asset(name: str) -> str:
    return (ASSETS / name).read_text(encoding="utf-8")


def _policy(style: str, script: str) -> str:
    """Return a policy: the page's own script and style, and nothing that is fetched."""

    def own(text: str) -> str:
        return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"

    return (
        f"default-src 'none'; script-src {own(script)}; style-src {own(style)}; img-src data:; "
        "base-uri 'none'; form-action 'none'; require-trusted-types-for 'script'; "
        "trusted-types 'none'"
    )


def _json(value: Any) -> str:
    return json.dumps(value, separators=(",", ":"), allow_nan=False)


def _embedded(value: Any) -> str:
    """Return JSON in which no HTML parser finds a tag or a comment."""
    return _json(value).replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")


def left_out(record: Record) -> str:
    """Return how much was not asked, as HTML: it is no failure, and no number of the head."""
    count = record["summary"]["refused"]
    if not count:
        return ""
    return (
        f"{count:,} more calls are {word('not offered')}: a library has no such loss, option or "
        "precision. They count neither as right nor as wrong."
    )


def tiles(record: Record) -> str:
    """Return the numbers at the head, as HTML."""
    summary = record["summary"]
    rows = [("cases", len(record["cases"]), ""), ("subjects", len(record["subjects"]), "")]
    rows.append(("calls judged", sum(summary.values()) - summary["refused"], ""))
    for kind, of in by_kind(record).items():
        failed = of.counts["fail"]
        rows.append((FAIL[kind], failed, ' class="bad"' if failed else ""))
    if summary["declared"]:
        rows.append(("declared", summary["declared"], ""))
    return "".join(
        f"<div{style}><dt>{name}</dt><dd>{number:,}</dd></div>" for name, number, style in rows
    )


# ---- The head: it is made here, so that it can be read where scripts are switched off ------------


def words() -> str:
    """Return the explanations that such buttons open."""
    return "\n".join(
        f'<div popover class="meaning" id="word-{name.replace(" ", "-")}">'
        f"<b>{escape(name)}</b> {escape(meaning)}</div>"
        for name, meaning in WORDS.items()
    )


def opening(record: Record) -> str:
    """Return a card for each of those that were judged, candidates and peers first."""
    return "\n".join(_card(one) for one in judged(record))


def _card(one: Judged) -> str:
    name = f"<h3>{escape(one.name)} <small>{escape(one.version)}</small></h3>"
    calls = word("call", "calls")
    if not one.mistakes:
        said = f"No rule is broken in {one.judged:,} {calls}."
        return f'<article class="card right">{name}<p class="count">{said}</p></article>'
    shown, more = picked(one.mistakes)
    said = f"Wrong in {one.failed:,} of {one.judged:,} {calls}: {one.sorts()}."
    body = f'<ul class="mistakes">{"".join(map(_mistake, shown))}</ul>'
    if more:
        rest = "".join(map(_mistake, more))
        listed = escape(", ".join(mistake.title.lower() for mistake in more))
        body += (
            f"<details><summary>{len(more)} more: {listed}</summary>"
            f'<ul class="mistakes">{rest}</ul></details>'
        )
    return f'<article class="card">{name}<p class="count">{said}</p>{body}</article>'


def _mistake(mistake: Mistake) -> str:
    cell = mistake.cell
    where = escape("#" + urlencode({"cell": f"{cell['case']}|{cell['subject']}"}))
    did = mistake.did[:1].upper() + mistake.did[1:]
    often = f"{mistake.failed:,} of {mistake.judged:,}"
    return (
        f'<li><p class="what"><b>{escape(mistake.title)}</b> '
        f'<span class="badge {LOOKS[mistake.matters]}">{mistake.matters}</span> '
        f'<span class="often">{often}</span></p>'
        f"<p>{escape(did)}. "
        f'<a class="see" href="{where}">See it: {escape(str(cell["case"]))}</a></p>'
        f'<p class="training">In training: {escape(mistake.consequence)}</p></li>'
    )
