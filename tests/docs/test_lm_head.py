"""The page on the head of a language model quotes the published runs as they are now."""

import re

import pytest

from places import ROOT

DOCS = ROOT / "docs"
PAGE = (DOCS / "lm-head.md").read_text(encoding="utf-8")
GPU, HOST = PAGE.split("## On two cores")


def cells(text):
    return [re.split(r"\s*\|\s*", line.strip("| ")) for line in text.splitlines() if "|" in line]


ROWS = {"GPU": [r for r in cells(GPU) if len(r) == 3 and r[1][:1].isdigit()]}
ROWS["host"] = [r for r in cells(HOST) if len(r) == 3 and r[1][:1].isdigit()]


def test_both_tables_are_read() -> None:
    assert (len(ROWS["GPU"]), len(ROWS["host"])) == (5, 5)


@pytest.mark.parametrize("row", ROWS["GPU"], ids=lambda r: r[0])
def test_the_gpu_rows_are_those_of_the_published_run(row) -> None:
    assert row in cells((DOCS / "performance-gpu.md").read_text(encoding="utf-8"))


@pytest.mark.parametrize("row", ROWS["host"], ids=lambda r: r[0])
def test_the_host_rows_are_those_of_the_published_run(row) -> None:
    """The time is in the table of milliseconds, the memory in that of what is held beyond."""
    name, ms, megabytes = row
    published = (DOCS / "performance.md").read_text(encoding="utf-8")
    assert any(r[0] == name and ms in r[1:] for r in cells(published))
    heading, _, memory = cells(published.partition("beyond inputs and gradients:\n\n")[2])[:3]
    assert dict(zip(heading, memory[1:], strict=True))[name] == f"{megabytes} MB"
