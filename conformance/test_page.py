"""The page, driven in a headless Chromium as a reader would."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import made_record
from xloss_conformance.report.browser import NoBrowser, browser, scheme, size
from xloss_conformance.report.page import page
from xloss_conformance.verdict import RULES

Open = Callable[..., Any]
CELL = '#box tr[data-case="{}"] > :nth-child({})'


@pytest.fixture(scope="module")
def driver() -> Iterator[Any]:
    try:
        made = browser()
    except NoBrowser as missing:
        pytest.skip(str(missing))
    yield made
    made.quit()


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    folder = tmp_path_factory.mktemp("pages")
    made = {"small": made_record.small, "hostile": made_record.hostile}
    made["full"] = made_record.full_size
    for name, record in made.items():
        (folder / f"{name}.html").write_text(page(record()), encoding="utf-8")
    return {name: (folder / f"{name}.html").as_uri() for name in made}


@pytest.fixture
def opened(driver: Any, files: dict[str, str]) -> Iterator[Open]:
    """Open a page; afterwards nothing was complained of, and nothing but the page was fetched."""

    def go(name: str = "small", hash: str = "", width: int = 1280, theme: str = "light") -> Any:
        size(driver, width, 900)
        scheme(driver, theme)
        driver.get("about:blank")
        driver.get_log("browser"), driver.get_log("performance")
        driver.get(files[name] + hash)
        assert driver.execute_script("return document.documentElement.dataset.ready")
        return driver

    yield go
    assert [entry["message"] for entry in driver.get_log("browser")] == []
    events = [json.loads(e["message"])["message"] for e in driver.get_log("performance")]
    asked = [
        e["params"]["request"]["url"].partition("#")[0]
        for e in events
        if e["method"] == "Network.requestWillBeSent"
    ]
    assert [url for url in asked if url not in files.values() and url != "data:,"] == []


def find(driver: Any, selector: str) -> list[Any]:
    return list(driver.find_elements("css selector", selector))


def texts(driver: Any, selector: str) -> list[str]:
    script = "return [...document.querySelectorAll(arguments[0])].map(e => e.innerText.trim())"
    found: list[str] = driver.execute_script(script, selector)
    return found


def press(driver: Any, *keys: str) -> None:
    from selenium.webdriver import ActionChains

    ActionChains(driver).send_keys(*keys).perform()


def click(driver: Any, selector: str) -> None:
    driver.execute_script("arguments[0].click()", find(driver, selector)[0])


def focused(driver: Any) -> tuple[str | None, int]:
    """Return which case the focused cell of the matrix is of, and its column."""
    found: list[Any] = driver.execute_script(
        "const e = document.activeElement; const r = e.parentElement;"
        "return [r?.dataset?.case ?? r?.dataset?.family ?? null, e.cellIndex ?? -1]"
    )
    return found[0], found[1]


def until(driver: Any, what: Callable[[Any], Any]) -> None:
    from selenium.webdriver.support.ui import WebDriverWait

    WebDriverWait(driver, 10, poll_frequency=0.02).until(what)


def wait(driver: Any, selector: str) -> None:
    until(driver, lambda d: find(d, selector))


def test_the_head_says_what_was_judged_where_and_the_verdict(opened: Open) -> None:
    d = opened()
    assert texts(d, "h1") == ["xloss passes all 21 calls; the peers fail 8 of 12 calls"]
    facts = " ".join(texts(d, ".facts"))
    for part in ("2026-11-22", "xloss conform --peer torch", "A processor", "2 cores", "Linux"):
        assert part in facts
    for part in ("Python 3.12.4", "torch 2.13.0", "cupy: CuPy finds no GPU"):
        assert part in facts
    tiles = dict(zip(texts(d, ".tiles dt"), texts(d, ".tiles dd"), strict=True))
    assert tiles == {
        "cases": "7", "subjects": "5", "calls judged": "33", "xloss fails": "0", "peers fail": "8",
        "declared": "1", "not offered": "2",
    }  # fmt: skip


def test_the_matrix_shows_every_status_in_words_and_signs(opened: Open) -> None:
    d = opened(hash="#open=tail&open=masks")
    assert texts(d, CELL.format(0, "n + 2")) == ["1.3", "1.3", "1.3", "✕40", "✕40"]
    assert texts(d, CELL.format(3, 6)) == ["✕10⁷"]
    assert texts(d, CELL.format(5, "n + 2")) == ["1.3", "1.3", "1.3", "–", "–"]
    assert texts(d, CELL.format(6, 6)) == ["◇"]
    said = [
        find(d, CELL.format(*at))[0].get_attribute("aria-label") for at in [(3, 6), (5, 6), (6, 6)]
    ]
    assert said == ["fails, 1.5·10⁷ ulp", "not offered", "declared, not counted as failing"]
    assert texts(d, 'tr[data-family="tail"] > td') == ["1.3", "1.3", "1.3", "✕4", "✕4"]
    assert texts(d, "tr.all > td")[3:] == ["✕4", "✕4"]
    assert find(d, CELL.format(2, 5))[0].get_attribute("class").split()[:2] == ["fail", "lost"]
    assert "lost" not in find(d, CELL.format(0, 5))[0].get_attribute("class").split()


def test_families_open_and_close(opened: Open) -> None:
    d = opened()
    assert len(find(d, "tr[data-case]")) == 4  # the first family in which something fails is open
    click(d, 'tr[data-family="masks"] > th')
    assert len(find(d, "tr[data-case]")) == 7
    assert "open=tail&open=masks" in d.current_url
    click(d, "#close-all")
    assert find(d, "tr[data-case]") == []
    click(d, "#open-all")
    assert len(find(d, "tr[data-case]")) == 7
    click(d, '#matrix-controls [data-value="value"]')
    assert texts(d, CELL.format(0, "n + 2"))[:3] == ["0.6", "0.6", "0.6"]


def test_filters_narrow_the_matrix_and_stand_in_the_address(opened: Open) -> None:
    d = opened(hash="#open=tail&open=masks")
    click(d, '#filters [data-value="fail"]')
    assert len(find(d, "tr[data-case]")) == 4
    assert len(find(d, "tr[data-case] td.dim")) == 12
    click(d, '#filters [data-value="peer"]')
    assert "4 cases in 1 family, 2 subjects" in texts(d, "#count")
    assert "verdict=fail" in d.current_url
    assert "kind=peer" in d.current_url
    d.refresh()
    assert "4 cases in 1 family, 2 subjects" in texts(d, "#count")
    assert find(d, '#filters [data-value="fail"]')[0].get_attribute("aria-pressed") == "true"
    click(d, "#clear")
    assert "7 cases in 2 families, 5 subjects" in texts(d, "#count")
    click(d, '#filters [data-value="float64"]')
    assert "7 cases in 2 families, 1 subject" in texts(d, "#count")
    click(d, "#clear")
    click(d, '#filters [data-value="jax"]')
    assert texts(d, "thead .of") == ["optax"]
    click(d, "#clear")
    find(d, "#search")[0].send_keys("MASKED smoothed")
    assert texts(d, "tr[data-case] > th") == ["smoothed"]
    find(d, "#search")[0].send_keys(" nonsense")
    assert "No case and subject match" in texts(d, "#box")[0]
    click(d, "#box button")
    d.execute_script("const f = document.getElementById('family'); f.value = 'masks';"
                     "f.dispatchEvent(new Event('change'))")  # fmt: skip
    assert texts(d, "tr[data-case] > th") == ["index", "soft", "smoothed"]
    assert "family=masks" in d.current_url


def test_arrow_keys_move_and_enter_opens_and_escape_returns(opened: Open) -> None:
    from selenium.webdriver.common.keys import Keys

    d = opened()
    assert len(find(d, "#box [tabindex='0']")) == 1  # one stop for Tab, whatever the size
    d.execute_script("document.querySelector('#box [tabindex=\"0\"]').focus()")
    assert focused(d) == ("tail", 0)
    press(d, Keys.ARROW_DOWN, Keys.ARROW_DOWN, Keys.ARROW_RIGHT, Keys.ARROW_RIGHT)
    assert focused(d) == ("1", 2)
    press(d, Keys.END)
    assert focused(d) == ("1", 5)
    press(d, Keys.ARROW_RIGHT)
    assert focused(d) == ("1", 5)
    press(d, Keys.HOME)
    assert focused(d) == ("1", 0)
    press(d, Keys.ARROW_UP, Keys.ARROW_UP, Keys.ENTER)
    assert find(d, "tr[data-case]") == []
    assert focused(d) == ("tail", 0)
    press(d, Keys.ENTER, Keys.ARROW_DOWN, Keys.END, Keys.ENTER)
    assert find(d, "dialog[open]")
    assert "optax float32" in texts(d, "#panel-title")[0]
    press(d, Keys.ESCAPE)
    assert not find(d, "dialog[open]")
    assert focused(d) == ("0", 5)
    assert len(find(d, "#box [tabindex='0']")) == 1
    outline = "return getComputedStyle(document.activeElement).outlineStyle"
    assert d.execute_script(outline) == "solid"


def test_the_panel_shows_the_cell_and_its_snippet_can_be_copied(opened: Open) -> None:
    d = opened()
    click(d, CELL.format(2, 5))
    wait(d, "#snippet")
    panel = texts(d, "#panel")[0]
    for part in ("tail/gap 17", "torch float32, version 1.2.3", "✕ fail", "2.0·10⁶ ulp"):
        assert part in panel
    for part in (made_record.TAIL, "value: 1 of 1 beyond the budget", RULES["value"]):
        assert part in panel
    for part in ("at [0]: got 0, expected 2.5e-7", "targets = [0]"):
        assert part in panel
    assert texts(d, "#panel mark") == ["0"]  # of [0, 0.5] for [2.5e-07, 0.5]
    links = [a.get_attribute("href") for a in find(d, "#panel a")]
    assert links == ["https://github.com/scipy/scipy/issues/18295"]
    assert "cell=tail%2Fgap+17%7Ctorch+float32" in d.current_url
    d.execute_cdp_cmd(
        "Browser.grantPermissions",
        {"permissions": ["clipboardReadWrite", "clipboardSanitizedWrite"]},
    )
    expected = (
        "import numpy as np\nx = np.array([[0.0, -17.0]])\ntargets = np.array([0])\n"
        "import torch\nprint('torch float32')"
    )
    for forbidden in (False, True):  # the second time, as where a file may not use the clipboard
        d.execute_script("getSelection().removeAllRanges()")
        if forbidden:
            d.execute_script("navigator.clipboard.writeText = () => Promise.reject(new Error())")
        d.execute_async_script("navigator.clipboard.write([]).then(arguments[0], arguments[0])")
        d.execute_script("document.getElementById('copy').textContent = 'Copy'")
        find(d, "#copy")[0].click()
        until(d, lambda d: texts(d, "#copy") == ["Copied"])
        read = "navigator.clipboard.readText().then(arguments[0], arguments[0])"
        assert d.execute_async_script(read) == expected
    click(d, '#panel nav [aria-label="Next case"]')
    assert "tail/gap 40" in texts(d, "#panel-title")[0]
    wait(d, "#panel .list")
    assert "xloss numpy float64" in texts(d, "#panel .list td:first-child")
    click(d, "#close")
    assert not find(d, "dialog[open]")


def test_notes_of_what_is_declared_or_not_offered(opened: Open) -> None:
    d = opened(hash="#open=masks&cell=masks/smoothed|optax float32")
    wait(d, "#snippet")
    assert texts(d, "#note") == ["Note: known: https://example.org/1"]
    assert find(d, "#note a")
    d = opened(hash="#cell=masks/soft|torch float32")
    wait(d, "#inputs")
    assert texts(d, "#note") == ["Not offered: takes labels only"]
    assert find(d, "#snippet") == []


def test_the_plot_can_be_switched_and_read_by_keyboard(opened: Open) -> None:
    from selenium.webdriver.common.keys import Keys

    d = opened()
    names = ["xloss numpy", "xloss torch autograd", "torch", "optax"]
    assert texts(d, "#legend button") == names
    assert len(find(d, "#chart .curve")) == 4
    heights = "return [...document.querySelectorAll('#chart .curve')].map(e => e.getAttribute('d'))"
    before = d.execute_script(heights)
    click(d, "#legend button:nth-child(3)")
    assert len(find(d, "#chart .curve")) == 3
    click(d, "#legend button:nth-child(3)")
    click(d, '#plot-controls [data-value="grad"]')
    assert "curve=grad" in d.current_url
    assert d.execute_script(heights) != before
    click(d, '#plot-controls [data-value="value"]')
    click(d, '#plot-controls [data-value="float64"]')
    assert texts(d, "#legend button") == ["xloss numpy"]
    click(d, '#plot-controls [data-value="float32"]')
    d.execute_script("document.querySelector('#chart svg').focus()")
    press(d, Keys.ARROW_RIGHT, Keys.ARROW_RIGHT, Keys.ARROW_DOWN, Keys.ARROW_DOWN)
    assert "gap 17" in texts(d, "#tip")[0]
    assert texts(d, "#tip .here td") == ["torch", "2.0·10⁶ ulp"]
    press(d, Keys.ENTER)
    assert texts(d, "#panel-title")[0].startswith("tail/gap 17\ntorch float32")
    press(d, Keys.ESCAPE)
    assert d.execute_script("return document.activeElement.tagName") == "svg"


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
    for name in ("small", "full"):
        d = opened(name, width=390)
        wide = "return document.documentElement.scrollWidth"
        assert d.execute_script(wide) == 390
        box = "const b = document.getElementById('box'); return [b.scrollWidth, b.clientWidth]"
        inner, outer = d.execute_script(box)
        assert outer < 390 < inner if name == "full" else outer < 390
    d = opened(width=390, hash="#cell=tail/gap 17|torch float32")
    wait(d, "#snippet")
    assert d.execute_script("return document.getElementById('panel').scrollWidth") <= 390


def test_motion_and_print(opened: Open) -> None:
    d = opened()
    features = [{"name": "prefers-reduced-motion", "value": "reduce"}]
    d.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": features})
    click(d, CELL.format(0, 2))
    animation = "return getComputedStyle(document.getElementById('panel')).animationName"
    assert d.execute_script(animation) == "none"
    d.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": "print", "features": []})
    assert not find(d, "#filters")[0].is_displayed()
    overflow = "return getComputedStyle(document.getElementById('box')).overflow"
    assert d.execute_script(overflow) == "visible"
    d.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": "", "features": []})


def test_text_of_others_is_never_markup(opened: Open) -> None:
    d = opened("hostile")
    click(d, CELL.format(2, 2))
    wait(d, "#snippet")
    assert d.execute_script("return window.pwned") is None
    assert find(d, "img, #pwned, [onerror]") == []
    hrefs = [a.get_attribute("href") for a in find(d, "a")]
    assert hrefs == []
    panel = texts(d, "#panel")[0]
    for where in ("subject", "label 17", "reason", "note", "rule", "detail", "got", "want",
                  "inputs", "setup", "call", "see", "version", "loss"):  # fmt: skip
        assert made_record.HOSTILE.format(where) in panel
    head = texts(d, "header")[0]
    for where in ("subject", "command", "date", "processor", "missing", "stale"):
        assert made_record.HOSTILE.format(where) in head


def test_the_policy_forbids_what_the_page_does_not_need(driver: Any, files: dict[str, str]) -> None:
    driver.get(files["small"])
    driver.get_log("browser")
    driver.execute_script(
        "const s = document.createElement('script'); try { s.textContent = 'window.ran = 1' }"
        "catch {} document.body.append(s);"
        "const i = new Image(); i.src = 'http://127.0.0.1:9/x.png'; document.body.append(i)"
    )
    said = " ".join(entry["message"] for entry in driver.get_log("browser"))
    assert driver.execute_script("return window.ran") is None
    assert "img-src" in said
    driver.get_log("performance")


def test_a_record_of_full_size_stays_light_and_quick(opened: Open, files: dict[str, str]) -> None:
    path = Path(files["full"].removeprefix("file://"))
    assert path.stat().st_size < 2_500_000
    d = opened("full")
    d.execute_cdp_cmd("Performance.setTimeDomain", {"timeDomain": "threadTicks"})
    d.execute_cdp_cmd("Performance.enable", {})

    def busy() -> float:
        """Processor seconds of the page's thread: the machine's other work does not count."""
        found = d.execute_cdp_cmd("Performance.getMetrics", {})["metrics"]
        return next(float(one["value"]) for one in found if one["name"] == "TaskDuration")

    def timed(act: Callable[[], Any]) -> float:
        begun = busy()
        act()
        d.execute_script("document.body.offsetHeight")
        return busy() - begun

    assert timed(d.refresh) < 2
    assert timed(lambda: click(d, "#open-all")) < 2
    assert 20 < len(find(d, "tr.later")) < 30  # families that wait until they come near
    high = "return document.getElementById('box').scrollHeight"
    before = d.execute_script(high)
    d.execute_script("document.getElementById('box').scrollTop = 1e6")
    wait(d, 'tr[data-case="539"]')
    assert d.execute_script(high) == before  # nothing moves under the reader's eyes
    assert find(d, "tr.later")
    click(d, "#open-all")
    d.execute_script("document.querySelector('#box [tabindex=\"0\"]').focus()")
    from selenium.webdriver import ActionChains
    from selenium.webdriver.common.keys import Keys

    ActionChains(d).key_down(Keys.CONTROL).send_keys(Keys.END).key_up(Keys.CONTROL).perform()
    assert focused(d) == ("539", 44)
    d.execute_script("window.dispatchEvent(new Event('beforeprint'))")
    assert len(find(d, "tr[data-case]")) == 540
    d.execute_cdp_cmd("Performance.disable", {})


CSS = (Path(__file__).parent / "xloss_conformance/report/assets/page.css").read_text("utf-8")
ON = ["s0", "s1", "s2", "s3", "s4", "ground", "raised", "mark"]
PAIRS = [
    *(("ink", on) for on in ON), ("quiet", "ground"), ("quiet", "raised"), ("link", "ground"),
    ("on-fail", "fail"), ("on-lost", "lost"), ("on-declared", "declared"), ("bad", "ground"),
    ("ground", "ink"),
]  # fmt: skip
MARKS = [*((f"c{k}", "ground") for k in range(7)), ("edge", "ground"), ("focus", "ground"),
         ("lost", "ground"), ("focus", "s4")]  # fmt: skip


def luminance(colour: str) -> float:
    """Relative luminance, as WCAG 2.2 defines it."""
    channels = [int(colour[k : k + 2], 16) / 255 for k in (1, 3, 5)]
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in channels]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def contrast(one: str, other: str) -> float:
    a, b = sorted([luminance(one), luminance(other)], reverse=True)
    return (a + 0.05) / (b + 0.05)


@pytest.mark.parametrize("theme", [0, 1], ids=["light", "dark"])
def test_contrast_is_that_of_wcag_aa(theme: int) -> None:
    found = re.findall(r"--([\w-]+): light-dark\((#\w{6}), (#\w{6})\);", CSS)
    tokens = {name: colours[theme] for name, *colours in found}
    text = {pair: contrast(tokens[pair[0]], tokens[pair[1]]) for pair in PAIRS}
    assert {pair: ratio for pair, ratio in text.items() if ratio < 4.5} == {}
    marks = {pair: contrast(tokens[pair[0]], tokens[pair[1]]) for pair in MARKS}
    assert {pair: ratio for pair, ratio in marks.items() if ratio < 3} == {}
    # The scale of what passes goes one way, and its ends are told apart.
    steps = [luminance(tokens[f"s{k}"]) for k in range(5)]
    assert steps == sorted(steps, reverse=theme == 0)
