"""The page in both themes, on a phone and on paper, under hostile text and at full size."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

import made_record
from browsing import CELL, Open, click, find, texts, wait


@pytest.mark.parametrize("system", ["light", "dark"])
def test_themes_follow_the_system_and_the_switch(opened: Open, system: str) -> None:
    d = opened(theme=system)
    ground = "return getComputedStyle(document.body).backgroundColor"
    colours = {"light": "rgb(255, 255, 255)", "dark": "rgb(16, 20, 24)"}
    assert d.execute_script(ground) == colours[system]
    for wanted in ("light", "dark", "system"):
        click(d, "#theme")
        assert texts(d, "#theme") == [f"Theme: {wanted}"]
        assert d.execute_script(ground) == colours.get(wanted, colours[system])


def test_a_phone_scrolls_the_matrix_and_not_the_page(opened: Open) -> None:
    d = opened("full", width=390)
    assert d.execute_script("return document.documentElement.scrollWidth") == 390
    assert d.execute_script("return document.getElementById('box').scrollWidth") > 390
    d = opened(width=390, hash="#cell=tail/gap 17|torch float32")
    wait(d, "#snippet")
    assert d.execute_script("return document.getElementById('panel').scrollWidth") <= 390


def test_text_of_others_is_never_markup(opened: Open) -> None:
    d = opened("hostile")
    click(d, CELL.format(2, 2))
    wait(d, "#snippet")
    assert d.execute_script("return window.pwned") is None
    assert find(d, "img, #pwned, [onerror]") == []
    hrefs = [a.get_attribute("href") for a in find(d, "a:not([href^='#cell='])")]
    assert set(hrefs) == {find(d, "#home")[0].get_attribute("href")}
    panel = texts(d, "#panel")[0]
    told = "subject reason note rule detail got want setup call see version loss"
    for where in told.split():
        assert made_record.HOSTILE.format(where) in panel
    shown = "\n".join(texts(d, "header, main, footer"))
    for where in ("subject", "command", "date", "processor", "missing", "stale", "family"):
        assert made_record.HOSTILE.format(where) in shown
    click(d, "#close")
    click(d, "a.see")
    wait(d, "#snippet")
    assert d.execute_script("return window.pwned") is None


def test_the_policy_forbids_what_the_page_does_not_need(driver: Any, files: dict[str, str]) -> None:
    driver.get(files["small"])
    driver.get_log("browser")
    driver.execute_script(
        "const s = document.createElement('script'); try { s.textContent = 'window.ran = 1' }"
        "catch {} document.body.append(s);"
        "fetch('http://127.0.0.1:9/x').catch(() => 0);"
        "const i = new Image(); i.src = 'http://127.0.0.1:9/x.png'; document.body.append(i)"
    )
    said = " ".join(entry["message"] for entry in driver.get_log("browser"))
    assert driver.execute_script("return window.ran") is None
    assert "img-src" in said
    assert "connect-src" in said
    driver.get_log("performance")


def test_of_a_record_of_full_size_only_what_is_near_is_drawn(opened: Open) -> None:
    d = opened("full")
    click(d, "#open-all")
    assert len(find(d, "tr.later")) > 10  # families that wait until they come near
    last = "#box tbody:last-of-type tr[data-case]"
    assert not find(d, last)
    high = "return document.getElementById('box').scrollHeight"
    before = d.execute_script(high)
    d.execute_script("document.getElementById('box').scrollTop = 1e6")
    wait(d, last)
    assert d.execute_script(high) == before  # nothing moves under the reader's eyes
    assert find(d, "tr.later")


CSS = (Path(__file__).parent / "xloss_conformance/report/assets/page.css").read_text("utf-8")
# Text, or a mark, and the grounds that it stands on.
TEXT = {
    "ink": ["s0", "s1", "s2", "s3", "s4", "ground", "raised", "mark"],
    "quiet": ["ground", "raised"],
    "link": ["ground"],
    "bad": ["ground"],
    **{f"on-{status}": [status] for status in ("fail", "lost", "declared")},
}
MARKS = {
    **{name: ["ground"] for name in ("edge", "lost", *(f"c{k}" for k in range(7)))},
    "focus": ["ground", "s4"],
}


def luminance(colour: str) -> float:
    """Relative luminance, as WCAG 2.2 defines it."""
    channels = [int(colour[k : k + 2], 16) / 255 for k in (1, 3, 5)]
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in channels]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


@pytest.mark.parametrize("theme", [0, 1], ids=["light", "dark"])
def test_contrast_is_that_of_wcag_aa(theme: int) -> None:
    found = re.findall(r"--([\w-]+): light-dark\((#\w{6}), (#\w{6})\);", CSS)
    light = {name: luminance(colours[theme]) for name, *colours in found}
    for pairs, least in ((TEXT, 4.5), (MARKS, 3.0)):
        for name, grounds in pairs.items():
            for ground in grounds:
                low, high = sorted([light[name], light[ground]])
                assert (high + 0.05) / (low + 0.05) >= least, (name, ground)
    # The scale of what passes goes one way, and its ends are told apart.
    steps = [light[f"s{k}"] for k in range(5)]
    assert steps == sorted(steps, reverse=theme == 0)
