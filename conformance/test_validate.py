"""docs/validate.md does what it says: files, Python, commands and what they print."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from contextlib import redirect_stderr, redirect_stdout
from io import StringIO
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from xloss.cli.app import run as command

pytest.importorskip("torch", reason="torch is not installed; the test extra brings it")

DOCUMENT = Path(__file__).parents[1] / "docs" / "validate.md"
BLOCKS = re.findall(r"^```(\w+)\n(.*?)^```", DOCUMENT.read_text("utf-8"), re.M | re.S)
NAMED = re.compile(r"# (\w+\.\w+)\n")


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """The folder of a reader who has done what the page says, with what was printed."""
    folder = tmp_path_factory.mktemp("reader")
    before = os.getcwd()
    os.chdir(folder)
    sys.path.insert(0, str(folder))
    names: dict[str, Any] = {}
    printed: list[str] = []
    names["print"] = lambda *parts: printed.append(" ".join(map(str, parts)))
    commands: list[tuple[str, int, str]] = []
    try:
        for kind, block in BLOCKS:
            if kind in ("python", "toml") and (named := NAMED.match(block)):
                Path(named[1]).write_text(block)
            elif kind == "python":
                exec(compile(block, "validate.md", "exec"), names)
            elif kind == "sh":
                for line in block.splitlines():
                    if line.startswith("xloss "):
                        commands.append((line, *_run(line)))
        yield SimpleNamespace(names=names, printed=printed, commands=commands)
    finally:
        os.chdir(before)
        sys.path.remove(str(folder))


def _run(line: str) -> tuple[int, str]:
    with redirect_stdout(StringIO()) as printed, redirect_stderr(printed):
        code = command(line.split()[1:])
    return code, printed.getvalue()


def test_what_is_shown_is_what_is_printed(page: Any) -> None:
    """Every line of a text block, in its order, of the output that the page shows."""
    shown = [block for kind, block in BLOCKS if kind == "text"]
    outputs = [page.printed[0], page.commands[1][2]]
    assert len(shown) == len(outputs)
    for block, output in zip(shown, outputs, strict=True):
        lines = iter(output.splitlines())
        for wanted in block.splitlines():
            assert wanted in lines, f"{wanted}\n\nis not in\n\n{output}"


def test_the_commands_judge(page: Any) -> None:
    assert [code for _, code, _ in page.commands] == [1, 1]
    assert page.printed[1].startswith("tail/gap ")  # the comparison in Python


def test_the_tests_of_the_page_pass(page: Any) -> None:
    pytest_of_it = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-rxs"]
    # Nothing but pytest takes part: other plugins take longer to import than the tests.
    alone = {**os.environ, "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"}
    done = subprocess.run(
        [*pytest_of_it, "test_my_losses.py"], env=alone, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout
    assert "xfailed" in done.stdout.splitlines()[-1]
    assert "we train no model to a gap of 5" in done.stdout
    assert "has no softcap" in done.stdout


def test_every_argument_is_told() -> None:
    """The table names what `check` takes."""
    import inspect

    from xloss_conformance import check

    text = DOCUMENT.read_text("utf-8")
    for name in list(inspect.signature(check).parameters)[1:]:
        assert f"`{name}`" in text or f"`{name}=" in text, name
