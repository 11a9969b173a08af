"""What stands at the door of the repository: sessions, workflows, hooks, addresses."""

import re
import tomllib

import pytest

from fresh import said
from places import ROOT


def text(name: str) -> str:
    return (ROOT / name).read_text(encoding="utf-8")


def test_ci_runs_every_session_but_the_tests_and_what_is_nightly():
    pytest.importorskip("nox")
    listing = "import nox.registry, noxfile; print(*nox.registry.get())"
    sessions = said(f"import sys; sys.path.insert(0, {str(ROOT)!r}); {listing}").split()
    run = set(re.findall(r"^session (\w+)$", text(".ci/run"), re.M))
    nightly = set(
        re.search(r"session: \[(.*)\]", text(".github/workflows/nightly.yml"))[1].split(", ")
    )
    assert run | nightly | {"tests"} == set(sessions)


def test_a_hook_has_the_version_of_the_constraints():
    pinned = dict(
        line.split("==") for line in text("tests/constraints.txt").splitlines() if "==" in line
    )
    hooks = re.findall(r"\[([\w-]+)==([\d.]+)\]", text(".pre-commit-config.yaml"))
    assert {name for name, _ in hooks} == {"ruff", "typos", "validate-pyproject", "clang-format"}
    for name, version in hooks:
        assert pinned[name] == version, name


def test_the_matrix_has_every_python_that_is_claimed():
    project = tomllib.loads(text("pyproject.toml"))["project"]
    claimed = re.findall(r"Python :: (3\.\d+)", " ".join(project["classifiers"]))
    listed = ", ".join(f'"{version}"' for version in claimed)
    assert f"python: [{listed}]" in text(".github/workflows/ci.yml")
    assert project["requires-python"] == f">={claimed[0]}"
