"""The page, driven in a headless Chromium as a reader would."""

from __future__ import annotations

import made_record
from browsing import CELL, Open, click, find, focused, press, texts, until, wait
from xloss_conformance.model import RULES
from xloss_conformance.report.training import RULES as TRAINING


def test_the_head_says_what_was_judged_where_and_the_verdict(opened: Open) -> None:
    d = opened()
    assert texts(d, "h1") == ["The peers fail 8 of 12 calls; xloss passes all 21 calls"]
    facts = " ".join(texts(d, ".facts"))
    for part in ("2026-11-22", "--peer torch", "2 cores", "torch 2.13.0", "CuPy finds no GPU"):
        assert part in facts
    heads = ["cases", "subjects", "calls judged", "peers fail", "xloss fails", "declared"]
    assert texts(d, ".tiles dt") == heads
    assert texts(d, ".tiles dd") == ["7", "5", "33", "8", "0", "1"]


def test_the_matrix_shows_every_status_in_words_and_signs(opened: Open) -> None:
    d = opened(hash="#open=tail&open=masks")
    assert texts(d, CELL.format(0, "n + 2")) == ["✕10", "✕10", "31%", "31%", "31%"]
    assert texts(d, CELL.format(3, 3)) == ["✕10⁷"]
    assert texts(d, CELL.format(5, "n + 2")) == ["–", "–", "31%", "31%", "31%"]
    assert texts(d, CELL.format(6, 3)) == ["◇"]
    # By the share of its budget: 1.25 ulp of 4.
    assert find(d, CELL.format(0, 4))[0].get_attribute("class").split()[0] == "s2"
    for place, said in (
        ((0, 4), "passes, 31% of its budget"),
        ((3, 3), "fails, 10⁷ times its budget"),
        ((5, 3), "not offered"),
        ((6, 3), "declared, not counted as failing"),
    ):
        assert find(d, CELL.format(*place))[0].get_attribute("aria-label") == said
    assert texts(d, 'tr[data-family="tail"] > td') == ["✕4", "✕4", "31%", "31%", "31%"]
    assert texts(d, "tr.all > td")[:2] == ["✕4", "✕4"]
    assert find(d, CELL.format(2, 2))[0].get_attribute("class").split()[:2] == ["fail", "lost"]
    assert "lost" not in find(d, CELL.format(0, 2))[0].get_attribute("class").split()


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
    assert texts(d, CELL.format(0, "n + 2"))[2:] == ["16%", "16%", "16%"]


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
    click(d, '#filters [data-value="jax"]')
    assert texts(d, "thead .of") == ["optax"]
    click(d, "#clear")
    find(d, "#search")[0].send_keys("MASKED smoothed")
    assert texts(d, "tr[data-case] > th") == ["smoothed"]
    find(d, "#search")[0].send_keys(" nonsense")
    assert "No case and subject match" in texts(d, "#box")[0]
    click(d, "#box button")
    choose = "arguments[0].value = 'masks'; arguments[0].dispatchEvent(new Event('change'))"
    d.execute_script(choose, find(d, "#family")[0])
    assert texts(d, "tr[data-case] > th") == ["index", "soft", "smoothed"]


def test_arrow_keys_move_and_enter_opens_and_escape_returns(opened: Open) -> None:
    d = opened()
    assert len(find(d, "#box [tabindex='0']")) == 1  # one stop for Tab, whatever the size
    d.execute_script("document.querySelector('#box [tabindex=\"0\"]').focus()")
    assert focused(d) == ("tail", 0)
    press(d, "ARROW_DOWN", "ARROW_DOWN", "ARROW_RIGHT", "ARROW_RIGHT")
    assert focused(d) == ("1", 2)
    press(d, "END", "ARROW_RIGHT")
    assert focused(d) == ("1", 5)
    press(d, "HOME", "ARROW_UP", "ARROW_UP", "ENTER")
    assert find(d, "tr[data-case]") == []
    assert focused(d) == ("tail", 0)
    press(d, "ENTER", "ARROW_DOWN", "END", "ENTER")
    assert find(d, "dialog[open]")
    assert "xloss torch float32 autograd" in texts(d, "#panel-title")[0]
    press(d, "ESCAPE")
    assert not find(d, "dialog[open]")
    assert focused(d) == ("0", 5)
    outline = "return getComputedStyle(document.activeElement).outlineStyle"
    assert d.execute_script(outline) == "solid"


