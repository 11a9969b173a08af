"""A browser for the tests of the page, the pages that it opens, and libraries that tests have."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator
from typing import Any

import pytest

import made_record
from browsing import NoBrowser, Open, browser, scheme, size
from xloss_conformance import judge, libraries
from xloss_conformance.libraries import ArrayLibrary
from xloss_conformance.report.page import page
from xloss_conformance.report.publish import read

if "MUTANT_UNDER_TEST" in os.environ:
    # mutmut names a fault by its file, from the root of the repository, and finds it by the name of
    # the function's module, from which only `src.` is left out.
    for function in [*vars(judge).values()]:
        if getattr(function, "__module__", "") == judge.__name__:
            for one in (function, getattr(function, "__wrapped__", function)):
                one.__module__ = f"conformance.{judge.__name__}"


@pytest.fixture
def have(monkeypatch: pytest.MonkeyPatch) -> Callable[[ArrayLibrary], None]:
    """Give the suite an array library that only tests have, by its own name."""
    there = libraries._made

    def add(made: ArrayLibrary) -> None:
        monkeypatch.setattr(
            libraries, "_made", lambda name: made if name == made.name else there(name)
        )

    return add


@pytest.fixture(scope="session")
def driver() -> Iterator[Any]:
    try:
        made = browser()
    except NoBrowser as missing:
        pytest.skip(str(missing))
    yield made
    made.quit()


@pytest.fixture(scope="session")
def files(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    folder = tmp_path_factory.mktemp("pages")
    made = {"small": made_record.small(), "hostile": made_record.hostile()}
    made["full"] = read(made_record.DOCS)
    for name, record in made.items():
        (folder / f"{name}.html").write_text(page(record), encoding="utf-8")
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
