"""Scripts run by an interpreter of their own: what a test must not do to the one it runs in."""

import json
import os
import subprocess
import sys
import textwrap
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from subprocess import PIPE
from tempfile import TemporaryDirectory
from typing import Any

# A machine that is slow, or busy, may be given more time: a factor of every limit.
PATIENCE = float(os.environ.get("XLOSS_TEST_PATIENCE", "1"))

# A child that cannot hang, and its exit code.
CHILD = """
import os, signal, sys, threading, time

def in_a_child(work, seconds=60):
    pid = os.fork()
    if pid == 0:
        try:
            signal.alarm(max(1, int(seconds * float(os.environ.get("XLOSS_TEST_PATIENCE", 1)))))
            work()
            os._exit(0)
        except BaseException:
            import traceback
            traceback.print_exc()
            os._exit(1)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
"""

# A kernel, a helper that it calls, a constant that it takes.
KERNEL = (
    CHILD
    + """
import numpy as np
from xloss.engines.cpu import fork_safety
from xloss.engines.cpu import thread_pool
with fork_safety.importing:
    from xloss.engines.cpu.kernel_cache import cache_folder, inline, kernel, kept_in

SHIFT = 1.0

@inline()
def step(x):
    return x * 3.0 + SHIFT

@kernel
def steps(x, out):
    for i in range(len(x)):
        out[i] = step(x[i])

def computed(f=steps, dtype=np.float64):
    out = np.empty(4, dtype=dtype)
    f(np.arange(4, dtype=dtype), out)
    return out.tolist()

def came_from_disk(f=steps):
    return sum(f.stats.cache_hits.values()), sum(f.stats.cache_misses.values())
"""
)


def python(
    script: str, *args: str, env: dict[str, str] | None = None, timeout: float = 240
) -> subprocess.CompletedProcess[str]:
    """Run a script to its end."""
    command, how = _command(script, args, env)
    return subprocess.run(command, capture_output=True, timeout=timeout * PATIENCE, **how)


def start(
    script: str, *args: str, env: dict[str, str] | None = None, stdin: int | None = None
) -> subprocess.Popen[str]:
    command, how = _command(script, args, env)
    return subprocess.Popen(command, stdin=stdin, stdout=PIPE, stderr=PIPE, **how)


def _command(
    script: str, args: Any, env: dict[str, str] | None
) -> tuple[list[str], dict[str, Any]]:
    how = {"text": True, "env": {**os.environ, **(env or {})}, "cwd": Path(__file__).parent}
    return [sys.executable, "-c", textwrap.dedent(script), *args], how


def said(script: str, *args: str, env: dict[str, str] | None = None) -> str:
    """Return what a script prints that ends well."""
    ran = python(script, *args, env=env)
    assert ran.returncode == 0, ran.stderr
    return ran.stdout.strip()


def ran(*arguments: str, **how: Any) -> str:
    """Return what Python prints on these arguments; it must end well."""
    command = [sys.executable, *arguments]
    done = subprocess.run(command, capture_output=True, text=True, timeout=500 * PATIENCE, **how)
    assert done.returncode == 0, done.stderr
    return done.stdout


# Starting Numba takes longer than most scripts that use it. This process has started it, and has
# called no kernel: what it forks is as good as new. A script that hangs is ended by its alarm.
PARENT = """
import json, os, signal, sys, traceback
import numba, numpy, xloss

@numba.njit
def copied(x, y):
    for i in range(len(x)):
        y[i] = x[i]

copied(numpy.ones(2), numpy.ones(2))

for line in sys.stdin:
    script, arguments, variables, seconds, *files = json.loads(line)
    child = os.fork()
    if child == 0:
        code = 1
        try:
            signal.alarm(seconds)
            for number, file in enumerate([os.devnull, *files]):
                os.dup2(os.open(file, os.O_RDWR | os.O_CREAT), number)
            os.environ.update(variables)
            sys.argv[1:] = arguments
            exec(script)
            code = 0
        except BaseException:
            traceback.print_exc()
        finally:
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(code)
    print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)
"""


@contextmanager
def forking(first: str = "") -> Iterator[Callable[..., str]]:
    """Yield `said` for scripts that need no new interpreter, only one that has no kernel yet.

    The process that they are forked from runs `first`, as the import of another large library.
    """
    if not hasattr(os, "fork"):
        yield said
        return
    parent = start(first + PARENT, stdin=PIPE)
    assert parent.stdin is not None
    assert parent.stdout is not None

    def forked(script: str, *args: str, env: dict[str, str] | None = None) -> str:
        with TemporaryDirectory() as folder:
            out, err = Path(folder) / "out", Path(folder) / "err"
            seconds = int(240 * PATIENCE)
            job = [textwrap.dedent(script), args, env or {}, seconds, str(out), str(err)]
            print(json.dumps(job), file=parent.stdin, flush=True)
            code = parent.stdout.readline().strip()
            assert code == "0", f"{code}: {err.read_text()}"
            return out.read_text().strip()

    try:
        yield forked
    finally:
        parent.communicate()
