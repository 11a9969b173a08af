"""Shows that every rule has a test that holds it: break the rule, and the test must go red.

    python tests/breakages.py [-j WORKERS] [--only SUBSTRING]

Each entry of `breakages_list.BREAKAGES` is a small patch that breaks one rule, and the test that
must notice. The patches are applied one by one to a copy of the tree; each test runs in a process
of its own, which imports the copy. Before that all the named tests must pass on the copy unpatched.
A patch that no longer fits, a test that is not found and a test that could not even start are
failures too: only a test that ran and failed has caught anything.
"""

from __future__ import annotations

import argparse
import os
import queue
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

COPIED = (
    "src", "tests", "conformance", "examples", "docs", ".ci",
    "pyproject.toml", "README.md", "CHANGELOG.md", "LICENSE",
)  # fmt: skip
PYTEST = ("-m", "pytest", "-q", "-p", "no:cacheprovider")
PYTEST_FAILED = 1  # of pytest's exit codes the only one that says: a test ran and failed
TIMEOUT = 300  # seconds for one test; a breakage may send it round in circles


@dataclass(frozen=True)
class Breakage:
    """A way of breaking a rule, and the test that must notice."""

    rule: str  # the rule that is broken, as the documentation has it
    file: str  # the patched file, relative to the root
    old: str  # occurs exactly once in it
    new: str
    test: str  # one pytest node id


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
        where = self.run("-c", "import xloss; print(xloss.__file__)")
        if where.returncode or folder.resolve() not in Path(where.stdout.strip()).resolve().parents:
            raise SystemExit(f"the copy of xloss is not what gets imported:\n{where.stdout}")

        hidden = folder / "without" / "numba"
        hidden.mkdir(parents=True)
        (hidden / "__init__.py").write_text('raise ImportError("hidden")\n')
        self.generic = {
            **self.environment,
            "PYTHONPATH": os.pathsep.join((str(hidden.parent), *paths)),
        }

    def run(
        self, *arguments: str, timeout: float | None = None, generic: bool = False
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

    def unpatched(self, tests: Sequence[str]) -> str | None:
        """None if the tests pass as things stand, else what pytest says."""
        if not tests:
            return None
        result = self.run(*PYTEST, *tests)
        return tail(result) if result.returncode else None

    def attempt(self, breakage: Breakage) -> str | None:
        """None if the breakage was caught, else what went wrong."""
        path = self.folder / breakage.file
        if problem := stale(self.folder, breakage):
            return problem
        before = path.read_bytes()
        old, new = breakage.old.encode(), breakage.new.encode()
        # What the compiled engine takes does not run core: it may be seen with Numba hidden only.
        orders = {
            "src/xloss/core/": (True, False),
            "src/xloss/engines/generic.py": (True, False),
            "src/xloss/engines/": (False,),
        }
        folder = next((f for f in orders if breakage.file.startswith(f)), "")
        try:
            path.write_bytes(before.replace(old, new))
            for hidden in orders.get(folder, (False, True)):
                result = self.run(*PYTEST, "-x", breakage.test, timeout=TIMEOUT, generic=hidden)
                if result.returncode:
                    break
        except subprocess.TimeoutExpired:
            return f"{breakage.test} did not end within {TIMEOUT} s"
        finally:
            path.write_bytes(before)
        if result.returncode == PYTEST_FAILED:
            return None
        if result.returncode == 0:
            return f"survived: {breakage.test} still passes"
        return f"{breakage.test} did not run (pytest exit {result.returncode})\n{tail(result)}"


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


def run(root: Path, breakages: Sequence[Breakage], workers: int) -> int:
    """Try every breakage on `workers` copies of the tree under `root`; the exit code."""
    started = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="breakages-") as folder:
        copies = [Copy(root, Path(folder) / f"copy{i}") for i in range(workers)]
        tests = sorted({breakage.test for breakage in breakages})
        shares = [tests[i::workers] for i in range(workers)]
        with ThreadPoolExecutor(workers) as pool:
            red = [text for text in pool.map(Copy.unpatched, copies, shares) if text]
        if red:
            print("the named tests must pass before anything is broken:", *red, sep="\n")
            return 1
        free: queue.SimpleQueue[Copy] = queue.SimpleQueue()
        for copy in copies:
            free.put(copy)

        def attempt(breakage: Breakage) -> tuple[str | None, float]:
            copy, begun = free.get(), time.monotonic()
            try:
                return copy.attempt(breakage), time.monotonic() - begun
            finally:
                free.put(copy)

        failed = 0
        with ThreadPoolExecutor(workers) as pool:
            for breakage, tried in zip(breakages, pool.map(attempt, breakages), strict=True):
                problem, seconds = tried
                failed += problem is not None
                word = "FAILED" if problem else "caught"
                print(f"{word}  {breakage.rule} ({seconds:.0f} s)", flush=True)
                if problem:
                    print(f"        {problem}", flush=True)
    print(f"breakages took {time.monotonic() - started:.0f} s")
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
