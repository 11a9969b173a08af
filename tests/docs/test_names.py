"""Every line of docs/names.toml (names.md shows it), run against the libraries; and the check."""

import json
import re

import pytest

import names_table
from fresh import ran
from names_check import missing, problems
from nightly import core
from places import SUPPORT

TABLE = names_table.TABLE.read_text(encoding="utf-8")
_, LIBRARIES = names_table.read(TABLE)
PEERS = [(name, backend) for name, library in LIBRARIES.items() for backend in library.backends]


# The same lines of Keras' table on JAX, which compiles the two losses of each, are nightly.
@pytest.mark.parametrize(
    ("name", "backend"), core(PEERS, lambda name, backend: (name, backend) != ("Keras", "jax"))
)
def test_every_name_is_there_and_every_line_gives_the_same_number(name, backend):
    library = LIBRARIES[name]
    assert library.calls
    if absent := missing(library, backend):
        # Not in the `test` extra: TensorFlow is large, torchvision must be of torch's build.
        pytest.skip(f"not installed, and pip has it: {', '.join(absent)}")
    if "keras" in library.modules:  # whose backend is a switch of the whole process
        out = ran(str(SUPPORT / "names_check.py"), name, backend)
        found, listed = json.loads(out.splitlines()[-1])
    else:
        found, listed = problems(TABLE, name, backend)
    assert found == []
    assert listed, "a list of no names proves nothing"


def test_the_page_is_the_rendered_table():
    page = names_table.PAGE.read_text(encoding="utf-8")
    assert page == names_table.page(TABLE), "python tests/support/names_table.py renders it anew"


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("'softmax(logits)'", "'softmax(-logits)'", r"special.softmax\(.* and softmax\(-logits\)"),
        ("entr(probs)", "entr(nothing)", "NameError"),
        ("[['special.softmax(logits, axis=-1)'], ", "[[], ", "special.softmax is in no line"),
        ("'stats.diff", "'stats.gone', 'stats.diff", "no stats.gone"),
        ("'*tail*'", "'*tail*, *other*'", "no example of the difference 'other'"),
        ("'*tail*'", "'a remark'", "no call names the difference 'tail'"),
        ("'*tail*'", "'*single precision on numpy*'", "no need for 'single precision on numpy'"),
        ("'0.3068528'", "'0.3068531'", "not 0.3068531"),
        ("'nan'", "'ValueError'", "not ValueError"),
        ("'special.softmax(f64([inf, 0]))[0]', 'nan'", "'np.ones(())', '1.0'", "no difference"),
    ],
)
def test_a_planted_fault_is_found(old, new, message):
    head, name, table = TABLE.partition('name = "SciPy"')
    assert table.count(old) == 1
    found, _ = problems(head + name + table.replace(old, new), "SciPy", "numpy")
    assert any(re.search(message, problem) for problem in found), found
