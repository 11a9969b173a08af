"""The suite in another project's tests: run there once, in a folder and a process of its own."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path
from textwrap import dedent
from types import SimpleNamespace
from typing import Any
from xml.etree import ElementTree

import pytest

from xloss_conformance import conformance_cases
from xloss_conformance.cases import catalogue

LOSSES = """
import numpy as np
import xloss

both = xloss.value_and_grad(xloss.cross_entropy)

def right(logits, targets, **options):
    return both(logits, targets, **options)

def noisy(logits, targets, **options):
    value, gradient = both(logits, targets, **options)
    return value * 1.00001, gradient

def plain(logits, targets):
    return both(logits, targets)
"""
TESTS = """
import sys

import losses
import pytest
from xloss_conformance import conformance_cases

sys.modules["torch"] = None

@pytest.fixture
def loss():
    return losses.right

class TestIt:
    @conformance_cases(families=["tail"], dtype=("float32", "float64"))
    def test_right(self, case, loss):
        case.check(loss)

@conformance_cases(families=["tail"])
def test_noisy(case):
    case.check(losses.noisy)

@conformance_cases(families=["z-loss"])
def test_plain(case):
    case.check(losses.plain)

@conformance_cases(families=["tail", "ties"], deviations="known.toml")
def test_declared(case):
    case.check(losses.noisy)

@conformance_cases(families=["tail"], deviations="known.toml")
def test_stale(case):
    case.check(losses.right)

@conformance_cases(convention="torch")
def test_not_here(case):
    case.check(losses.right)
"""
DEVIATION = """
[[deviation]]
subject = "{} float32"
case = "{}"
rule = "value"
reason = "a hundredth of a thousandth"
link = "https://example.org/1"
"""
KNOWN = DEVIATION.format("noisy", "tail/*") + DEVIATION.format("right", "tail/gap 17")
TAIL = [case.name for case in catalogue() if case.family == "tail"]


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """What pytest told of each item, and what it printed, of a project with losses and tests."""
    folder = tmp_path_factory.mktemp("project")
    (folder / "losses.py").write_text(LOSSES)
    (folder / "pytest.ini").write_text("[pytest]\nfilterwarnings = error\npythonpath = .\n")
    (folder / "test_losses.py").write_text(TESTS)
    (folder / "known.toml").write_text(KNOWN)
    command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "--junit-xml=told.xml"]
    # Nothing but pytest takes part: other plugins take longer to import than the tests.
    alone = {**os.environ, "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"}
    ran = subprocess.run(command, cwd=folder, env=alone, capture_output=True, text=True)
    assert (ran.returncode, ran.stderr) == (1, "")
    told: dict[str, dict[str, tuple[str, str]]] = {}
    for item in ElementTree.parse(folder / "told.xml").iter("testcase"):
        test, _, case = item.attrib["name"].rstrip("]").partition("[")
        told.setdefault(test, {})[case] = ("passed", "")
        for of in item:
            how = of.get("type", "").removeprefix("pytest.") or of.tag
            told[test][case] = (how, of.get("message", ""))
    return SimpleNamespace(folder=folder, told=told, printed=ran.stdout)


def how(project: Any, test: str) -> dict[str, str]:
    return {case: told for case, (told, _) in project.told[test].items()}


def test_a_right_loss_passes_one_item_a_case_and_dtype(project: Any) -> None:
    """In a class, by a fixture."""
    items = [f"{name} {dtype}" for name in TAIL for dtype in ("float32", "float64")]
    assert how(project, "test_right") == dict.fromkeys(items, "passed")


def test_a_wrong_loss_fails_with_reason_numbers_and_a_snippet(project: Any) -> None:
    assert how(project, "test_noisy") == dict.fromkeys(TAIL, "failure")
    text = project.printed
    for said in (
        "tail/gap 17: noisy float32 fails",
        "why: log(1 + r) is 0 in float32",
        "value (the value is within its error budget): 1 of 1 beyond the budget",
        "got value: 2.4423",
        "expected value: 2.4423",
        "expected gradient: [[",
    ):
        assert said in text, said
    assert "checking.py" not in text  # nobody's frame but the project's
    # The snippet runs, and prints what was got.
    case = text.split("test_noisy[tail/gap 17]", 1)[1].split("test_noisy[", 1)[0]
    got = re.search(r"got value: (\S+)", case)
    lines = case.split("to see it again:", 1)[1].splitlines()[1:]
    script = dedent("\n".join(line[1:] for line in lines if line.startswith("E    ")))
    command = [sys.executable, "-c", script]
    done = subprocess.run(command, cwd=project.folder, capture_output=True, text=True, check=False)
    assert done.returncode == 0, script + done.stderr
    assert got is not None
    printed = float(done.stdout.splitlines()[0].removeprefix("value "))
    assert printed == pytest.approx(float(got[1]), rel=1e-8)


@pytest.mark.parametrize(
    ("test", "says"),
    [("test_plain", "does not take "), ("test_not_here", 'pip install "xloss[torch]"')],
)
def test_what_cannot_be_asked_is_skipped_with_the_reason(
    project: Any, test: str, says: str
) -> None:
    assert {told for told, _ in project.told[test].values()} == {"skip"}
    assert {r for _, r in project.told[test].values() if says not in r} == set()


def test_a_declared_deviation_is_an_expected_failure(project: Any) -> None:
    for case, told in project.told["test_declared"].items():
        if case in TAIL:
            assert told == ("xfail", "a hundredth of a thousandth (https://example.org/1)")
        else:
            assert told[0] == "failure"


def test_a_deviation_that_is_none_any_more_fails(project: Any) -> None:
    passed = dict.fromkeys(TAIL, "passed")
    assert how(project, "test_stale") == {**passed, "tail/gap 17": "failure"}
    says = project.told["test_stale"]["tail/gap 17"][1]
    assert "stale deviation: 'right float32' on 'tail/gap 17'" in says


def test_a_deviation_of_no_case_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "known.toml").write_text(DEVIATION.format("noisy", "tale/*"))
    with pytest.raises(ValueError, match="there is no such case"):
        conformance_cases(deviations=tmp_path / "known.toml")


def test_importing_the_suite_imports_no_pytest() -> None:
    script = (
        "import sys\n"
        "from xloss_conformance import check, compare, conformance_cases\n"
        "assert 'pytest' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", script], check=True)
