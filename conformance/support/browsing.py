"""What the tests of the page do in a browser."""

from __future__ import annotations

from collections.abc import Callable
from shutil import which
from typing import Any

from xloss_conformance.report.publish import BROWSERS

Open = Callable[..., Any]
INSTALL = 'apt-get install chromium chromium-driver; pip install "xloss[test]"'
CELL = '#box tr[data-case="{}"] > :nth-child({})'  # of a case, in a column


class NoBrowser(Exception):
    """There is none here; the message says what installs it."""


def browser() -> Any:
    """Return a Selenium driver of a headless Chromium; NoBrowser says what is missing."""
    binary = next(filter(None, map(which, BROWSERS)), None)
    driver = which("chromedriver")
    if binary is None or driver is None:
        raise NoBrowser(f"no {'chromedriver' if binary else 'Chromium'} here: {INSTALL}")
    try:
        from selenium import webdriver
        from selenium.webdriver.chrome.service import Service
    except ModuleNotFoundError as error:
        raise NoBrowser(f"{error.name} is not installed: {INSTALL}") from error
    options = webdriver.ChromeOptions()
    options.binary_location = binary
    # No sandbox: as root, in a container, Chromium would not start with one.
    for argument in ("headless=new", "no-sandbox", "disable-dev-shm-usage", "disable-gpu"):
        options.add_argument(f"--{argument}")
    options.add_argument("--hide-scrollbars")
    options.add_argument("--lang=en")
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    # With its path given, Selenium does not look for a driver on the network.
    return webdriver.Chrome(options=options, service=Service(driver))


def size(driver: Any, width: int, height: int) -> None:
    """Give the page a size; below 500 pixels Chromium's window itself would not go."""
    metrics = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 500}
    driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)


def scheme(driver: Any, name: str) -> None:
    """Let the system prefer light or dark."""
    prefers = {"name": "prefers-color-scheme", "value": name}
    driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": [prefers]})


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
