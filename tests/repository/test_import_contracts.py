"""Imports point down: pyproject.toml's contracts, read by import-linter."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from places import ROOT


def lint(folder: Path) -> subprocess.CompletedProcess[str]:
    """Run `lint-imports` on the sources under a folder."""
    script = "import sys; from importlinter.cli import lint_imports_command as lint; "
    paths = [str(folder / "src"), str(folder / "conformance"), os.environ.get("PYTHONPATH", "")]
    return subprocess.run(
        [sys.executable, "-c", script + "lint(['--no-cache', '--config', 'pyproject.toml'])"],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, paths))},
        capture_output=True,
        text=True,
    )


def test_every_contract_is_kept():
    pytest.importorskip("importlinter")
    done = lint(ROOT)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "0 broken" in done.stdout


@pytest.mark.parametrize(
    ("file", "line", "contract"),
    [
        ("src/xloss/core/reduce.py", "from ..engines import generic", "Imports point down"),
        ("src/xloss/_arrays/ops.py", "from ..core import reduce", "Imports point down"),
        ("src/xloss/core/reduce.py", "import array_api_compat", "array-api-compat belongs"),
        ("src/xloss/losses/_check.py", "import torch", "Array libraries other than NumPy"),
        ("src/xloss/ops/numbers.py", "import xloss_conformance", "Only the command line"),
        ("src/xloss/cli/command_engines.py", "import benchmarks", "imports the benchmarks"),
        ("conformance/xloss_conformance/oracle.py", "import numpy", "The oracle shares nothing"),
        ("conformance/xloss_conformance/cases/tail.py", "import xloss.core", "public names"),
        ("conformance/xloss_conformance/judge.py", "from .run import run", "down in the suite"),
        ("conformance/xloss_conformance/cases/given.py", "from . import focal", "circle in the"),
        ("src/xloss/backends/jax/mesh.py", "from ..torch import sizes", "never another library's"),
        ("src/xloss/adapters/torch.py", "from xloss.core import reduce", "An adapter uses"),
        ("src/xloss/engines/cpu/engine.py", "from ..cuda import build", "never each other"),
    ],
)
def test_a_contract_sees_what_it_forbids(tmp_path, file, line, contract):
    """A lazy import too: inside a function, which never runs."""
    pytest.importorskip("importlinter")
    for name in ("src", "conformance"):
        for path in (ROOT / name).rglob("*.py"):
            copy = tmp_path / path.relative_to(ROOT)
            copy.parent.mkdir(parents=True, exist_ok=True)
            copy.write_bytes(path.read_bytes())
    (tmp_path / "pyproject.toml").write_bytes((ROOT / "pyproject.toml").read_bytes())
    with (tmp_path / file).open("a") as source:
        source.write(f"\n\ndef _offends():\n    {line}\n")
    done = lint(tmp_path)
    assert done.returncode == 1, done.stdout + done.stderr
    broken = [row for row in done.stdout.splitlines() if row.endswith("BROKEN")]
    assert any(contract in row for row in broken), broken
