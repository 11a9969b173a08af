"""Shows that every rule has a test that holds it: break the rule, and the test must go red.

    python tests/breakages.py [-j WORKERS] [--only SUBSTRING]

Each entry of `breakages_list.BREAKAGES` is a small patch that breaks one rule, and the test that
must notice. The patches are applied one by one to a copy of the tree; each test runs in a process
of its own, which imports the copy: a child of `breakages_server.py`, which has other people's
libraries imported already, or a new interpreter where the test is about what a process has (FRESH).
Before that all the named tests must pass on the copy unpatched, run in the same way.
A patch that no longer fits, a test that is not found and a test that could not even start are
failures too: only a test that ran and failed has caught anything.
"""

from __future__ import annotations

import argparse
import compileall
import os
import py_compile
import queue
import shutil
import subprocess
import sys
import tempfile
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple, TypeVar

from breakages_server import FORKS, FRESH, Server

COPIED = (
    "src", "tests", "conformance", "examples", "docs", ".ci",
    "pyproject.toml", "README.md", "CHANGELOG.md", "LICENSE",
)  # fmt: skip
PYTEST = ("-q", "-p", "no:cacheprovider")
PYTEST_FAILED = 1  # of pytest's exit codes the only one that says: a test ran and failed
TIMEOUT = 300  # seconds for one test; a breakage may send it round in circles


Task = TypeVar("Task")


@dataclass(frozen=True)
class Breakage:
    """A way of breaking a rule, and the test that must notice."""

    rule: str  # the rule that is broken, as the documentation has it
    file: str  # the patched file, relative to the root
    old: str  # occurs exactly once in it
    new: str
    test: str  # one pytest node id
    fresh: bool = False  # the test needs an interpreter of its own, as those in FRESH do


class Way(NamedTuple):
    """How a test is run."""

    generic: bool  # Numba is hidden
    forked: bool  # by a server's child, and not an interpreter of its own


class Copy:
    """A copy of the tree in which one breakage at a time is applied and tried."""

    def __init__(self, root: Path, folder: Path) -> None:
        self.folder = folder
        folder.mkdir()
        for name in COPIED:
            source = root / name
            if source.is_dir():
                shutil.copytree(source, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
            elif source.exists():
                shutil.copy2(source, folder / name)
        for name in ("src", "conformance", "tests"):
            # Found stale by what stands in the source, not by its time and size: see below.
            checked = py_compile.PycInvalidationMode.CHECKED_HASH
            compileall.compile_dir(folder / name, quiet=2, invalidation_mode=checked)
        paths = (str(folder / "src"), str(folder / "conformance"))
        self.environment = {
            **{k: v for k, v in os.environ.items() if k != "PYTEST_ADDOPTS"},
            "PYTHONPATH": os.pathsep.join(paths),
            # Python takes a cached module for fresh if the file's size and its time in whole
            # seconds are the same, and two patches within a second are: so nothing is cached.
            "PYTHONDONTWRITEBYTECODE": "1",
            "XLOSS_TEST_PATIENCE": "0.25",  # of what a test gives a child that may hang
            # Half of a process's start would go into plugins that a single test has no use for.
            "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1",
        }
        hidden = folder / "without" / "numba"
        hidden.mkdir(parents=True)
        (hidden / "__init__.py").write_text('raise ImportError("hidden")\n')
        self.generic = {
            **self.environment,
            "PYTHONPATH": os.pathsep.join((str(hidden.parent), *paths)),
        }
        self.servers: dict[bool, Server] = {}
        where = self.python("-c", "import xloss; print(xloss.__file__)")
        if where.returncode or folder.resolve() not in Path(where.stdout.strip()).resolve().parents:
            raise SystemExit(f"the copy of xloss is not what gets imported:\n{where.stdout}")

    def close(self) -> None:
        for server in self.servers.values():
            server.close()

    def python(
        self, *arguments: str, timeout: float = TIMEOUT, generic: bool = False
    ) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, *arguments],
            cwd=self.folder,
            env=self.generic if generic else self.environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=timeout,
        )

    def pytest(self, way: Way, *arguments: str, timeout: float) -> subprocess.CompletedProcess[str]:
        if not way.forked:
            generic = way.generic
            return self.python(
                "-m", "pytest", *PYTEST, *arguments, timeout=timeout, generic=generic
            )
        if way.generic not in self.servers:
            environment = self.generic if way.generic else self.environment
            self.servers[way.generic] = Server(self.folder, environment)
        return self.servers[way.generic].run((*PYTEST, *arguments), timeout)

    def unpatched(self, way: Way, tests: Sequence[str]) -> str | None:
        """None if the tests pass as things stand, else what pytest says."""
        result = self.pytest(way, *tests, timeout=4 * TIMEOUT)
        return tail(result) if result.returncode else None

    def patched(self, way: Way, breakage: Breakage) -> subprocess.CompletedProcess[str]:
        path = self.folder / breakage.file
        before = path.read_bytes()
        try:
            path.write_bytes(before.replace(breakage.old.encode(), breakage.new.encode()))
            return self.pytest(way, "-x", breakage.test, timeout=TIMEOUT)
        finally:
            path.write_bytes(before)

    def attempt(self, breakage: Breakage) -> str | None:
        """None if the breakage was caught, else what went wrong."""
        if problem := stale(self.folder, breakage):
            return problem
        for way in ways(breakage):
            try:
                result = self.patched(way, breakage)
            except subprocess.TimeoutExpired:
                return f"{breakage.test} did not end within {TIMEOUT} s"
            if result.returncode:
                break
        if result.returncode == 0:
            return f"survived: {breakage.test} still passes"
        if result.returncode != PYTEST_FAILED:
            return f"{breakage.test} did not run (pytest exit {result.returncode})\n{tail(result)}"
        if way != ways(breakage)[0] and (text := self.unpatched(way, [breakage.test])):
            return f"survived: {breakage.test} fails unpatched where it seemed to notice\n{text}"
        return None


