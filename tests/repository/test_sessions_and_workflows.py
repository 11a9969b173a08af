"""What stands at the door of the repository: sessions, workflows, hooks, addresses."""

import json
import re
import subprocess
import sys
import tomllib

import pytest

from places import ROOT
from xloss import __version__

ADDRESS = "https://github.com/xloss/xloss"
WORKFLOWS = sorted((ROOT / ".github" / "workflows").glob("*.yml"))
CALLERS = [*WORKFLOWS, ROOT / ".ci" / "run", ROOT / ".github" / "pull_request_template.md"]


LIST = """
import json, nox.registry, noxfile
print(json.dumps({name: found.__doc__ for name, found in nox.registry.get().items()}))
"""


@pytest.fixture(scope="module")
def sessions():
    pytest.importorskip("nox")
    command = [sys.executable, "-c", LIST]
    ran = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    return json.loads(ran.stdout)


def text(name: str) -> str:
    return (ROOT / name).read_text(encoding="utf-8")


def test_a_session_says_what_it_does(sessions):
    assert "lint" in sessions
    assert all(sessions.values()), sessions


@pytest.mark.parametrize("caller", CALLERS, ids=lambda path: path.name)
def test_a_session_that_is_called_is_there(sessions, caller):
    said = caller.read_text(encoding="utf-8")
    called = set(" ".join(re.findall(r"nox -s ([\w ]+)", said)).split())
    called |= set(re.findall(r"^session (\w+)$", said, re.M))
    called |= set(" ".join(re.findall(r"session: \[(.*)\]", said)).replace(",", "").split())
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


def test_the_citation_has_the_version():
    assert f"\nversion: {__version__}\n" in text("CITATION.cff")


def test_the_repository_has_one_address():
    project = tomllib.loads(text("pyproject.toml"))["project"]
    assert project["urls"]["Source"] == ADDRESS
    site = project["urls"]["Documentation"]
    for name in ("mkdocs.yml", "CITATION.cff"):
        assert ADDRESS in text(name)
        assert site in text(name)
    assert f"{site}validate/" in text(".github/ISSUE_TEMPLATE/config.yml")
