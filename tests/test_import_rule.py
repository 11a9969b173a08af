"""Imports point down; and the reader of imports sees every way of pointing them elsewhere."""

from pathlib import Path

import pytest

from import_rule import violations

ROOT = Path(__file__).parents[1]

# A small house that keeps the rule in every way the rule allows.
CLEAN = {
    "src/xloss/__init__.py": "from .losses.softmax import f\nfrom . import ops\n__all__ = ['f']\n",
    "src/xloss/_inspect.py": "import array_api_compat, numpy\n",
    "src/xloss/_xp.py": "from . import _inspect\ndef f():\n    import ml_dtypes\n",
    "src/xloss/capabilities.py": "from . import _xp\n",
    "src/xloss/core/__init__.py": "",
    "src/xloss/core/rows.py": "from .. import _xp, capabilities\n",
    "src/xloss/core/reduce.py": "import math\nfrom .rows import r\n",
    "src/xloss/engines/__init__.py": "def load():\n    from .cpu import rows\n    import cupy\n",
    "src/xloss/engines/cpu.py": "import numba\nfrom ..core import rows\n",
    "src/xloss/backends/__init__.py": (
        "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    from . import torch\n"
    ),
    "src/xloss/backends/torch.py": "import torch\nfrom ..engines import load\n",
    "src/xloss/losses/__init__.py": "",
    "src/xloss/losses/softmax.py": (
        "from typing import TYPE_CHECKING\nfrom ..backends import get\nfrom .. import ops\n"
        "if TYPE_CHECKING:\n    import torch\n    from .. import gradients\n"
    ),
    "src/xloss/ops.py": "from .core.rows import r\n",
    "src/xloss/gradients.py": "from .losses import softmax\n",
    "src/xloss/adapters/__init__.py": "",
    "src/xloss/adapters/torch.py": "import torch\nfrom xloss import f\n",
    "src/xloss/cli/__init__.py": (
        "from xloss import f\nimport typer\n"
        "def main():\n    import torch\n    from xloss_conformance import check\n"
    ),
    "conformance/xloss_conformance/__init__.py": "import xloss\nfrom xloss import f\nxloss.f\n",
    "conformance/xloss_conformance/oracle.py": "import math\nimport mpmath\n",
    "conformance/test_cases.py": "import torch, xloss\nfrom xloss import *\nxloss.__name__\n",
}

OFFENCES = {
    "core imports a backend": ("core/rows.py", "from ..backends import get"),
    "_inspect imports _xp": ("_inspect.py", "from . import _xp"),
    "_xp imports core": ("_xp.py", "from .core import rows"),
    "capabilities imports core": ("capabilities.py", "import xloss.core.rows"),
    "engines import backends inside a function": (
        "engines/cpu.py",
        "def f():\n    from ..backends import torch",
    ),
    "backends import a loss": ("backends/torch.py", "from xloss.losses import softmax"),
    "a loss imports the command line": ("losses/softmax.py", "from .. import cli"),
    "a loss imports the package itself": ("losses/softmax.py", "from xloss import f"),
    "an upward import for types only": (
        "core/rows.py",
        "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    from .. import ops",
    ),
    "an upward import by name": (
        "core/rows.py",
        "import importlib\nimportlib.import_module('..ops', __package__)",
    ),
    "a cycle between siblings": ("ops.py", "from . import gradients"),
    "a cycle between siblings, lazily": ("ops.py", "def f():\n    from . import gradients"),
    "a cycle within a room": ("core/rows.py", "from . import reduce"),
    "__init__ imports a private module": ("__init__.py", "from . import _xp"),
    "__init__ imports a private name": ("__init__.py", "from .ops import _secret"),
    "__init__ imports the command line": ("__init__.py", "from .cli import main"),
    "__init__ imports an adapter": ("__init__.py", "from .adapters import torch"),
    "a loss imports an adapter, lazily": (
        "losses/softmax.py",
        "def f():\n    from ..adapters import torch",
    ),
    "an adapter imports a room": ("adapters/torch.py", "from ..losses.softmax import f"),
    "an adapter takes a private name": ("adapters/torch.py", "from xloss import _xp"),
    "an adapter imports another's library": ("adapters/torch.py", "def f():\n    import jax"),
    "the adapters' package imports one": ("adapters/__init__.py", "from . import torch"),
    "a file in no room": ("helpers.py", ""),
    "an import of no room": ("core/rows.py", "from .. import helpers\nfrom ..helpers import h"),
    "torch in core, lazily": ("core/rows.py", "def f():\n    import torch"),
    "jax in a loss": ("losses/softmax.py", "import jax.numpy as jnp"),
    "cupy in _xp": ("_xp.py", "import cupy"),
    "mpi4py in ops, by name": ("ops.py", "__import__('mpi4py')"),
    "an unheard-of library in core": ("core/rows.py", "import ndonnx"),
    "dask eagerly in backends": ("backends/__init__.py", "import dask"),
    "numba eagerly in a class body": ("engines/__init__.py", "class A:\n    import numba"),
    "torch eagerly in cli": ("cli/__init__.py", "import torch"),
    "the else of TYPE_CHECKING": (
        "engines/__init__.py",
        "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    pass\nelse:\n    import cupy",
    ),
    "array_api_compat outside _inspect": ("core/rows.py", "from array_api_compat import device"),
    "array_api_compat in a backend, lazily": (
        "backends/torch.py",
        "def f():\n    import array_api_compat.torch",
    ),
    "typer in a loss": ("losses/softmax.py", "import typer"),
    "ml_dtypes eagerly in _xp": ("_xp.py", "import ml_dtypes"),
    "the suite in a loss, lazily": ("ops.py", "def f():\n    import xloss_conformance"),
    "the suite in cli, eagerly": ("cli/__init__.py", "import xloss_conformance"),
}

