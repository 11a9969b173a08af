"""The Python blocks of the guides run as a reader would type them, and print what the page says.

The blocks of one page run one after the other, in the test's process, which has the libraries: to
import them takes longer than all the rest. One that begins with `# needs NAME` is left out where
NAME cannot be imported, and its page is told as skipped once all others have passed. A `text` block
right after a block is what it prints.
"""

import re
from contextlib import redirect_stdout
from importlib.util import find_spec
from io import StringIO

import numpy as np
import pytest

from places import ROOT
from spread import MPIEXEC

DOCS = ROOT / "docs"
# Pages whose blocks another test runs.
ELSEWHERE = {
    "conventions.md": "conformance/test_candidates.py",
    "names.md": "tests/docs/test_names.py",
    "validate.md": "conformance/test_validate.py",
}
PAGES = {
    path.relative_to(DOCS).as_posix(): path.read_text(encoding="utf-8")
    for path in sorted(DOCS.rglob("*.md"))
}
GUIDES = [name for name, text in PAGES.items() if "```python" in text and name not in ELSEWHERE]
BLOCK = re.compile(
    r"```python\n(?:# needs ([\w ]+)[^\n]*\n)?(.*?)```(?:\n\n```text\n(.*?)```)?", re.S
)
IMPORTED_AS = {"Keras": "keras", "TensorFlow": "tensorflow", "optax": "optax jax"}


def there(words):
    """Tell whether this machine has what a block needs, in the words of its first line."""
    names = " ".join(IMPORTED_AS.get(word, word) for word in words.split(" and ")).split()
    can = "a GPU" not in words and ("mpi4py" not in words or MPIEXEC.exists())
    return can and all(map(find_spec, names))


# One rank: the address is where a process group of PyTorch meets. Keras runs as for the suite.
VARIABLES = {"RANK": "0", "WORLD_SIZE": "1", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": "0"}
VARIABLES |= {"KERAS_BACKEND": "jax"}


@pytest.mark.parametrize("page", GUIDES)
def test_a_pages_blocks_run_and_print_what_it_says(page, monkeypatch):
    for name, value in VARIABLES.items():
        monkeypatch.setenv(name, value)
    names, left_out = {}, []
    with np.printoptions():
        for number, (words, code, expected) in enumerate(BLOCK.findall(PAGES[page]), 1):
            if not there(words):
                left_out.append(f"block {number}, which needs {words}")
                continue
            with redirect_stdout(StringIO()) as printed:
                exec(compile(code, f"{page}, block {number}", "exec"), names)
            assert printed.getvalue() == expected, number
    if left_out:
        pytest.skip(f"all blocks passed but {'; '.join(left_out)}")
