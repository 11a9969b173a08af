"""An adapter is imported by its name alone, and needs its library."""

import subprocess
import sys

import pytest


@pytest.mark.parametrize("library", ["keras", "torch", "transformers"])
def test_an_adapter_without_its_library_names_it(library):
    script = f"import sys; sys.modules[{library!r}] = None; import xloss.adapters.{library}"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert done.returncode == 1
    last = done.stderr.splitlines()[-1]
    assert last.startswith("ModuleNotFoundError")
    assert library in last
