"""A process that has every library imported, and forks a child for each test that is asked for.

Two thirds of a short test's time would go into importing pytest, NumPy, PyTorch and JAX. Here that
is done once for many tests, and nothing of this project is imported before the fork: a child
imports all of it from the tree it runs in, patched as it is then, and takes it along when it ends.
What the libraries start on their first use (threads, XLA's client) is not there before the fork
either: a library is imported, and no function of it called.
"""

from __future__ import annotations

import gc
import importlib
import json
import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
import traceback
import warnings
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

FORKS = sys.platform == "linux"  # elsewhere a forked child may not use the system's libraries
# What the tests and xloss import of other people's; what is not installed is left out. Numba comes
# last: where it is hidden, nothing else may have brought it.
LIBRARIES = (
    "hypothesis.extra.numpy", "array_api_compat.numpy", "array_api_compat.torch",
    "array_api_compat.dask.array", "array_api_strict", "jax.numpy", "ml_dtypes", "mpmath",
    "safetensors.numpy", "typer.testing", "rich.progress", "numba",
)  # fmt: skip
# The tests that need an interpreter of their own, and why a child of the server will not do.
FRESH = {
    "conformance/test_clock.py": "reads the peak memory of its process",
    "conformance/test_scale.py": "spawns processes, which run the main module anew",
    "tests/test_cli_bench.py": "counts and ends the processes of a group",
    "tests/test_cli_cluster.py": "starts clusters, and ends them in the middle",
    "tests/test_cpu_cache.py": "asks when and under which lock the compiler is imported",
    "tests/test_cpu_forks.py": "forks, and asks what its hooks did",
    "tests/test_cpu_pool.py": "counts threads, and asks what they keep alive",
    "tests/test_cpu_threads.py": "forks, and counts threads",
    "tests/test_dask_cluster.py": "starts clusters",
    "tests/test_import_rule.py": "asks what an import brings along",
    "tests/test_package.py": "asks what an import brings along",
}
CRASHED = 70  # the exit code of a child in which not pytest failed, but what called it
NAP = 0.003  # seconds between two looks at a child

Answer = dict[str, Any]


class Server:
    """Runs pytest as ``python -m pytest`` would, in children forked from a process of its own."""

    def __init__(self, folder: Path, environment: dict[str, str]) -> None:
        self.process = subprocess.Popen(
            [sys.executable, str(Path(__file__).resolve()), *LIBRARIES],
            cwd=folder, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        )  # fmt: skip

    def run(
        self, arguments: Sequence[str], timeout: float | None = None
    ) -> subprocess.CompletedProcess[str]:
        """As subprocess.run, of ``pytest *arguments``."""
        with tempfile.NamedTemporaryFile(prefix="breakage-") as said:
            question = {"arguments": list(arguments), "timeout": timeout, "output": said.name}
            try:
                self.process.stdin.write(json.dumps(question) + "\n")
                self.process.stdin.flush()
                answer = json.loads(self.process.stdout.readline())
            except (OSError, ValueError):
                raise RuntimeError(f"the server ended with {self.process.wait()}") from None
            output = said.read().decode(errors="replace")
        if answer["late"]:
            raise subprocess.TimeoutExpired(["pytest", *arguments], timeout, output)
        return subprocess.CompletedProcess(["pytest", *arguments], answer["code"], output)

    def close(self) -> None:
        with suppress(BrokenPipeError):
            self.process.stdin.close()
        self.process.stdout.close()
        self.process.wait()


def serve() -> None:
    """Answer questions on stdin, one a line, until there are no more."""
    asked = os.fdopen(os.dup(0), encoding="utf-8")
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    nothing = os.open(os.devnull, os.O_RDWR)
    os.dup2(nothing, 0)
    os.dup2(2, 1)  # what a library prints while it is imported is no answer
    folder = os.getcwd()
    if not sys.flags.safe_path:  # as `python -m pytest` has it, not what stands beside this file
        sys.path[0] = folder
    get_ready(Path(folder))
    parent = os.getppid()
    for line in asked:
        question = json.loads(line)
        pid = fork(question, asked.fileno(), answers.fileno())
        answer = wait(pid, question["timeout"], parent)
        answers.write(json.dumps(answer) + "\n")
        answers.flush()


def get_ready(folder: Path) -> None:
    """Import the libraries, and see that neither the project nor a thread came with them."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from _pytest.config import default_plugins

        for name in (*(f"_pytest.{plugin}" for plugin in default_plugins), *sys.argv[1:]):
            with suppress(ImportError):
                importlib.import_module(name)
    # A list, as to ask a lazy module is to import it.
    files = {name: getattr(module, "__file__", None) for name, module in [*sys.modules.items()]}
    ours = [name for name, file in files.items() if file and folder in Path(file).parents]
    if ours:
        sys.exit(f"imported before the fork: {', '.join(ours)}")
    if threading.active_count() > 1:
        sys.exit(f"started before the fork: {threading.enumerate()}")
    gc.collect()
    gc.freeze()  # or the first collection in every child would copy what is shared


def fork(question: Answer, *channel: int) -> int:
    """Start pytest in a child, whose group's number is returned."""
    sys.stdout.flush()
    sys.stderr.flush()
    with warnings.catch_warnings():
        # JAX warns of every fork, Python 3.12 of one beside NumPy's threads, which endure it.
        warnings.simplefilter("ignore")
        pid = os.fork()
    if pid:
        return pid
    code = CRASHED
    try:
        os.setpgid(0, 0)
        for number in channel:
            os.close(number)
        output = os.open(question["output"], os.O_WRONLY | os.O_APPEND)
        os.dup2(output, 1)
        os.dup2(output, 2)
        os.close(output)
        importlib.invalidate_caches()
        import pytest

        sys.argv = ["pytest", *question["arguments"]]
        code = int(pytest.main(question["arguments"]))
        sys.stdout.flush()
        sys.stderr.flush()
    except BaseException:
        code = CRASHED
        os.write(2, traceback.format_exc().encode())
    finally:
        os._exit(code)


def wait(pid: int, timeout: float | None, parent: int) -> Answer:
    """Wait for the child, or end it; then end what it started and left."""
    late = False
    deadline = None if timeout is None else time.monotonic() + timeout
    try:
        # Not reaped yet, so that nothing else can be given its number.
        while not os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT | os.WNOHANG):
            late = deadline is not None and time.monotonic() > deadline
            if late or os.getppid() != parent:
                break
            time.sleep(NAP)
    finally:
        os.kill(pid, signal.SIGKILL)
        with suppress(ProcessLookupError):  # it had not come to having a group
            os.killpg(pid, signal.SIGKILL)
        status = os.waitpid(pid, 0)[1]
    return {"code": os.waitstatus_to_exitcode(status), "late": late}


if __name__ == "__main__":
    serve()
