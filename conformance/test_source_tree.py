"""The command line where only the sources are: nothing of xloss has installed metadata."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import Any

import pytest

SCRIPT = """
import importlib.metadata as metadata
import sys

real = metadata.version

def version(name):
    if name.startswith("xloss"):
        raise metadata.PackageNotFoundError(name)
    return real(name)

metadata.version = version
from xloss.cli import main

if __name__ == "__main__":
    main(sys.argv[1:])
"""


def without_metadata(*arguments: str) -> dict[str, Any]:
    ran = subprocess.run(
        [sys.executable, "-c", SCRIPT, *arguments, "--json"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert (ran.returncode, ran.stderr) == (0, "")
    made: dict[str, Any] = json.loads(ran.stdout)
    return made


@pytest.mark.parametrize("jobs", ["1", "2"])
def test_the_suite_tells_its_version(jobs: str) -> None:
    import xloss

    asked = ("conform", "--backend", "numpy", "--dtype", "float32", "--case", "tail/gap 17")
    record = without_metadata(*asked, "--jobs", jobs)
    assert (record["xloss"], record["ok"]) == (xloss.__version__, True)


def test_the_machine_is_told() -> None:
    import xloss

    assert without_metadata("engines")["xloss"] == xloss.__version__
