"""The suite in another project's tests: run there once, in a folder and a process of its own."""

from __future__ import annotations

import os
import subprocess
import sys
from contextlib import redirect_stdout
from io import StringIO
from pathlib import Path
from textwrap import dedent
from types import SimpleNamespace
from typing import Any
from xml.etree import ElementTree

import pytest

from by_hand import DEVIATION
from xloss_conformance import conformance_cases
from xloss_conformance.cases import catalogue

TESTS = """
import sys

import by_hand
import pytest
from xloss_conformance import conformance_cases

sys.modules["torch"] = None

@pytest.fixture
def loss():
    return by_hand.right

class TestIt:
    @conformance_cases(families=["tail"], dtype=("float32", "float64"))
    def test_right(self, case, loss):
        case.check(loss)

@conformance_cases(families=["tail"])
def test_noisy(case):
    case.check(by_hand.noisy)

@conformance_cases(families=["tail"], deviations="known.toml")
def test_stale(case):
    case.check(by_hand.right)

@conformance_cases(convention="torch")
def test_not_here(case):
    case.check(by_hand.right)
"""
KNOWN = DEVIATION.format("right float32", "tail/gap 17")
SUPPORT = Path(__file__).parent / "support"
TAIL = [case.name for case in catalogue() if case.family == "tail"]


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """What pytest told of each item, and what it printed, of a project's tests."""
    folder = tmp_path_factory.mktemp("project")
    (folder / "pytest.ini").write_text("[pytest]\nfilterwarnings = error\n")
    (folder / "test_by_hand.py").write_text(TESTS)
    (folder / "known.toml").write_text(KNOWN)
    command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "--junit-xml=told.xml"]
    # Nothing but pytest takes part: other plugins take longer to import than the tests.
    alone = {**os.environ, "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1", "PYTHONPATH": str(SUPPORT)}
    ran = subprocess.run(command, cwd=folder, env=alone, capture_output=True, text=True)
    assert (ran.returncode, ran.stderr) == (1, "")
    told: dict[str, dict[str, tuple[str, str]]] = {}
    for item in ElementTree.parse(folder / "told.xml").iter("testcase"):
        test, _, case = item.attrib["name"].rstrip("]").partition("[")
        told.setdefault(test, {})[case] = ("passed", "")
        for of in item:
            how = of.get("type", "").removeprefix("pytest.") or of.tag
            told[test][case] = (how, of.get("message", ""))
    return SimpleNamespace(told=told, printed=ran.stdout)


def how(project: Any, test: str) -> dict[str, str]:
    return {case: told for case, (told, _) in project.told[test].items()}


def test_a_right_loss_passes_one_item_a_case_and_dtype(project: Any) -> None:
    """In a class, by a fixture."""
    items = [f"{name} {dtype}" for name in TAIL for dtype in ("float32", "float64")]
    assert how(project, "test_right") == dict.fromkeys(items, "passed")


def test_a_wrong_loss_fails_with_reason_numbers_and_a_snippet(project: Any) -> None:
    assert how(project, "test_noisy") == dict.fromkeys(TAIL, "failure")
    text = project.printed
    assert "checking.py" not in text  # nobody's frame but the project's
    case = text.split("test_noisy[tail/gap 17]", 1)[1].split("test_noisy[", 1)[0]
    for said in (
        *("tail/gap 17: noisy float32 fails", "why: log(1 + r) is 0 in float32"),
        "value (the value is within its error budget): 1 of 1 beyond the budget",
        *("got value: 2.4423", "expected value: 2.4423", "expected gradient: [["),
    ):
        assert said in case, said
    # The snippet runs, and prints what was got.
    lines = case.split("to see it again:", 1)[1].splitlines()[1:]
    script = dedent("\n".join(line[1:] for line in lines if line.startswith("E    ")))
    with redirect_stdout(StringIO()) as printed:
        exec(script, {})
    assert printed.getvalue().startswith("value 2.4423")


def test_what_cannot_be_asked_is_skipped_with_the_reason(project: Any) -> None:
    """So are options that a loss does not take, and deviations xfailed: test_validate.py."""
    for told, reason in project.told["test_not_here"].values():
        assert (told, 'pip install "xloss[torch]"' in reason) == ("skip", True)


def test_a_deviation_that_is_none_any_more_fails(project: Any) -> None:
    passed = dict.fromkeys(TAIL, "passed")
    assert how(project, "test_stale") == {**passed, "tail/gap 17": "failure"}
    says = project.told["test_stale"]["tail/gap 17"][1]
    assert "stale deviation: 'right float32' on 'tail/gap 17'" in says


def test_what_is_an_error_and_no_skipped_test(tmp_path: Path) -> None:
    (tmp_path / "known.toml").write_text(DEVIATION.format("noisy *", "tale/*"))
    with pytest.raises(ValueError, match="there is no such case"):
        conformance_cases(deviations=tmp_path / "known.toml")
    with pytest.raises(ValueError, match="convention sklearn has no focal_loss"):
        conformance_cases(convention="sklearn", loss="focal_loss")
