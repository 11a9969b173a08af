"""What the tests of the page do in a browser."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

Open = Callable[..., Any]
CELL = '#box tr[data-case="{}"] > :nth-child({})'  # of a case, in a column


def find(driver: Any, selector: str) -> list[Any]:
    return list(driver.find_elements("css selector", selector))


def texts(driver: Any, selector: str) -> list[str]:
    script = "return [...document.querySelectorAll(arguments[0])].map(e => e.innerText.trim())"
    found: list[str] = driver.execute_script(script, selector)
    return found


def press(driver: Any, *keys: str) -> None:
    """Press keys by Selenium's names for them."""
    from selenium.webdriver import ActionChains, Keys

    ActionChains(driver).send_keys(*(getattr(Keys, key) for key in keys)).perform()


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
