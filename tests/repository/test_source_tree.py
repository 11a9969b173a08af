"""From a source tree on PYTHONPATH, where no package is installed and no metadata is found."""

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


@pytest.fixture
def python(tmp_path):
    """Run Python where the sources are on the path, and the metadata of some packages is hidden."""
    names = ("xloss", "dask", "torch", "scikit-learn")
    (tmp_path / "sitecustomize.py").write_text(HIDDEN.format(names=names))
    paths = [tmp_path, ROOT / "src", ROOT / "conformance"]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(map(str, paths))}

    def ran(*arguments):
        command = [sys.executable, *arguments]
        return subprocess.run(
            command, capture_output=True, text=True, cwd=tmp_path, env=environment, check=False
        )

    return ran


def test_the_record_is_whole(python):
    pytest.importorskip("dask")
    pytest.importorskip("torch")
    script = "from importlib.metadata import version; version('xloss')"
    assert "PackageNotFoundError" in python("-c", script).stderr  # it is hidden
    judged = ["conform", "--jobs", "1", "--backend", "dask", "--peer", "torch"]
    ran = python("-m", "xloss.cli", *judged, "--case", "tail/gap 12", "--json")
    assert ran.returncode in (0, 1), ran.stderr  # a peer may be judged and fail
    assert json.loads(ran.stdout)["xloss"] == xloss.__version__


def test_the_version_is_that_of_the_package():
    lines = (ROOT / "pyproject.toml").read_text(encoding="utf-8").splitlines()
    assert f'version = "{xloss.__version__}"' in lines
