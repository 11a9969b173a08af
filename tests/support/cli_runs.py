"""Runs of the command line, in the test's own process or another, and what they answer."""

import json
import re
import shlex
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from xloss.cli.app import run


class Command:
    """The command, run in the test's own process: what a process would return and print.

    Its workers print too, so that whatever is written to the descriptors is taken: `capfd`.
    """

    def __init__(self, capfd):
        self._capfd = capfd

    def __call__(self, line):
        code = run(shlex.split(line))
        return subprocess.CompletedProcess(line, code, *self._capfd.readouterr())

    def answer(self, line, code=0, hint=None):
        """Return the JSON of an evaluation, but for its seconds: see `told`."""
        return told(self(f"eval {line} --json"), code, hint)

    def refusal(self, line):
        """Return the one line in which a command refuses."""
        return told(self(line), code=2)


def told(ran, code=0, hint=None):
    """Return the JSON that an evaluation has printed, or the line in which it refuses: code 2.

    Else stderr may only hold the line of a NaN loss (code 1), or `hint`.
    """
    assert ran.returncode == code, ran.stderr
    if code == 2:
        assert ran.stdout == ""
        assert re.fullmatch(r"xloss: [^\n]+\n", ran.stderr), ran.stderr
        assert ran.stderr[:-1].isprintable()
        return ran.stderr[7:-1]
    said = r"[^\n]+: the loss is NaN: [^\n]+" if code else hint
    assert re.fullmatch(f"xloss: (?:{said})\n" if said else "", ran.stderr), ran.stderr
    made = json.loads(ran.stdout, parse_constant=pytest.fail)
    assert made.pop("seconds") > 0
    return made


def save_shards(folder, array):
    """Save an array in a folder of shards; one has no row, and names sort as numbers do."""
    Path(folder).mkdir(exist_ok=True)
    n, names = len(array), ("shard-1", "shard-2", "shard-9", "shard-10")
    for name, part in zip(names, np.split(array, [n // 6, n // 6, n // 2]), strict=True):
        np.save(f"{folder}/{name}.npy", part)


def fits(pattern, said):
    """Whether a line is as expected: "..." stands for anything."""
    return re.fullmatch(re.escape(pattern).replace(r"\.\.\.", ".*"), said) is not None


def started(line, before="", **options):
    """Start the command in a process of its own; `before` is Python that runs first."""
    # Whatever runs the tests in the background has the interrupt ignored, and hands that down.
    heard = "import signal; signal.signal(signal.SIGINT, signal.default_int_handler)"
    code = f"{heard}\n{before}\nfrom xloss.cli import main; main()"
    return subprocess.Popen(
        [sys.executable, "-W", "error", "-c", code, *shlex.split(line)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        **options,
    )


def ended(process, seconds=120):
    """Wait for the end of a command that was started."""
    try:
        out, err = process.communicate(timeout=seconds)
    finally:
        process.kill()
    return subprocess.CompletedProcess(process.args, process.returncode, out, err)


def process(line, before="", **options):
    """Run the command in a process of its own."""
    return ended(started(line, before, **options))
