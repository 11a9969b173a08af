"""Scripts run by an interpreter of their own: what a test must not do to the one it runs in."""

import os
import subprocess
import sys
import textwrap
from pathlib import Path

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

@kernel(fastmath={"contract", "nsz"})
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
    process = start(script, *args, env=env)
    try:
        out, err = process.communicate(timeout=timeout * PATIENCE)
    except BaseException:
        process.kill()
        process.communicate()
        raise
    return subprocess.CompletedProcess(process.args, process.returncode, out, err)


def start(
    script: str, *args: str, env: dict[str, str] | None = None, stdin: int | None = None
) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(script), *args],
        stdin=stdin,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, **(env or {})},
        cwd=Path(__file__).parent,
    )


def said(script: str, *args: str, env: dict[str, str] | None = None) -> str:
    """Return what a script prints that ends well."""
    ran = python(script, *args, env=env)
    assert ran.returncode == 0, ran.stderr
    return ran.stdout.strip()
