"""`.ci/run` on a project with a stand-in for Python: what it runs, where, and when it stops."""

import os
import shutil
import subprocess
from pathlib import Path

import pytest

from places import ROOT

SCRIPT = ROOT / ".ci" / "run"

FIRST = "! read -r _ && mkdir -p .venv/bin && cp tool .venv/bin/python && echo one"
SECOND = 'test ! -e untracked && test -z "${PYTHONPATH:-}${VIRTUAL_ENV:-}" && echo two'
# Stands for the environment's python: says what it was asked, and fails where FAIL says so.
TOOL = '#!/bin/sh\necho "ran $*"\ncase "$*" in *"$FAIL"*) exit 3;; esac\n'

PIP = "-m pip install -q -e .[{}] -c tests/constraints.txt"
NOX = "-m nox --no-venv -s {}"
STEPS = [
    PIP.format("lint,docs"),
    *map(NOX.format, ["lint", "format", "types", "imports", "doctests", "docs"]),
    PIP.format("test,test-tensorflow"),
    NOX.format("tensorflow"),
]


class Project:
    def __init__(self, root: Path) -> None:
        self.root = root / "project"
        self.scratch = root / "scratch"
        self.scratch.mkdir()
        (self.root / ".ci").mkdir(parents=True)
        shutil.copy(SCRIPT, self.root / ".ci")
        (self.root / "tool").write_text(TOOL)
        (self.root / "tool").chmod(0o755)
        self.readme([FIRST, SECOND])
        self.git("init", "-q")
        self.git("add", ".")
        (self.root / "untracked").touch()

    def environment(self, **extra: str) -> dict[str, str]:
        kept = {k: v for k, v in os.environ.items() if not k.startswith("GIT_")}
        return {**kept, "TMPDIR": str(self.scratch), "PYTHONPATH": "x", "VIRTUAL_ENV": "x", **extra}

    def git(self, *arguments: str) -> None:
        command = ["git", *arguments]
        subprocess.run(command, cwd=self.root, env=self.environment(), check=True)

    def readme(self, lines: list[str]) -> None:
        block = "\n".join(["# A title", "```sh", *lines, "```", "```sh", "exit 9", "```", ""])
        (self.root / "README.md").write_text(block)

    def run(self, fail: str = "nothing at all") -> subprocess.CompletedProcess[str]:
        result = subprocess.run(
            [str(self.root / ".ci" / "run")],
            cwd=self.scratch,
            env=self.environment(FAIL=fail),
            input="nobody reads this\n",
            capture_output=True,
            text=True,
        )
        assert list(self.scratch.iterdir()) == [], "the temporary copy is left behind"
        return result


@pytest.fixture
def project(tmp_path):
    return Project(tmp_path)


def test_every_step_runs_in_order_and_the_closing_line_counts_them(project):
    result = project.run()
    assert result.returncode == 0, result.stderr
    lines = result.stdout.splitlines()
    said = [line for line in lines if line in {"one", "two"} or line.startswith("ran ")]
    assert said == ["one", "two", *(f"ran {step}" for step in STEPS)]
    count = 2 + len(STEPS)
    assert sum(line.startswith("=== ") for line in lines) == count
    assert sum(line.startswith("--- ") for line in lines) == count
    assert lines[-1] == f"ci: {count} passed, 0 failed"


@pytest.mark.parametrize("step", [STEPS[0], STEPS[2], STEPS[-1]])
def test_a_failing_step_ends_the_run(project, step):
    result = project.run(fail=step)
    assert result.returncode == 3
    lines = result.stdout.splitlines()
    assert [line for line in lines if line.startswith("ran ")][-1] == f"ran {step}"
    assert lines[-1] == f"ci: {STEPS.index(step) + 2} passed, 1 failed"


@pytest.mark.parametrize("lines", [["false", SECOND], [FIRST, "exit 4"]], ids=["first", "second"])
def test_a_failing_line_of_readme_ends_the_run(project, lines):
    project.readme(lines)
    result = project.run()
    assert result.returncode != 0
    assert "ran " not in result.stdout
    assert "passed, 1 failed" in result.stdout.splitlines()[-1]


@pytest.mark.parametrize("lines", [[FIRST], [FIRST, SECOND, "echo"], [FIRST, ""], []])
def test_readme_must_hold_two_lines(project, lines):
    project.readme(lines)
    result = project.run()
    assert result.returncode != 0
    assert "exactly two lines" in result.stderr
    assert "===" not in result.stdout


def test_what_is_tried_is_the_working_tree(project):
    (project.root / "tool").write_text(TOOL.replace("ran $*", "changed $*"))
    result = project.run()
    assert result.returncode == 0
    assert f"changed {STEPS[0]}" in result.stdout
