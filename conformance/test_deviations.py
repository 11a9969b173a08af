"""Declared deviations: what a file may say, what it excuses, and when it is out of date."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from by_hand import DEVIATION, EXCUSED
from xloss_conformance.cases import catalogue
from xloss_conformance.deviations import BadFile, Deviation, declared, read, stale
from xloss_conformance.model import Finding, SubjectInfo, Verdict
from xloss_conformance.result import Report

TAIL = [case for case in catalogue() if case.family == "tail"]
SUBJECT = SubjectInfo("mine float32", "candidate", "numpy", "", "cpu", "float32", "", "1")
TEXT = DEVIATION.format("mine *", "tail/*")
REASON, LINK = "a hundredth of a thousandth", "https://example.org/1"
ENTRY = Deviation("mine *", "tail/*", "value", REASON, LINK)


def verdict(case: int = 0, *rules: str) -> Verdict:
    found = [Finding(rule, "off") for rule in rules]
    return Verdict(TAIL[case], SUBJECT.name, "fail" if rules else "pass", found)


def report(*verdicts: Verdict, cases: int = len(TAIL)) -> Report:
    return Report([SUBJECT], TAIL[:cases], list(verdicts))


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (TEXT.replace("reason = ", "# reason = "), "deviation 1: reason is missing"),
        (TEXT.replace(REASON, " "), "deviation 1: reason is missing, or no text"),
        (TEXT.replace(LINK, "an issue"), "link 'an issue' is no address"),
        (TEXT.replace('"value"', '"values"'), "rule 'values' is none of value, gradient"),
        (TEXT + "reasons = 3\n", "reasons is unknown"),
        (TEXT + "[other]\n", "[[deviation]] entries and nothing else"),
        ("deviation = [3]", "deviation 1: expected a table"),
        ("[[", "known.toml: "),
    ],
)
def test_a_bad_file_is_refused(tmp_path: Path, text: str, said: str) -> None:
    file = tmp_path / "known.toml"
    file.write_text(TEXT)
    assert read(file) == [ENTRY]
    file.write_text(text)
    with pytest.raises(BadFile) as caught:
        read(file)
    assert said in str(caught.value)
    with pytest.raises(BadFile, match=r"none.toml: .*No such file"):
        read(tmp_path / "none.toml")


@pytest.mark.parametrize(
    ("rules", "entries", "status"),
    [
        (["value"], [ENTRY], "declared"),
        (["value"], [replace(ENTRY, subject="others *")], "fail"),
        (["value"], [replace(ENTRY, case="ties/*")], "fail"),
        (["value"], [replace(ENTRY, rule="gradient")], "fail"),
        (["value", "gradient"], [ENTRY], "fail"),  # every finding must be declared
        (["value", "gradient"], [ENTRY, replace(ENTRY, rule="gradient")], "declared"),
        ([], [ENTRY], "pass"),
    ],
)
def test_a_failure_is_declared_by_name_and_rule(
    rules: list[str], entries: list[Deviation], status: str
) -> None:
    done = declared(verdict(0, *rules), entries)
    assert done.status == status
    assert done.failed == (status == "fail")
    assert (EXCUSED in done.note) == (status == "declared")


def everywhere(*rules: str) -> list[Verdict]:
    return [verdict(case, *rules) for case in range(len(TAIL))]


NOT_HERE = replace(ENTRY, subject="xloss cupy float32")
STALE = {
    "one that is needed": (ENTRY, [verdict(0, "value"), *everywhere()[1:]], None),
    "cells that all pass": (ENTRY, everywhere(), "'mine *' on 'tail/*', rule value: none of its"),
    "another rule than the one that fails": (ENTRY, everywhere("gradient"), "none of its"),
    "fewer cases than it is of": (ENTRY, [verdict(0)], None),
    "no such case": (replace(ENTRY, case="tial/*"), [], "there is no such case"),
    "no such subject": (replace(ENTRY, subject="xloss numpi *"), [], "there is no such subject"),
    "no such dtype": (replace(ENTRY, subject="xloss dask float16"), [], "no such subject"),
    "a subject that is known, but is not here": (NOT_HERE, [], None),
}


@pytest.mark.parametrize("name", STALE)
def test_an_entry_that_nothing_needs_is_stale(name: str) -> None:
    entry, verdicts, said = STALE[name]
    ran = report(*verdicts, cases=1 if len(verdicts) == 1 else len(TAIL))
    lines = stale([entry], ran)
    assert len(lines) == (said is not None)
    assert said is None or said in lines[0]


def test_a_missing_library_is_no_excuse_for_the_others() -> None:
    entry = replace(ENTRY, subject="*")
    everyone = {"torch", "strict", "jax", "tensorflow", "dask", "cupy", "cuda", "numpy"}
    run = replace(report(*everywhere()), missing=[f"{name}: not here" for name in everyone])
    assert len(stale([entry], run)) == 1
