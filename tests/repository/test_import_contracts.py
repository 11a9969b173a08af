"""Imports point down: pyproject.toml's contracts, read by import-linter."""

import os
import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from places import ROOT

CONFIG = ROOT / "pyproject.toml"
# Of each contract a line that it forbids, and what the report says of it.
PLANTED = [
    ("src/xloss/core/reduce.py", "from ..engines import generic", "core.reduce -> xloss.engines"),
    ("src/xloss/_arrays/ops.py", "from ..core import reduce", "._arrays -> .core"),
    ("src/xloss/core/reduce.py", "import array_api_compat", "core.reduce -> array_api_compat"),
    ("src/xloss/losses/_check.py", "import torch", "losses._check -> torch"),
    ("src/xloss/ops/numbers.py", "import xloss_conformance", "numbers -> xloss_conformance"),
    ("src/xloss/cli/command_engines.py", "import benchmarks", "command_engines -> benchmarks"),
    ("src/xloss/diagnose/rules.py", "import typer", "diagnose.rules -> typer"),
    ("src/xloss/backends/jax/mesh.py", "from ..torch import sizes", "-> xloss.backends.torch"),
    ("src/xloss/adapters/torch.py", "from xloss.core import reduce", "-> xloss.core.reduce"),
    ("src/xloss/engines/cpu/engine.py", "from ..cuda import build", "-> xloss.engines.cuda"),
    ("conformance/xloss_conformance/oracle.py", "import numpy", "oracle -> numpy"),
    ("conformance/xloss_conformance/cases/packed.py", "import xloss.core", "packed -> xloss.core"),
    ("conformance/xloss_conformance/judge.py", "from .run import run", "-> xloss_conformance.run"),
    ("conformance/xloss_conformance/cases/given.py", "from . import focal", ".given -> .focal"),
]


def lint(folder: Path) -> str:
    """Return the report of `lint-imports` on the sources under a folder."""
    pytest.importorskip("importlinter")
    script = "import sys; from importlinter.cli import lint_imports_command as lint; "
    paths = [str(folder / "src"), str(folder / "conformance"), os.environ.get("PYTHONPATH", "")]
    done = subprocess.run(
        [sys.executable, "-c", script + "lint(['--no-cache', '--config', 'pyproject.toml'])"],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, paths))},
        capture_output=True,
        text=True,
    )
    report = done.stdout + done.stderr
    assert done.returncode == (" 0 broken" not in report), report
    return report


def test_every_contract_is_kept():
    assert " 0 broken" in lint(ROOT)


def test_every_contract_sees_what_it_forbids(tmp_path):
    """A lazy import too: inside a function, which never runs."""
    for name in ("src", "conformance"):
        shutil.copytree(ROOT / name, tmp_path / name, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(CONFIG, tmp_path)
    for file, line, _ in PLANTED:
        with (tmp_path / file).open("a") as source:
            source.write(f"\n\ndef _offends():\n    {line}\n")
    report = lint(tmp_path)
    contracts = tomllib.loads(CONFIG.read_text("utf-8"))["tool"]["importlinter"]["contracts"]
    broken = re.findall(r"^(.*) BROKEN$", report, re.M)
    assert broken == [contract["name"] for contract in contracts]
    assert [said for _, _, said in PLANTED if said not in report] == []
