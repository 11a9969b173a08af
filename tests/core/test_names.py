"""The mathematics in core/ is the same for every array library: it names none of them.

What a library does differently is a method of its context in _arrays/ops.py.
"""

import re

import pytest

from places import ROOT

CORE = ROOT / "src" / "xloss" / "core"
LIBRARIES = ("numpy", "np", "torch", "jax", "jnp", "dask", "cupy", "tensorflow", "mlx")
NAME = re.compile(rf"\b(py)?({'|'.join(LIBRARIES)}|array_api_\w+)\b|\.library\b", re.IGNORECASE)


@pytest.mark.parametrize("path", sorted(CORE.glob("*.py")), ids=lambda p: p.stem)
def test_core_names_no_library(path):
    """In no identifier, string or comment; nor does it ask a context for the name of its own."""
    assert NAME.findall(path.read_text(encoding="utf-8")) == []


@pytest.mark.parametrize(
    "source", ["import numpy as np", "if cx.library ==", '{"jax": 1}', "# PyTorch", "array_api_x"]
)
def test_every_way_of_naming_one_is_found(source):
    assert NAME.search(source)
    assert not NAME.search("torchlight = dasks = own_library = 1")
