"""Runs of the command line, in the test's own process or another, and what they answer."""

import contextlib
import json
import re
import signal
import subprocess
import sys

import numpy as np
import pytest

from xloss.cli.app import run


def answer(capsys, *arguments, code=0, hint=None):
    """Return the JSON of an evaluation here, but for its seconds: see `told`."""
    got = run(["eval", *map(str, arguments), "--json"])
    return told(got, *capsys.readouterr(), code=code, hint=hint)


def told(got, out, err, code=0, hint=None):
    """Return the JSON that an evaluation has printed, or the line in which it refuses: code 2.

    Else stderr may only hold the line of a NaN loss (code 1), or `hint`.
    """
    assert got == code, err
    if code == 2:
        assert out == ""
        assert re.fullmatch(r"xloss: [^\n]+\n", err), err
        assert err[:-1].isprintable()
        return err[7:-1]
    said = r"[^\n]+: the loss is NaN: [^\n]+" if code else hint
    assert re.fullmatch(f"xloss: (?:{said})\n" if said else "", err), err
    made = json.loads(out, parse_constant=pytest.fail)
    assert made.pop("seconds") > 0
    return made


def refusal(capsys, *arguments):
    """Return the one line in which a command refuses here."""
    return told(run(list(map(str, arguments))), *capsys.readouterr(), code=2)


def refused(capsys, *arguments):
    """Return the one line in which an evaluation refuses here."""
    return refusal(capsys, "eval", *arguments)


def here(capfd, *arguments):
    """Run the command in the test's own process: what a process would return and print.

    Its workers print too, so that whatever is written to the descriptors is taken: `capfd`.
    """
    with limited():
        code = run(list(map(str, arguments)))
    out, err = capfd.readouterr()
    return subprocess.CompletedProcess(arguments, code, out, err)


@contextlib.contextmanager
def limited(seconds=120):
    """Fail what hangs in this process."""

    def late(*_):
        pytest.fail("did not end")  # no Exception: the command would make a line of it

    if not hasattr(signal, "SIGALRM"):
        yield
        return
    before = signal.signal(signal.SIGALRM, late)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def process(*arguments, before="", **options):
    """Run the command in a process of its own; `before` is Python that runs first."""
    command = [sys.executable, "-W", "error", "-m", "xloss.cli"]
    if before:
        command[3:] = ["-c", f"{before}; from xloss.cli import main; main()"]
    return subprocess.run(
        [*command, *map(str, arguments)], capture_output=True, text=True, check=False, **options
    )


def evaluated(capsys, backend, *calls):
    """Return the JSON of several evaluations on an array library."""
    # For JAX the command allows float64 everywhere: other tests must not find it so.
    needed = "pip install 'xloss[jax]'"
    config = pytest.importorskip("jax", reason=needed).config if backend == "jax" else None
    before = config and config.jax_enable_x64
    try:
        return [answer(capsys, *call, "--backend", backend) for call in calls]
    finally:
        if config:
            config.update("jax_enable_x64", before)


def saved_rows(ignored=True):
    """Save 300 rows of 7 classes in the current folder, every tenth of them ignored if asked."""
    rng = np.random.default_rng(5)
    logits = rng.normal(scale=3, size=(300, 7)).astype(np.float32)
    labels = rng.integers(0, 7, 300)
    if ignored:
        labels[::10] = -100
    np.save("z.npy", logits)
    np.save("y.npy", labels)
    return logits, labels
