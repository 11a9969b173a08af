"""The Python blocks of the guides run as a reader would type them, and print what the page says.

The blocks of one page run one after the other in one process. One that begins with `# needs NAME`
is left out where NAME cannot be imported; a `text` block right after a block is what it prints.
"""

import json
import os
import re
from importlib.util import find_spec

import pytest

from fresh import ran
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

# Runs the blocks that it reads, those of a page in one namespace, and writes down what each has
# printed. One process for all: importing the libraries takes longer than all the rest.
RUNNER = """
import contextlib, io, json, sys, traceback
names, printed = {}, {}
for name, page, block in json.load(sys.stdin):
    with contextlib.redirect_stdout(io.StringIO()) as out:
        try:
            exec(compile(block, name, "exec"), names.setdefault(page, {}))
        except Exception:
            traceback.print_exc(file=out)
    printed[name] = out.getvalue()
print(json.dumps(printed))
"""


def needed(words):
    """Return the modules that a block needs, in the words of its first line."""
    return " ".join(IMPORTED_AS.get(word, word) for word in words.split(" and ")).split()


def missing(words):
    """Return what a block needs and this machine has not, or nothing."""
    if "a GPU" in words:
        return "a GPU"
    if "mpi4py" in words and not MPIEXEC.exists():
        return "an MPI library beside this Python: the mpich wheel of the test extra"
    return ", ".join(name for name in needed(words) if not find_spec(name))


BLOCKS = {
    f"{page}, block {n}": (page, *found)
    for page in GUIDES
    for n, found in enumerate(BLOCK.findall(PAGES[page]), 1)
}


@pytest.fixture(scope="module")
def printed(tmp_path_factory):
    # One rank: the address is where a process group of PyTorch meets.
    ranks = {"RANK": "0", "WORLD_SIZE": "1", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": "0"}
    chosen = [
        (name, page, code) for name, (page, words, code, _) in BLOCKS.items() if not missing(words)
    ]
    out = ran(
        *("-W", "error", "-c", RUNNER),
        input=json.dumps(chosen),
        env={**os.environ, **ranks, "KERAS_BACKEND": "torch", "TF_CPP_MIN_LOG_LEVEL": "3"},
        cwd=tmp_path_factory.mktemp("guides"),
    )
    return json.loads(out.splitlines()[-1])


@pytest.mark.parametrize("name", BLOCKS)
def test_a_block_runs_and_prints_what_its_page_says(name, printed):
    _, words, _, expected = BLOCKS[name]
    if absent := missing(words):
        pytest.skip(f"it needs {absent}")
    assert printed[name] == expected
