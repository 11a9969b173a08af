"""Losses that `xloss conform` is given, as the text of a module."""

EXACT = """
import contextlib
import os
import pathlib
import signal
import subprocess
import sys
import time

import numpy as np


def exact(logits, targets):
    m = logits.max(-1, keepdims=True)
    e = np.where(logits == m, 0.0, np.exp(np.float64(logits - m)))
    rest = e.sum(-1) + ((logits == m).sum(-1) - 1)
    rows = np.arange(len(targets))
    return np.float32((np.log1p(rest) + (m[:, 0] - logits[rows, targets])).mean())
"""
CANDIDATES = (
    EXACT
    + """

def textbook(logits, targets):
    p = np.exp(logits) / np.exp(logits).sum(-1, keepdims=True)
    return -np.log(p[np.arange(len(targets)), targets]).mean()


def nan(logits, targets):
    return np.float32("nan")


def sleeps(logits, targets):
    pathlib.Path("began").write_text(str(os.getpid()))
    time.sleep(60)
"""
)
HOSTILE_LOSSES = (
    EXACT
    + """

def began():
    with open(HERE / "pids", "a") as f:
        f.write(f"{os.getpid()}\\n")


HERE = pathlib.Path(__file__).resolve().parent


def deaf(logits, targets):
    for number in range(1, signal.NSIG):
        with contextlib.suppress(OSError, ValueError):
            signal.signal(number, signal.SIG_IGN)
    began()
    time.sleep(600)


def stops(logits, targets):
    began()
    os.kill(os.getpid(), signal.SIGSTOP)


def child_hangs(logits, targets):
    if os.fork() == 0:
        began()
        time.sleep(600)
    return exact(logits, targets)


def child_stays_and_it_dies(logits, targets):
    if os.fork() == 0:
        began()
        time.sleep(600)
    os._exit(3)


def child_leaves_the_group(logits, targets):
    if os.fork() == 0:
        os.setsid()
        os.closerange(0, 3)  # what the command prints to ends with the command
        with open(HERE / "left", "a") as f:
            f.write(f"{os.getpid()}\\n")
        time.sleep(600)
    return exact(logits, targets)


def comes_back_twice(logits, targets):
    os.fork()
    return exact(logits, targets)


def goes_elsewhere(logits, targets):
    os.chdir("/")
    return exact(logits, targets)


def closes_all(logits, targets):
    os.closerange(0, 1000)
    return exact(logits, targets)


def closes_all_and_opens(logits, targets):
    os.closerange(3, 1000)
    files = [open(HERE / f"file-{i}", "wb") for i in range(60)]
    exact.files = files
    return exact(logits, targets)


def raises(logits, targets):
    raise ValueError("\\x1b]0;owned\\x07\\nxloss: all is well\\udcff")
"""
)
