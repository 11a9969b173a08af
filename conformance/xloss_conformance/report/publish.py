"""The published matrix, by one command: xloss wherever it runs here, and every peer.

    python -m xloss_conformance.report.publish                # runs the suite, writes all of docs/
    python -m xloss_conformance.report.publish --render       # draws the published run again
    python -m xloss_conformance.report.publish --page FILE    # the page of the published run alone

docs/ has the record of the run, compressed; conformance.md, made of it; and pictures of the page in
both themes and at phone width. The page itself is made wherever it is needed: it is too large to
be kept in every version.
"""

from __future__ import annotations

import argparse
import base64
import json
import lzma
import os
import sys
import tempfile
from pathlib import Path
from shutil import which
from typing import Any

from .markdown import markdown
from .pack import pack, unpack
from .page import page
from .record import record, verdict

AGAIN = "python -m xloss_conformance.report.publish"
PAGE = f"{AGAIN} --page conformance.html"
RECORD = "conformance.jsonl.xz"
PICTURES = {
    "conformance-light.png": (1280, 1100, "light"),
    "conformance-dark.png": (1280, 1100, "dark"),
    "conformance-phone.png": (390, 844, "light"),
}
INSTALL = 'apt-get install chromium chromium-driver; pip install "xloss[test]"'
BROWSERS = ("chromium", "chromium-browser", "google-chrome")


def judged(jobs: int) -> dict[str, Any]:
    """Run xloss and every peer by the whole catalogue."""
    from .. import deviations, run, selection
    from ..candidates import here

    everything = selection.Plan()
    peers = selection.Plan(peers=here())
    sources, cases = selection.sources(everything), selection.cases(everything)
    known = deviations.read(deviations.FILE)
    report = run.run([*sources, *selection.sources(peers)], cases, jobs=jobs, deviations=known)
    report.mode, report.command = "full", AGAIN
    return record(report)


def write(record: dict[str, Any], docs: Path) -> None:
    """Write the record, compressed."""
    head, details = pack(record)
    text = f"{json.dumps(head, separators=(',', ':'), allow_nan=False)}\n{details}"
    (docs / RECORD).write_bytes(lzma.compress(text.encode(), preset=9 | lzma.PRESET_EXTREME))


def read(docs: Path) -> dict[str, Any]:
    """Return the published record."""
    text = lzma.decompress((docs / RECORD).read_bytes()).decode()
    head, details = text.split("\n", 1)
    return unpack(json.loads(head), details)


def document(record: dict[str, Any]) -> str:
    """Return conformance.md of a published record."""
    return markdown(record, AGAIN, PAGE, tuple(PICTURES))


# ---- A headless Chromium: it takes the pictures, and tests the page ------------------------------


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


def pictures(record: dict[str, Any], docs: Path) -> None:
    """Take the pictures of what a reader sees first; NoBrowser says what is missing."""
    driver = browser()
    try:
        with tempfile.TemporaryDirectory() as folder:
            made = Path(folder) / "conformance.html"
            made.write_text(page(record), encoding="utf-8")
            for name, (width, height, theme) in PICTURES.items():
                picture(driver, made, docs / name, width, height, theme)
    finally:
        driver.quit()


def main() -> None:
    """Run, write, and say what came of it."""
    parser = argparse.ArgumentParser(prog=AGAIN, description="Publish the conformance matrix.")
    parser.add_argument("docs", nargs="?", type=Path, default=Path("docs"))
    parser.add_argument("--render", action="store_true", help="of the run published already")
    parser.add_argument(
        "--page", type=Path, metavar="FILE", help="write the page of that run to FILE, and no more"
    )
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1)
    asked = parser.parse_args()
    if asked.page is not None:
        asked.page.write_text(page(read(asked.docs)), encoding="utf-8")
        return
    if not asked.render:
        write(judged(asked.jobs), asked.docs)
    record = read(asked.docs)
    (asked.docs / "conformance.md").write_text(document(record), encoding="utf-8")
    try:
        pictures(record, asked.docs)
    except NoBrowser as error:
        print(f"no pictures: {error}", file=sys.stderr)
    print(verdict(record))


if __name__ == "__main__":
    main()
