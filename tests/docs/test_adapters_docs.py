"""The blocks of docs/adapters.md run, each in a process of its own, as a reader would type it."""

import re
import subprocess
import sys
from importlib.util import find_spec

import pytest

from places import ROOT

TEXT = (ROOT / "docs" / "adapters.md").read_text(encoding="utf-8")
BLOCKS = dict(re.findall(r"```python\n# needs (\w+)\n(.*?)```", TEXT, re.DOTALL))
# Not in the `test` extra, and why.
OPTIONAL = {
    "flax": "its orbax and tensorstore are large",
    "pytorch_lightning": "it brings an HTTP client and more; it is no part of what is tested",
}


def test_every_block_says_what_it_needs():
    assert len(BLOCKS) == TEXT.count("```python") == 7


@pytest.mark.parametrize("library", [name for name in BLOCKS if name != "Keras"])
def test_the_block_runs(library):
    """Keras' runs in test_adapters_keras.py, on each of its backends."""
    if find_spec(library) is None:
        pytest.skip(
            f"{library} is not installed; {OPTIONAL.get(library, 'the `test` extra has it')}"
        )
    done = subprocess.run(
        [sys.executable, "-c", BLOCKS[library]], capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stderr
    if library == "torch":
        assert done.stdout.startswith("tensor(2.0612e-09)")


def test_importing_xloss_imports_no_adapter():
    script = "import sys, xloss; print([m for m in sys.modules if m.startswith('xloss.adapters')])"
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "[]"


@pytest.mark.parametrize("library", ["keras", "torch", "transformers"])
def test_an_adapter_without_its_library_names_it(library):
    script = f"import sys; sys.modules[{library!r}] = None; import xloss.adapters.{library}"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert done.returncode == 1
    last = done.stderr.splitlines()[-1]
    assert last.startswith("ModuleNotFoundError")
    assert library in last