CONFORMANCE_OFFENCES = {
    "a room of xloss": ("xloss_conformance/__init__.py", "import xloss.core.rows"),
    "a name from a room": ("test_cases.py", "from xloss.ops import logsumexp"),
    "a private name": ("xloss_conformance/__init__.py", "from xloss import _xp"),
    "a name not in __all__": ("test_cases.py", "from xloss import ops"),
    "an attribute not in __all__": ("test_cases.py", "xloss.core"),
    "an attribute by another name": ("test_cases.py", "import xloss as x\nx.core"),
    "the oracle imports xloss": ("xloss_conformance/oracle.py", "import xloss"),
    "the oracle imports a library": ("xloss_conformance/oracle.py", "import torch"),
}


def build(root: Path, files: dict[str, str]) -> Path:
    for name, text in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    return root


def test_the_house_keeps_the_rule():
    assert (ROOT / "src" / "xloss" / "__init__.py").is_file()
    assert violations(ROOT) == []


def test_a_clean_tree_is_not_reported(tmp_path):
    assert violations(build(tmp_path, CLEAN)) == []


@pytest.mark.parametrize("name", OFFENCES)
def test_an_offence_is_reported(tmp_path, name):
    file, line = OFFENCES[name]
    path = f"src/xloss/{file}"
    found = violations(build(tmp_path, {**CLEAN, path: CLEAN.get(path, "") + line + "\n"}))
    assert found
    assert all(entry.startswith("src/xloss/") for entry in found)
    if "cycle" not in name:  # a cycle is reported where it was entered
        assert all(entry.startswith(path + ":") for entry in found), found


@pytest.mark.parametrize("name", CONFORMANCE_OFFENCES)
def test_an_offence_of_the_suite_is_reported(tmp_path, name):
    file, line = CONFORMANCE_OFFENCES[name]
    path = f"conformance/{file}"
    found = violations(build(tmp_path, {**CLEAN, path: CLEAN.get(path, "") + line + "\n"}))
    assert [entry.split(":")[0] for entry in found] == [path]


def test_a_lazy_module_loses_its_privilege_once_it_is_loaded_eagerly(tmp_path):
    line = "from . import torch\n"
    tree = build(tmp_path, {**CLEAN, "src/xloss/backends/__init__.py": line})
    (found,) = violations(tree)
    assert found.startswith("src/xloss/backends/torch.py:1: backends imports torch eagerly")


def test_a_package_is_loaded_with_any_of_its_files(tmp_path):
    files = {
        "src/xloss/engines/__init__.py": "from .cuda.kernels import k\n",
        "src/xloss/engines/cuda/__init__.py": "import cupy\n",
        "src/xloss/engines/cuda/kernels.py": "",
    }
    (found,) = violations(build(tmp_path, {**CLEAN, **files}))
    assert found.startswith("src/xloss/engines/cuda/__init__.py:1: engines imports cupy eagerly")


@pytest.mark.parametrize(
    "line",
    [
        "import xloss.ops",
        "from xloss import ops",
        "from .. import ops",
        "from ..ops import softmax",
        "import_module('..ops', __package__)",
        "importlib.import_module('xloss.ops')",
    ],
)
def test_a_report_names_the_place_and_both_rooms(tmp_path, line):
    tree = build(tmp_path, {**CLEAN, "src/xloss/core/rows.py": f"\n{line}\n"})
    assert violations(tree) == [
        "src/xloss/core/rows.py:2: core imports xloss.ops: imports point down"
    ]