def test_the_panel_shows_the_cell_and_its_snippet_can_be_copied(opened: Open) -> None:
    d = opened()
    click(d, CELL.format(2, 2))
    wait(d, "#snippet")
    panel = texts(d, "#panel")[0]
    for part in (
        *("tail/gap 17", "torch float32, version 1.2.3", "✕ fail", "2.0·10⁶ ulp"),
        *("10⁶ times its budget", f"In training: {TRAINING['value'].training}", made_record.TAIL),
        *("value: 1 of 1 beyond the budget", RULES["value"], "at [0]: got 0, expected 2.5e-7"),
    ):
        assert part in panel
    assert texts(d, "#panel mark") == ["0"]  # of [0, 0.5] for [2.5e-07, 0.5]
    links = [a.get_attribute("href") for a in find(d, "#panel a")]
    assert links == ["https://github.com/scipy/scipy/issues/18295"]
    assert "cell=tail%2Fgap+17%7Ctorch+float32" in d.current_url
    allowed = {"permissions": ["clipboardReadWrite", "clipboardSanitizedWrite"]}
    d.execute_cdp_cmd("Browser.grantPermissions", allowed)
    expected = made_record.case("tail", "gap 17", "", 17.0)["setup"]
    expected += "\nimport torch\nprint('torch float32')"
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
    d = opened()
    assert texts(d, "#legend button")[:2] == ["torch", "optax"]
    assert len(find(d, "#chart .curve")) == 4
    # The line of what is allowed divides those that pass from those that fail.
    line = "document.querySelector('#chart .rule').getBBox().y"
    ends = "[...document.querySelectorAll('#chart .curve')].map(e => e.getPointAtLength(0).y)"
    assert d.execute_script(f"return {ends}.map(y => y < {line})") == [True, True, False, False]
    heights = "return [...document.querySelectorAll('#chart .curve')].map(e => e.getAttribute('d'))"
    before = d.execute_script(heights)
    click(d, "#legend button:nth-child(1)")
    assert len(find(d, "#chart .curve")) == 3
    click(d, "#legend button:nth-child(1)")
    click(d, '#plot-controls [data-value="grad"]')
    assert d.execute_script(heights) != before
    click(d, '#plot-controls [data-value="value"]')
    click(d, '#plot-controls [data-value="float64"]')
    assert texts(d, "#legend button") == ["xloss numpy"]
    click(d, '#plot-controls [data-value="float32"]')
    d.execute_script("document.querySelector('#chart svg').focus()")
    press(d, "ARROW_RIGHT", "ARROW_RIGHT", "ARROW_DOWN", "ARROW_UP")
    assert "gap 17" in texts(d, "#tip")[0]
    assert texts(d, "#tip .here td") == ["torch", "10⁶ times its budget, 2.0·10⁶ ulp"]
    press(d, "ENTER")
    assert texts(d, "#panel-title")[0].startswith("tail/gap 17\ntorch float32")
    press(d, "ESCAPE")
    assert d.execute_script("return document.activeElement.tagName") == "svg"


def test_a_panel_closed_while_its_details_unpack_complains_of_nothing(opened: Open) -> None:
    d = opened()
    # The details wait for the panel's `close` event, as they do by chance on a busy machine.
    opened_and_closed = """
        const [done, panel, unpack] = [arguments[0], document.getElementById("panel"), detail];
        const closing = new Promise((go) => panel.addEventListener("close", go, { once: true }));
        window.detail = async (...cell) => { await closing; return unpack(...cell); };
        const shown = openPanel(2, 1);
        panel.close();
        shown.then(() => done(""), (error) => done(String(error)));
    """
    assert d.execute_async_script(opened_and_closed) == ""
    assert "cell=" not in d.current_url
