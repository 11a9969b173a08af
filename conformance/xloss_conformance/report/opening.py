"""The head of the page: what each loss does wrong and whether it matters, before any number.

It is made here and not by the page's script, so that it can be read where scripts are switched off.
"""

from __future__ import annotations

from html import escape
from typing import Any
from urllib.parse import urlencode

from .mistakes import Judged, Mistake, judged, picked
from .training import NO, SOMETIMES, WORDS, YES

LOOKS = {YES: "yes", SOMETIMES: "sometimes", NO: "no"}


def word(name: str, text: str = "") -> str:
    """Return a word of the suite as a button that explains it, by touch and by keyboard too."""
    where = f"word-{name.replace(' ', '-')}"
    return f'<button type="button" class="word" popovertarget="{where}">{text or name}</button>'


def words() -> str:
    """Return the explanations that such buttons open."""
    return "\n".join(
        f'<div popover class="meaning" id="word-{name.replace(" ", "-")}">'
        f"<b>{escape(name)}</b> {escape(meaning)}</div>"
        for name, meaning in WORDS.items()
    )


def opening(record: dict[str, Any]) -> str:
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
        body += (
            f"<details><summary>{len(more)} more: {_listed(more)}</summary>"
            f'<ul class="mistakes">{rest}</ul></details>'
        )
    return f'<article class="card">{name}<p class="count">{said}</p>{body}</article>'


def _listed(mistakes: list[Mistake]) -> str:
    return escape(", ".join(mistake.title.lower() for mistake in mistakes))


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
