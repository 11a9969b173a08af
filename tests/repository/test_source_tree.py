"""From a source tree on PYTHONPATH, where no package is installed and no metadata is found."""

import ast
import json
import os
import subprocess
import sys

import pytest

import xloss
from places import ROOT

HIDDEN = """
import importlib.metadata as metadata

own = metadata.Distribution.from_name.__func__

def from_name(cls, name):
    if name.lower() in {names!r}:
        raise metadata.PackageNotFoundError(name)
    return own(cls, name)

metadata.Distribution.from_name = classmethod(from_name)
"""


def said(folder, *arguments, names=("xloss",)):
    """Run a command of the sources, in which the metadata of some packages is not found."""
    (folder / "sitecustomize.py").write_text(HIDDEN.format(names=tuple(names)))
    paths = [folder, ROOT / "src", ROOT / "conformance"]
    ran = subprocess.run(
        [sys.executable, "-m", "xloss.cli", *arguments],
        capture_output=True,
        text=True,
        check=False,
        cwd=folder,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(map(str, paths))},
    )
    assert ran.returncode in (0, 1), ran.stderr  # a peer may be judged and fail
    return json.loads(ran.stdout)


def test_the_metadata_is_hidden(tmp_path):
    """The test above would see it."""
    (tmp_path / "sitecustomize.py").write_text(HIDDEN.format(names=("xloss",)))
    ran = subprocess.run(
        [sys.executable, "-c", "from importlib.metadata import version; version('xloss')"],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "PYTHONPATH": str(tmp_path)},
    )
    assert "PackageNotFoundError" in ran.stderr


@pytest.mark.parametrize(
    "arguments",
    [
        ["conform", "--backend", "dask", "--peer", "torch", "--case", "tail/gap 12"],
        ["engines"],
    ],
    ids=" ".join,
)
def test_the_record_is_whole(tmp_path, arguments):
    if "dask" in arguments:
        pytest.importorskip("dask")
        pytest.importorskip("torch")
    jobs = ["--jobs", "1"] if arguments[0] == "conform" else []
    got = said(
        tmp_path, *arguments, "--json", *jobs, names=("xloss", "dask", "torch", "scikit-learn")
    )
    assert got["xloss"] == xloss.__version__


def test_the_version_is_that_of_the_package():
    lines = (ROOT / "pyproject.toml").read_text(encoding="utf-8").splitlines()
    assert f'version = "{xloss.__version__}"' in lines


def test_nobody_asks_the_metadata_and_takes_an_answer_for_granted():
    """`version(...)` raises where there is none: only inside a try may it stand."""
    for folder in ("src", "conformance/xloss_conformance"):
        for path in (ROOT / folder).rglob("*.py"):
            tree = ast.parse(path.read_text(encoding="utf-8"))
            asked = [
                node
                for node in ast.walk(tree)
                if isinstance(node, ast.Call) and getattr(node.func, "id", "") == "version"
            ]
            caught = [
                inner
                for node in ast.walk(tree)
                if isinstance(node, ast.Try | ast.With)
                for inner in ast.walk(node)
            ]
            assert all(node in caught for node in asked), path
