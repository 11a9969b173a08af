"""`.ci/run` on a project with a stand-in for Python: what it runs, where, and when it stops."""

import os
import shutil
import subprocess

import pytest

from places import ROOT

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


@pytest.fixture
def run(tmp_path):
    """Run the script on a project whose README begins with these lines."""
    root, scratch = tmp_path / "project", tmp_path / "scratch"
    scratch.mkdir()
    (root / ".ci").mkdir(parents=True)
    shutil.copy(ROOT / ".ci" / "run", root / ".ci")
    tool = root / "tool"
    tool.write_text("")
    tool.chmod(0o755)
    environment = {k: v for k, v in os.environ.items() if not k.startswith("GIT_")}
    environment |= {"TMPDIR": str(scratch), "PYTHONPATH": "x", "VIRTUAL_ENV": "x"}

    def ran(lines=(FIRST, SECOND), fail="nothing at all"):
        block = ["# A title", "```sh", *lines, "```", "```sh", "exit 9", "```", ""]
        (root / "README.md").write_text("\n".join(block))
        for command in (["git", "init", "-q"], ["git", "add", "."]):
            subprocess.run(command, cwd=root, env=environment, check=True)
        (root / "untracked").touch()
        tool.write_text(TOOL)  # what is tried is the working tree, not what is committed
        result = subprocess.run(
            [str(root / ".ci" / "run")],
            cwd=scratch,
            env={**environment, "FAIL": fail},
            input="nobody reads this\n",
            capture_output=True,
            text=True,
        )
        assert list(scratch.iterdir()) == [], "the temporary copy is left behind"
        return result

    return ran


def test_every_step_runs_in_order_and_the_closing_line_counts_them(run):
    result = run()
    assert result.returncode == 0, result.stderr
    lines = result.stdout.splitlines()
    said = [line for line in lines if line in {"one", "two"} or line.startswith("ran ")]
    assert said == ["one", "two", *(f"ran {step}" for step in STEPS)]
    assert lines[-1] == f"ci: {2 + len(STEPS)} passed, 0 failed"


@pytest.mark.parametrize(
    ("lines", "fail", "passed"),
    [
        ((FIRST, SECOND), STEPS[-1], 1 + len(STEPS)),
        (("false", SECOND), "nothing", 0),
        ((FIRST, "exit 4"), "nothing", 1),
    ],
    ids=["last step", "first line", "second line"],
)
def test_what_fails_ends_the_run(run, lines, fail, passed):
    result = run(lines, fail)
    assert result.returncode != 0
    said = result.stdout.splitlines()
    assert said[-1] == f"ci: {passed} passed, 1 failed"
    assert sum(line.startswith("ran ") for line in said) == max(0, passed - 1)


def test_readme_must_hold_two_lines(run):
    result = run([FIRST])
    assert result.returncode != 0
    assert "exactly two lines" in result.stderr
