"""From a source tree on PYTHONPATH, where no package is installed and no metadata is found."""

import json
import os

import pytest

import xloss
from fresh import python
from places import ROOT

# Read by every process as it starts, those that the command starts too.
HIDDEN = """
import importlib.metadata as metadata

own = metadata.Distribution.from_name.__func__

def from_name(cls, name):
    if name.lower() in ("xloss", "dask", "torch", "scikit-learn"):
        raise metadata.PackageNotFoundError(name)
    return own(cls, name)

metadata.Distribution.from_name = classmethod(from_name)
"""
COMMAND = """
import runpy
from importlib.metadata import PackageNotFoundError, version
try:
    version("xloss")
except PackageNotFoundError:
    runpy.run_module("xloss.cli", run_name="__main__", alter_sys=True)
"""


def test_the_record_is_whole(tmp_path):
    pytest.importorskip("dask")
    pytest.importorskip("torch")
    (tmp_path / "sitecustomize.py").write_text(HIDDEN)
    paths = os.pathsep.join(map(str, (tmp_path, ROOT / "src", ROOT / "conformance")))
    judged = ["conform", "--jobs", "1", "--backend", "dask", "--peer", "torch"]
    asked = [*judged, "--case", "tail/gap 12", "--json"]
    ran = python(COMMAND, *asked, env={"PYTHONPATH": paths})
    assert ran.returncode in (0, 1), ran.stderr  # a peer may be judged and fail
    assert json.loads(ran.stdout)["xloss"] == xloss.__version__
