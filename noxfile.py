"""The checks of this repository, one session each: `nox -l` lists them, `nox -s lint` runs one.

A session makes an environment of its own. With `--no-venv` it installs nothing and runs in the
environment that nox itself is in: `.ci/run` does this, so that the large libraries are installed
once.
"""

import os
import sys
from pathlib import Path

import nox

nox.options.sessions = ["lint", "format", "types", "imports", "doctests", "docs", "tests"]
nox.options.reuse_existing_virtualenvs = True
nox.needs_version = ">=2024.10"


def install(session: nox.Session, extras: str) -> None:
    """Install xloss with these extras, in the versions of tests/constraints.txt."""
    if session.venv_backend == "none":
        # Programs are then found on the path: those of the Python that runs nox come first.
        os.environ["PATH"] = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
        return
    constraints = ("-c", "tests/constraints.txt")
    session.run("python", "-m", "pip", "install", "-q", "-e", f".[{extras}]", *constraints)


def files(folder: str, pattern: str) -> list[str]:
    """Return the files of a folder, by their paths."""
    return sorted(str(path) for path in Path(folder).rglob(pattern))


@nox.session
def lint(session: nox.Session) -> None:
    """Check what can be read without running it: code, words, metadata, workflows."""
    install(session, "lint")
    session.run("python", "-m", "ruff", "check", ".")
    session.run("typos")
    session.run("validate-pyproject", "pyproject.toml")
    workflows = files(".github/workflows", "*.yml")
    schemas = {
        "vendor.github-workflows": workflows,
        "custom.github-workflows-require-timeout": workflows,
        "vendor.github-issue-config": [".github/ISSUE_TEMPLATE/config.yml"],
        "vendor.github-issue-forms": files(".github/ISSUE_TEMPLATE", "[!c]*.yml"),
        "vendor.dependabot": [".github/dependabot.yml"],
        "vendor.citation-file-format": ["CITATION.cff"],
    }
    for schema, checked in schemas.items():
        session.run("check-jsonschema", "--builtin-schema", schema, *checked)


@nox.session(name="format")
def format_(session: nox.Session) -> None:
    """Check the layout of Python and CUDA C++; `nox -s format -- write` writes it."""
    install(session, "lint")
    write = "write" in session.posargs
    session.run("python", "-m", "ruff", "format", *([] if write else ["--check"]), ".")
    how = ["-i"] if write else ["--dry-run", "--Werror"]
    session.run("clang-format", *how, *files("src", "*.cu*"))


@nox.session
def types(session: nox.Session) -> None:
    """Check the types with mypy, strict."""
    install(session, "test")
    session.run("python", "-m", "mypy", *session.posargs)


@nox.session
def imports(session: nox.Session) -> None:
    """Check that imports point down, by the contracts of pyproject.toml."""
    install(session, "test")
    session.run("lint-imports")


@nox.session
def doctests(session: nox.Session) -> None:
    """Run the examples of the docstrings."""
    install(session, "test")
    # Backends have no examples, and each needs its array library to be imported.
    without = ("--ignore", "src/xloss/backends")
    command = ("python", "-m", "pytest", "-q", "--doctest-modules", *without, "src/xloss")
    session.run(*command, env={"KERAS_BACKEND": "torch"})


@nox.session
def docs(session: nox.Session) -> None:
    """Build the documentation site into site/; a warning is an error. `-- serve` shows it."""
    install(session, "docs")
    if "serve" in session.posargs:
        session.run("python", "-m", "mkdocs", "serve")
    else:
        # Material for MkDocs would print at every build that its own end is planned.
        quiet = {"NO_MKDOCS_2_WARNING": "1"}
        session.run("python", "-m", "mkdocs", "build", "--strict", env=quiet)


@nox.session
def tests(session: nox.Session) -> None:
    """Run all tests but the nightly ones; what follows `--` is given to pytest."""
    install(session, "test")
    session.run("python", "-m", "pytest", "-q", "-n", "2", *session.posargs)


@nox.session
def nightly(session: nox.Session) -> None:
    """Run the tests that take too long for every change."""
    install(session, "test")
    session.run("python", "-m", "pytest", "-q", "-n", "2", "-m", "nightly", *session.posargs)


@nox.session
def tensorflow(session: nox.Session) -> None:
    """Run the tests and the cases of TensorFlow, which is as large as most of the rest."""
    install(session, "test,test-tensorflow")
    session.run("python", "-m", "pytest", "-q", "-n", "2", "tests", "-k", "tensorflow")
    session.run("python", "-m", "xloss", "conform", "--quick", "--backend", "tensorflow")


@nox.session
def mutation(session: nox.Session) -> None:
    """Plant small faults in the mathematics, and list those that no test notices; takes hours."""
    install(session, "test,mutation")
    session.run("mutmut", "run", *session.posargs)
    session.run("mutmut", "results")
