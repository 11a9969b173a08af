""".ci/gpu: what it runs, in which order, and that one step's failure does not end the others."""

import json
import os
import subprocess
import sys

import pytest

from benchmarks.__main__ import _parser
from places import ROOT

SCRIPT = ROOT / ".ci" / "gpu"
# Stands for python3: `-m xloss.cli ...` and `-m benchmarks ...` are written down, and conform fails
# as it does where a case fails; everything else goes to the interpreter.
STANDIN = """\
#!{python}
import json, os, sys
given = sys.argv[1:]
if "-m" not in given:
    os.execv("{python}", ["{python}", *given])
command = given[given.index("-m") + 1:]
with open("{log}", "a") as log:
    log.write(json.dumps([command, os.environ["PYTHONPATH"]]) + "\\n")
if command[1] == "conform":
    cell = {{"status": "fail", "subject": "xloss cupy", "case": "tail/one", "findings": []}}
    counts = {{"summary": {{"fail": 1}}, "ok": False, "seconds": 2.0, "missing": []}}
    print(json.dumps({{"cells": [cell], **counts}}))
    sys.exit(1)
"""


def ci(tmp_path, *mode):
    log, standin = tmp_path / "log", tmp_path / "python"
    standin.write_text(STANDIN.format(python=sys.executable, log=log))
    standin.chmod(0o755)
    ran = subprocess.run(
        [SCRIPT, tmp_path / "out", *mode],
        env={**os.environ, "PYTHON": str(standin), "PYTHONPATH": "/elsewhere"},
        capture_output=True,
        text=True,
        check=False,
    )
    return ran, [json.loads(line) for line in log.read_text().splitlines()]


GPU = ["--backend", "cuda", "--backend", "cupy"]


@pytest.mark.parametrize(
    ("mode", "conform", "bench"),
    [
        ((), GPU, []),
        (("quick",), [*GPU, "--quick"], ["--quick"]),
        (("tiny",), ["--backend", "torch", "--quick", "--case", "tail/*"], ["--tiny"]),
    ],
)
def test_everything_is_run_whatever_fails(tmp_path, mode, conform, bench):
    ran, commands = ci(tmp_path, *mode)
    assert [command for command, _ in commands] == [
        ["xloss.cli", "engines"],
        ["xloss.cli", "conform", *conform, "--json"],
        ["benchmarks", "gpu", *bench, "--publish", "docs"],
    ]
    assert _parser().parse_args(commands[-1][0][1:]).command == "gpu"  # it takes these options
    assert ran.returncode == 1
    assert "fails: xloss cupy tail/one []" in ran.stdout
    # From the source tree, and with whatever else was on the path.
    assert {path for _, path in commands} == {f"{ROOT}:{ROOT}/src:{ROOT}/conformance:/elsewhere"}
    assert json.loads((tmp_path / "out" / "conform.json").read_text())["ok"] is False


def test_a_folder_is_needed():
    ran = subprocess.run([SCRIPT], capture_output=True, text=True, check=False)
    assert (ran.returncode, ran.stdout) == (2, "")
    assert ran.stderr == "usage: .ci/gpu FOLDER [quick | tiny]\n"
