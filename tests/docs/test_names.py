"""Every line of docs/names.toml (names.md shows it), run against the libraries; and the check."""

import json
import re
from types import SimpleNamespace

import numpy as np
import pytest

import names_check
import names_table
import xloss
from fresh import ran
from names_peers import missing, problems
from nightly import core
from places import SUPPORT

TABLE = names_table.TABLE.read_text(encoding="utf-8")
_, LIBRARIES = names_table.read(TABLE)
PEERS = [(name, backend) for name, library in LIBRARIES.items() for backend in library.backends]
# Not in the `test` extra: what would have to be done for their lines to run.
OPTIONAL = {
    "tensorflow": "it is large and pins others; `pip install tensorflow-cpu` runs its lines",
    "torchvision": "it must be of torch's own build; one beside torch runs its line",
}
# One name of each library that its list must hold, lest an empty list prove anything.
FOUND = {
    "PyTorch": "F.cross_entropy",
    "torchvision": "torchvision.ops.sigmoid_focal_loss",
    "Keras": "keras.losses.CategoricalCrossentropy",
    "TensorFlow": "v1.losses.softmax_cross_entropy",
    "JAX and optax": "optax.losses.softmax_cross_entropy",
    "scikit-learn": "metrics.log_loss",
    "SciPy": "special.rel_entr",
}


def told(name, backend):
    """What is found of a library whose backend is a switch of the whole process."""
    return json.loads(ran(str(SUPPORT / "names_peers.py"), backend, name).splitlines()[-1])


# The same lines of Keras' table on JAX, which compiles the two losses of each, are nightly.
@pytest.mark.parametrize(
    ("name", "backend"), core(PEERS, lambda name, backend: (name, backend) != ("Keras", "jax"))
)
def test_every_name_is_there_and_every_line_gives_the_same_number(name, backend):
    library = LIBRARIES[name]
    assert library.calls
    if absent := missing(library, backend):
        why = "; ".join(OPTIONAL.get(package, "the `test` extra has it") for package in absent)
        pytest.skip(f"not installed: {', '.join(absent)} ({why})")
    found, listed = (told if "keras" in library.modules else problems)(name, backend)
    assert found == []
    assert FOUND[name] in listed


def test_the_page_is_the_rendered_table():
    page = names_table.PAGE.read_text(encoding="utf-8")
    assert page == names_table.page(TABLE), "python tests/support/names_table.py renders it anew"


def test_scikit_learns_optimum_is_ours_at_the_strength_that_the_document_gives():
    linear_model = pytest.importorskip("sklearn.linear_model")
    rng = np.random.default_rng(3)
    x, labels, c = rng.normal(size=(30, 4)), rng.integers(0, 3, size=30), 0.7
    model = linear_model.LogisticRegression(
        C=c, fit_intercept=False, solver="newton-cg", tol=1e-12, max_iter=1000
    )
    w = model.fit(x, labels).coef_

    def slope(strength):
        _, by_logits = xloss.value_and_grad(xloss.cross_entropy)(x @ w.T, labels)
        _, by_weights = xloss.value_and_grad(xloss.l2_penalty)(w, strength=strength)
        return np.abs(by_logits.T @ x + by_weights).max()

    assert slope(1 / (c * len(x))) < 1e-9
    assert slope(1.01 / (c * len(x))) > 1e-5


# The check itself, on a library of four functions.

PEER = SimpleNamespace(
    nll=lambda p: -np.log(p),
    off=lambda p: -np.log(p) * (1 + 2e-15),
    single=lambda p: np.asarray(-np.log(p), dtype=np.float32),
    clipped=lambda p: -np.log(np.maximum(p, 1e-7)),
)
GOOD = """
intro = ""
[[library]]
name = "Peer"
calls = [
  [['peer.nll(p)', 'peer.clipped(p)'], '-np.log(p)', '*clipping*; a remark'],
  [['peer.single(p)'], '-np.log(p)', '*single precision on this*'],
]
not_offered = [[['peer.off'], 'it is wrong']]
outside = [[['peer.__class__'], 'no loss']]
differences = [
  ['clipping', 'peer.clipped(f64(0))', '16.11810', '-np.log(f64(0))', 'inf'],
  ['single precision on this', 'peer.single(f64(3))', '-1.098612309', '-np.log(f64(3))', '-1.098612289'],
]
"""  # noqa: E501  a line of a table


def found_in(text):
    library = names_table.read(text)[1]["Peer"]
    names = names_check.namespace({"p": np.array([0.2, 0.7])}, np.asarray, {"peer": PEER})
    run = names_check.Run(names, names, "this")
    listed = {f"peer.{name}" for name in vars(PEER)}

    def resolve(name):
        return getattr(PEER, name.removeprefix("peer."))

    return [
        *names_check.names(library, listed, resolve),
        *names_check.calls(library, run),
        *names_check.differences(library, run),
    ]


def test_a_table_that_holds_has_no_problems():
    assert found_in(GOOD) == []


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("'-np.log(p)', '*clip", "'-np.log2(p)', '*clip", r"peer.nll\(p\) and -np.log2"),
        ("'peer.nll(p)',", "'peer.nll(p)', 'peer.nll(nothing)',", "NameError"),
        ("'peer.nll(p)',", "", "peer.nll is in no line"),
        ("'peer.off'", "'peer.off', 'peer.gone'", "no peer.gone"),
        ("*clipping*; a", "*clipping*, *other*; a", "no example of the difference 'other'"),
        ("*clipping*; a", "a", "no call names the difference 'clipping'"),
        ("'peer.single(p)'", "'peer.nll(p)'", "no need for 'single precision on this'"),
        ("'16.11810'", "'16.11813'", "not 16.11813"),
        ("'inf'", "'ValueError'", "not ValueError"),
        ("'peer.clipped(f64(0))', '16.11810'", "'peer.nll(f64(0))', 'inf'", "no difference"),
    ],
)
def test_a_planted_fault_is_found(old, new, message):
    assert GOOD.count(old) == 1
    found = found_in(GOOD.replace(old, new))
    assert any(re.search(message, problem) for problem in found), found
