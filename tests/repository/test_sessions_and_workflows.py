"""What stands at the door of the repository: sessions, workflows, hooks, addresses."""

import re
import tomllib

import pytest

from fresh import said
from places import ROOT

WORKFLOWS = sorted((ROOT / ".github" / "workflows").glob("*.yml"))
CALLERS = [*WORKFLOWS, ROOT / ".ci" / "run", ROOT / ".github" / "pull_request_template.md"]


@pytest.fixture(scope="module")
def sessions():
    pytest.importorskip("nox")
    listing = "import nox.registry, noxfile; print(*nox.registry.get())"
    return said(f"import sys; sys.path.insert(0, {str(ROOT)!r}); {listing}").split()


def text(name: str) -> str:
    return (ROOT / name).read_text(encoding="utf-8")


@pytest.mark.parametrize("caller", CALLERS, ids=lambda path: path.name)
def test_a_session_that_is_called_is_there(sessions, caller):
    page = caller.read_text(encoding="utf-8")
    called = set(" ".join(re.findall(r"nox -s ([\w ]+)", page)).split())
    called |= set(re.findall(r"^session (\w+)$", page, re.M))
    called |= set(" ".join(re.findall(r"session: \[(.*)\]", page)).replace(",", "").split())
    assert called <= set(sessions)
    assert called or caller.name in {"gpu.yml", "release.yml", "ci.yml"}


def test_ci_runs_every_session_but_the_tests_and_what_is_nightly(sessions):
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
