"""Runs of the command line, in the test's own process or another, and what they answer."""

import json
import re
import subprocess
import sys

import numpy as np
import pytest

from xloss.cli.app import run


def answer(capsys, *arguments, code=0, hint=None):
    """Return the JSON of a run; stderr may only hold the line of a NaN loss (code 1) or `hint`."""
    assert run(["eval", *map(str, arguments), "--json"]) == code
    out, err = capsys.readouterr()
    if code:
        assert re.fullmatch(r"xloss: [^\n]+: the loss is NaN: [^\n]+\n", err), err
    elif hint is None:
        assert err == ""
    else:
        assert re.fullmatch(f"xloss: (?:{hint})\n", err), err
    got = json.loads(out, parse_constant=pytest.fail)
    assert got.pop("seconds") > 0
    return got


def refused(capsys, *arguments):
    """Return the one line in which a run refuses."""
    assert run(["eval", *map(str, arguments)]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert re.fullmatch(r"xloss: [^\n]+\n", err), err
    return err[7:-1]


def process(*arguments, before="", **options):
    """Run the command in a process of its own; `before` is Python that runs first."""
    command = [sys.executable, "-W", "error", "-m", "xloss.cli"]
    if before:
        command[3:] = ["-c", f"{before}; from xloss.cli import main; main()"]
    return subprocess.run(
        [*command, *map(str, arguments)], capture_output=True, text=True, check=False, **options
    )


def evaluated(backend, *calls):
    """Return the JSON of several evaluations, in one process that a library has to itself."""
    script = """
import json, sys
from xloss.cli.app import run
for call in json.loads(sys.argv[1]):
    assert run(call) == 0
    print("\\f", flush=True)
"""
    asked = [["eval", *map(str, call), "--json", "--backend", backend] for call in calls]
    command = [sys.executable, "-W", "error", "-c", script, json.dumps(asked)]
    ran = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (ran.returncode, ran.stderr) == (0, "")
    return [json.loads(said) for said in ran.stdout.split("\f")[:-1]]


def saved_rows():
    """Save 300 rows of 7 classes in the current folder, every tenth of them ignored."""
    rng = np.random.default_rng(5)
    logits = rng.normal(scale=3, size=(300, 7)).astype(np.float32)
    labels = rng.integers(0, 7, 300)
    labels[::10] = -100
    np.save("z.npy", logits)
    np.save("y.npy", labels)
    return logits, labels
