"""What a reader sees first: what differs, whether it matters, and what the words mean."""

from __future__ import annotations

import pytest

from browsing import Open, find, press, texts, until, wait
from xloss_conformance.report.training import WORDS

TOP = "return document.querySelector(arguments[0]).getBoundingClientRect().top + scrollY"
SIDE = (
    "const r = document.querySelector(arguments[0]).getBoundingClientRect();"
    "return [r.left, r.right]"
)


def test_the_page_opens_on_what_is_wrong_in_sentences(opened: Open) -> None:
    d = opened()
    assert texts(d, ".card h3") == ["torch 1.2.3", "optax 1.2.3", "xloss 0.1.0"]
    wrong = "Wrong in 4 of 6 calls: 2 can matter, 2 do not."
    assert texts(d, ".card .count") == [wrong, wrong, "No rule is broken in 21 calls."]
    first = texts(d, ".card:first-child .mistakes li")[0]
    for part in (
        *("Confident rows", "can matter", "2 of 4", "Returns 0 where the exact loss is 2.5e-07."),
        "In training: These rows’ share of the logged loss is lost",
        "Met with rows of which the model is sure",
    ):
        assert part in first
    tops = [d.execute_script(TOP, of) for of in ("h1", "#differs", "#plot", "#box")]
    assert tops == sorted(tops)


def test_a_sentence_leads_to_its_call_and_back_and_keeps_the_filters(opened: Open) -> None:
    d = opened(hash="#kind=peer")
    d.execute_script("document.querySelector('.card a.see').focus()")
    press(d, "ENTER")
    wait(d, "#snippet")
    title = ["tail/gap 17\ntorch float32, version 1.2.3"]
    assert texts(d, "#panel-title") == title
    press(d, "ESCAPE")
    assert "see" in d.execute_script("return document.activeElement.className")
    assert "7 cases in 2 families, 2 subjects" in texts(d, "#count")
    # Where scripts are off, or in a link that is sent to somebody, the address does the same.
    link = find(d, ".card a.see")[0].get_attribute("href")
    d = opened(hash="#" + link.partition("#")[2])
    wait(d, "#snippet")
    assert texts(d, "#panel-title") == title


def test_at_the_width_of_a_phone_the_peers_come_first_and_are_on_the_screen(opened: Open) -> None:
    d = opened(width=390)
    assert texts(d, "thead .kind") == ["peers", "xloss"]
    assert texts(d, "thead .of")[:2] == ["torch", "optax"]
    for column in (2, 3):
        left, right = d.execute_script(SIDE, f'#box tr[data-case="0"] > :nth-child({column})')
        assert 0 < left < right <= 390
    assert d.execute_script("return document.documentElement.scrollWidth") == 390


@pytest.mark.parametrize("width", [390, 1280])
def test_words_are_explained_where_they_stand(opened: Open, width: int) -> None:
    d = opened(width=width)
    buttons = find(d, "button.word")
    asked = {button.get_attribute("popovertarget").removeprefix("word-") for button in buttons}
    assert {"call", "subject", "generic", "budget", "family", "not-offered", "declared"} <= asked
    assert {name.replace(" ", "-") for name in WORDS} >= asked
    button = find(d, "#key button.word")[0]
    d.execute_script("arguments[0].scrollIntoView({block: 'start'}); arguments[0].focus()", button)
    press(d, "ENTER")
    wait(d, ".meaning:popover-open")
    assert texts(d, ".meaning:popover-open") == [f"budget {WORDS['budget']}"]
    gap = (
        "const [a, b] = [...arguments].map(e => e.getBoundingClientRect());"
        "return Math.max(b.top - a.bottom, a.top - b.bottom)"
    )
    meaning = find(d, ".meaning:popover-open")[0]
    # It stands in the middle until the event that it has opened comes, a moment later.
    until(d, lambda d: 0 <= d.execute_script(gap, button, meaning) < 20)
    left, right = d.execute_script(SIDE, ".meaning:popover-open")
    assert 0 <= left < right <= width
    press(d, "ESCAPE")
    assert find(d, ".meaning:popover-open") == []
