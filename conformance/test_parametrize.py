"""The suite in another project's tests: run there, in a folder and a process of its own."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

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
DEVIATIONS = """
[[deviation]]
subject = "noisy float32"
case = "{case}"
rule = "value"
reason = "a hundredth of a thousandth"
link = "https://example.org/1"
"""


class Project:
    """A project that has losses.py and tests."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        (folder / "losses.py").write_text(LOSSES)
        (folder / "pytest.ini").write_text("[pytest]\nfilterwarnings = error\npythonpath = .\n")

    def run(self, test: str, *options: str) -> str:
        """Run one file of tests, and return what pytest prints."""
        head = "import losses\nfrom xloss_conformance import conformance_cases\n"
        (self.folder / "test_losses.py").write_text(head + test)
        command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "-rA", *options]
        # Nothing but pytest takes part: other plugins take longer to import than the tests.
        alone = {**os.environ, "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"}
        done = subprocess.run(
            command, cwd=self.folder, env=alone, capture_output=True, text=True, check=False
        )
        self.code = done.returncode
        return done.stdout + done.stderr

    @staticmethod
    def counts(text: str) -> dict[str, int]:
        last = text.strip().splitlines()[-1]
        return {word: int(n) for n, word in re.findall(r"(\d+) (\w+)", last)}


@pytest.fixture
def project(tmp_path: Path) -> Project:
    return Project(tmp_path)


TEST = """
@conformance_cases(families=["tail", "ties"])
def test_it(case):
    case.check(losses.{loss})
"""


def test_a_right_loss_passes_one_item_a_case(project: Project) -> None:
    text = project.run(TEST.format(loss="right"))
    assert project.code == 0, text
    assert "PASSED test_losses.py::test_it[tail/gap 17]" in text
    assert set(project.counts(text)) == {"passed"}


def test_a_wrong_loss_fails_with_reason_numbers_and_a_snippet(project: Project) -> None:
    text = project.run(TEST.format(loss="noisy"))
    assert project.code == 1
    counts = project.counts(text)
    assert set(counts) == {"failed"}, text
    for said in (
        "tail/gap 17: noisy float32 fails",
        "why: log(1 + r) is 0 in float32",
        "value (the value is within its error budget): 1 of 1 beyond the budget",
        "got value: 2.4423",
        "expected value: 2.4423",
        "expected gradient: [[",
    ):
        assert said in text, said
    assert "parametrize.py" not in text  # nobody's frame but the project's
    # The snippet runs, and prints what was got.
    case = text.split("test_it[tail/gap 17]", 1)[1].split("test_it[", 1)[0]
    got = re.search(r"got value: (\S+)", case)
    lines = case.split("to see it again:", 1)[1].splitlines()[1:]
    snippet = [line[1:].strip() for line in lines if line.startswith("E    ")]
    script = "\n".join(snippet)
    command = [sys.executable, "-c", script]
    done = subprocess.run(command, cwd=project.folder, capture_output=True, text=True, check=False)
    assert done.returncode == 0, script + done.stderr
    assert got is not None
    assert float(done.stdout.splitlines()[0]) == pytest.approx(float(got[1]), rel=1e-8)


def test_what_is_not_offered_is_skipped_with_the_reason(project: Project) -> None:
    test = TEST.format(loss="plain").replace('"tail", "ties"', '"z-loss"')
    text = project.run(test)
    assert project.code == 0, text
    assert set(project.counts(text)) == {"skipped"}
    assert "has no z_loss" in text or "does not take" in text


def test_a_declared_deviation_is_an_expected_failure(project: Project) -> None:
    (project.folder / "known.toml").write_text(DEVIATIONS.format(case="tail/*"))
    test = TEST.format(loss="noisy").replace('"ties"]', '"ties"], deviations="known.toml"')
    text = project.run(test)
    counts = project.counts(text)
    assert set(counts) == {"xfailed", "failed"}
    assert "a hundredth of a thousandth (https://example.org/1)" in text
    assert "FAILED test_losses.py::test_it[tail/" not in text


def test_a_deviation_that_is_none_any_more_fails(project: Project) -> None:
    entry = DEVIATIONS.format(case="tail/gap 17").replace("noisy", "right")
    (project.folder / "known.toml").write_text(entry)
    test = TEST.format(loss="right").replace('"ties"]', '"ties"], deviations="known.toml"')
    text = project.run(test)
    assert project.counts(text)["failed"] == 1
    assert "stale deviation: 'right float32' on 'tail/gap 17'" in text


def test_a_deviation_of_no_case_is_an_error(project: Project) -> None:
    (project.folder / "known.toml").write_text(DEVIATIONS.format(case="tale/*"))
    test = TEST.format(loss="right").replace('"ties"]', '"ties"], deviations="known.toml"')
    text = project.run(test)
    assert project.code == 2
    assert "there is no such case" in text


def test_dtypes_are_items_of_their_own(project: Project) -> None:
    test = TEST.format(loss="right").replace('"ties"]', '"ties"], dtype=("float32", "float64")')
    text = project.run(test, "-k", "17")
    assert "PASSED test_losses.py::test_it[tail/gap 17 float32]" in text
    assert "PASSED test_losses.py::test_it[tail/gap 17 float64]" in text


def test_fixtures_and_methods(project: Project) -> None:
    text = project.run("""
import pytest

@pytest.fixture
def loss():
    return losses.right

class TestIt:
    @conformance_cases(families=["ties"])
    def test_it(self, case, loss):
        case.check(loss)
""")
    assert project.code == 0, text
    assert project.counts(text)["passed"] > 5


def test_a_library_that_is_not_here_skips_with_the_line_that_installs_it(project: Project) -> None:
    text = project.run("""
import sys
sys.modules["torch"] = None

@conformance_cases(convention="torch")
def test_it(case):
    case.check(losses.right)
""")
    assert project.code == 0, text
    assert project.counts(text) == {"skipped": 1}
    assert 'pip install "xloss[torch]"' in text


def test_importing_the_suite_imports_no_pytest() -> None:
    script = (
        "import sys\n"
        "from xloss_conformance import check, compare, conformance_cases\n"
        "assert 'pytest' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", script], check=True)
