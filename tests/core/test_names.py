"""The mathematics in core/ is the same for every array library: it names none of them.

What a library does differently is a method of its context in _arrays/ops.py.
"""

import ast
import io
import re
import tokenize

import pytest

from places import ROOT

CORE = ROOT / "src" / "xloss" / "core"
LIBRARIES = ("numpy", "np", "torch", "jax", "jnp", "dask", "cupy", "tensorflow", "mlx")
NAME = re.compile(rf"\b(py)?({'|'.join(LIBRARIES)}|array_api_\w+)\b", re.IGNORECASE)


def named(source: str) -> list[str]:
    """Every identifier, string and comment that names a library, and every use of its name."""
    words = {tokenize.NAME, tokenize.STRING, tokenize.COMMENT}
    words.add(getattr(tokenize, "FSTRING_MIDDLE", tokenize.STRING))  # from Python 3.12 on
    tokens = tokenize.generate_tokens(io.StringIO(source).readline)
    found = [
        f"{t.start[0]}: {m[0]}" for t in tokens if t.type in words for m in NAME.finditer(t.string)
    ]
    uses = (n for n in ast.walk(ast.parse(source)) if isinstance(n, ast.Attribute))
    return found + [f"{n.lineno}: .library" for n in uses if n.attr == "library"]


@pytest.mark.parametrize("path", sorted(CORE.glob("*.py")), ids=lambda p: p.stem)
def test_core_names_no_library(path):
    assert named(path.read_text(encoding="utf-8")) == []


@pytest.mark.parametrize(
    ("source", "found"),
    [
        ('if cx.library == "torch":\n    pass\n', ["1: torch", "1: .library"]),
        ("def f():\n    import numpy as np\n", ["2: numpy", "2: np"]),
        ('NAMES = {"jax": 1}\n', ["1: jax"]),
        ('f"a {cx.library} b"\n', ["1: .library"]),
        ('f"of torch {x}"\n', ["1: torch"]),
        ("x = 1  # PyTorch wakes its threads\n", ["1: PyTorch"]),
        ('"""As array_api_strict does."""\n', ["1: array_api_strict"]),
        ("torchlight = dasks = 1\n", []),
    ],
)
def test_every_way_of_naming_one_is_found(source, found):
    assert named(source) == found
