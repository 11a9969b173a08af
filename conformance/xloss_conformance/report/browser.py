"""A headless Chromium that stays on this machine: it tests the page, and takes its pictures."""

from __future__ import annotations

import base64
from pathlib import Path
from shutil import which
from typing import Any

INSTALL = 'apt-get install chromium chromium-driver; pip install "xloss[test]"'
BROWSERS = ("chromium", "chromium-browser", "google-chrome")


class NoBrowser(Exception):
    """There is none here; the message says what installs it."""


def browser() -> Any:
    """Return a Selenium driver of a headless Chromium; NoBrowser says what is missing."""
    binary = next((path for name in BROWSERS if (path := which(name))), None)
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
    for argument in (
        "--headless=new",
        "--no-sandbox",
        "--disable-dev-shm-usage",
        "--disable-gpu",
        "--hide-scrollbars",
        "--lang=en",
    ):
        options.add_argument(argument)
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


def picture(driver: Any, page: Path, to: Path, width: int, height: int, theme: str) -> None:
    """Write a picture of what a window of that size shows of a page at first."""
    size(driver, width, height)
    scheme(driver, theme)
    driver.get("about:blank")
    driver.get(page.absolute().as_uri())
    taken = driver.execute_cdp_cmd("Page.captureScreenshot", {})
    to.write_bytes(base64.b64decode(taken["data"]))