def ways(breakage: Breakage) -> tuple[Way, ...]:
    """How a breakage is tried until its test notices: with Numba, or where it is hidden."""
    # What the compiled engine takes does not run core: it may be seen with Numba hidden only.
    orders = {
        "src/xloss/core/": (True, False),
        "src/xloss/engines/generic.py": (True, False),
        "src/xloss/engines/": (False,),
    }
    folder = next((f for f in orders if breakage.file.startswith(f)), "")
    forked = FORKS and not breakage.fresh and breakage.test.partition("::")[0] not in FRESH
    return tuple(Way(generic, forked) for generic in orders.get(folder, (False, True)))


def named(breakages: Sequence[Breakage]) -> list[tuple[Way, list[str]]]:
    """The tests by file, and by how they are tried first; new interpreters first."""
    tests: dict[tuple[Way, str], set[str]] = {}
    for breakage in breakages:
        way = ways(breakage)[0]
        tests.setdefault((way, breakage.test.partition("::")[0]), set()).add(breakage.test)
    order = sorted(tests.items(), key=lambda item: (item[0][0].forked, item[0]))
    return [(way, sorted(these)) for (way, _), these in order]


def stale(root: Path, breakage: Breakage) -> str | None:
    """None if the patch fits the tree under `root`, else why not."""
    path = root / breakage.file
    if not path.is_file():
        return f"stale: there is no {breakage.file}"
    count = path.read_bytes().count(breakage.old.encode())
    if count != 1:
        return f"stale: {breakage.old!r} occurs {count} times in {breakage.file}"
    return None


def tail(result: subprocess.CompletedProcess[str]) -> str:
    return "\n".join(f"    {line}" for line in result.stdout.splitlines()[-15:])


def each(
    copies: Sequence[Copy], tasks: Sequence[Task], work: Callable[[Copy, Task], str | None]
) -> Iterator[tuple[Task, str | None, float]]:
    """Yield every task with what came of it and its seconds, as they end.

    Half of the copies begin at the front, half at the end: where tests that wait stand at one end
    and tests that compute at the other, somebody computes.
    """
    waiting = deque(tasks)
    done: queue.SimpleQueue[tuple[Task, str | None, float] | BaseException] = queue.SimpleQueue()

    def run(copy: Copy, take: Callable[[], Task]) -> None:
        with suppress(IndexError):
            while True:
                task, begun = take(), time.monotonic()
                try:
                    done.put((task, work(copy, task), time.monotonic() - begun))
                except BaseException as problem:
                    done.put(problem)

    with ThreadPoolExecutor(len(copies)) as pool:
        for i, copy in enumerate(copies):
            pool.submit(run, copy, waiting.pop if i % 2 else waiting.popleft)
        try:
            for _ in tasks:
                ended = done.get()
                if isinstance(ended, BaseException):
                    raise ended
                yield ended
        finally:
            waiting.clear()


def run(root: Path, breakages: Sequence[Breakage], workers: int) -> int:
    """Try every breakage on `workers` copies of the tree under `root`; the exit code."""
    started = time.monotonic()
    with ExitStack() as leaves:
        folder = leaves.enter_context(tempfile.TemporaryDirectory(prefix="breakages-"))
        copies = [Copy(root, Path(folder) / f"copy{i}") for i in range(workers)]
        for copy in copies:
            leaves.callback(copy.close)
        groups = named(breakages)
        red = [text for _, text, _ in each(copies, groups, lambda c, g: c.unpatched(*g)) if text]
        if red:
            print("the named tests must pass before anything is broken:", *red, sep="\n")
            return 1
        unpatched = time.monotonic() - started

        failed = 0
        breakages = sorted(breakages, key=lambda breakage: ways(breakage)[0].forked)
        for breakage, problem, seconds in each(copies, breakages, Copy.attempt):
            failed += problem is not None
            word = "FAILED" if problem else "caught"
            print(f"{word}  {breakage.rule} ({seconds:.0f} s)", flush=True)
            if problem:
                print(f"        {problem}", flush=True)
    took = time.monotonic() - started
    print(f"breakages took {took:.0f} s, the tests unpatched {unpatched:.0f} s of them")
    print(f"{len(breakages) - failed} passed, {failed} failed")
    return 1 if failed else 0


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the list that stands beside this file."""
    from breakages_list import BREAKAGES

    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("-j", type=int, default=2, metavar="WORKERS", help="copies tried at a time")
    parser.add_argument("--only", default="", metavar="SUBSTRING", help="of rule, file or test")
    options = parser.parse_args(arguments)
    chosen = [
        b for b in BREAKAGES if any(options.only in text for text in (b.rule, b.file, b.test))
    ]
    if BREAKAGES and not chosen:
        parser.error(f"no breakage has {options.only!r} in its rule, file or test")
    return run(Path(__file__).resolve().parents[1], chosen, max(options.j, 1))


if __name__ == "__main__":
    sys.exit(main())
