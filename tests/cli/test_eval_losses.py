"""xloss eval --loss: each loss by its definition, what it reads, and the options that it has."""

import math
from pathlib import Path

import numpy as np
import pytest

from cli_runs import answer, evaluated, refused
from xloss.cli import run_task as task_module
from xloss.cli.app import run

ROWS, CLASSES = 40, 5
RNG = np.random.default_rng(17)


@pytest.fixture(autouse=True)
def files(tmp_path, monkeypatch):
    """Probabilities, labels, soft targets and class weights; blocks of a few rows."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(task_module, "BLOCK_LOGITS", CLASSES * 7)
    probs = RNG.dirichlet(np.ones(CLASSES), ROWS)
    labels = RNG.integers(0, CLASSES, ROWS)
    labels[::9] = -100
    np.save("p.npy", probs)
    np.save("log_p.npy", np.log(probs))
    np.save("y.npy", labels)
    np.save("soft.npy", RNG.dirichlet(np.ones(CLASSES), ROWS))
    np.save("w.npy", RNG.uniform(0.5, 2.0, CLASSES))
    bits = (RNG.uniform(size=(ROWS, CLASSES)) < 0.4).astype(np.int8)
    np.save("bits.npy", bits)
    np.save("z.npy", RNG.normal(scale=2, size=(ROWS, CLASSES)))


def load(*names):
    return [np.load(f"{name}.npy") for name in names]


def mean(terms):
    terms = list(terms)
    return math.fsum(terms) / len(terms)


# ---- Each loss by its definition -----------------------------------------------------------------


@pytest.mark.parametrize(("loss", "name"), [("log_loss", "p"), ("nll_loss", "log_p")])
def test_probabilities_and_log_probabilities(capsys, loss, name):
    p, y = load("p", "y")
    got = answer(capsys, f"{name}.npy", "y.npy", "--loss", loss, "--worst", ROWS)
    losses = {i: -math.log(p[i, y[i]]) for i in range(ROWS) if y[i] >= 0}
    assert got["loss"] == pytest.approx(mean(losses.values()), rel=1e-14)
    assert got["perplexity"] == pytest.approx(math.exp(got["loss"]), rel=1e-14)
    assert got["accuracy"] == mean(p[i].argmax() == y[i] for i in losses)
    assert (got["rows"], got["ignored"], got["function"]) == (ROWS, 5, loss)
    assert [r["row"] for r in got["worst"]] == sorted(losses, key=losses.get, reverse=True)
    assert got["worst"][0]["predicted"] == p[got["worst"][0]["row"]].argmax()


@pytest.mark.parametrize(("loss", "name"), [("log_loss", "p"), ("nll_loss", "log_p")])
def test_weights_smoothing_and_another_class_axis(capsys, loss, name):
    p, y, w = load("p", "y", "w")
    np.save("turned.npy", load(name)[0].T)
    given = ("--axis", 0, "--weight", "w.npy", "--label-smoothing", 0.1)
    got = answer(capsys, "turned.npy", "y.npy", "--loss", loss, *given)
    above, below = [], []
    for row, label in zip(p, y, strict=True):
        if label >= 0:
            q = [0.9 * (j == label) + 0.1 / CLASSES for j in range(CLASSES)]
            above.extend(-w[j] * q[j] * math.log(row[j]) for j in range(CLASSES))
            below.append(w[label])
    assert got["loss"] == pytest.approx(math.fsum(above) / math.fsum(below), rel=1e-13)


def test_soft_targets_of_log_loss(capsys):
    p, soft = load("p", "soft")
    got = answer(capsys, "p.npy", "soft.npy", "--loss", "log_loss")
    expected = math.fsum(-t * math.log(q) for q, t in zip(p.flat, soft.flat, strict=True)) / ROWS
    assert got["loss"] == pytest.approx(expected, rel=1e-14)
    assert got["accuracy"] == mean(p.argmax(1) == soft.argmax(1))


def test_eps_bounds_a_certain_mistake(capsys):
    np.save("p.npy", np.array([[1.0, 0.0], [0.5, 0.5]]))
    np.save("y.npy", np.array([1, 0]))
    got = answer(capsys, "p.npy", "y.npy", "--loss", "log_loss")
    assert got["loss"] == "inf"
    (finding,) = got["findings"]
    assert (finding["rule"], finding["positions"]) == ("impossible_target", [[0]])
    got = answer(capsys, "p.npy", "y.npy", "--loss", "log_loss", "--eps", 1e-6)
    assert got["loss"] == pytest.approx((-math.log(1e-6) + math.log(2)) / 2, rel=1e-14)


def test_the_divergence(capsys):
    p, soft = load("p", "soft")
    got = answer(capsys, "log_p.npy", "soft.npy", "--loss", "kl_div")
    terms = [t * (math.log(t) - math.log(q)) for q, t in zip(p.flat, soft.flat, strict=True)]
    assert got["loss"] == pytest.approx(math.fsum(terms) / ROWS, rel=1e-13)
    assert got["accuracy"] == mean(p.argmax(1) == soft.argmax(1))
    assert got["perplexity"] is None
    assert "entropy" in got["not_given"]["perplexity"]
    assert "kl_div expected probabilities of" in refused(
        capsys, "log_p.npy", "y.npy", "--loss", "kl_div"
    )


@pytest.mark.parametrize("gamma", [None, 1.5])
def test_the_focal_loss(capsys, gamma):
    p, y = load("p", "y")
    given = () if gamma is None else ("--gamma", gamma)
    got = answer(capsys, "log_p.npy", "y.npy", "--loss", "focal_loss", *given)
    power = 2.0 if gamma is None else gamma
    expected = mean(
        -((1 - p[i, y[i]]) ** power) * math.log(p[i, y[i]]) for i in range(ROWS) if y[i] >= 0
    )
    assert got["loss"] == pytest.approx(expected, rel=1e-12)
    assert got["perplexity"] is None
    assert got["accuracy"] == mean(p[i].argmax() == y[i] for i in range(ROWS) if y[i] >= 0)


def sigmoid_loss(z, t):
    """Return -t log sigmoid(z) - (1 - t) log(1 - sigmoid(z))."""
    softplus = math.log1p(math.exp(-abs(z)))
    return t * (softplus + max(-z, 0.0)) + (1 - t) * (softplus + max(z, 0.0))


TARGETS = {"integers": np.int64, "bytes": np.uint8, "bools": bool, "floats": np.float32}


@pytest.mark.parametrize("kind", TARGETS)
def test_binary_cross_entropy_with_logits(capsys, kind):
    z, bits = load("z", "bits")
    np.save("t.npy", bits.astype(TARGETS[kind]))
    loss = ("--loss", "binary_cross_entropy_with_logits")
    got = answer(capsys, "z.npy", "t.npy", *loss, "--worst", 3)
    losses = np.vectorize(sigmoid_loss)(z, bits)
    assert got["loss"] == pytest.approx(mean(losses.flat), rel=1e-14)
    assert got["accuracy"] == mean((z > 0).flat == bits.reshape(-1))
    assert (got["rows"], got["counted"], got["perplexity"]) == (ROWS * CLASSES,) * 2 + (None,)
    assert "each element" in got["not_given"]["perplexity"]
    for worst, at in zip(got["worst"], np.argsort(-losses, axis=None)[:3], strict=True):
        i, j = np.unravel_index(at, losses.shape)
        assert worst["row"] == [i, j]
        assert (worst["label"], worst["predicted"]) == (bits[i, j], z[i, j] > 0)
    smooth = answer(capsys, "z.npy", "t.npy", *loss, "--label-smoothing", 0.2)
    expected = mean(sigmoid_loss(a, 0.8 * b + 0.1) for a, b in zip(z.flat, bits.flat, strict=True))
    assert smooth["loss"] == pytest.approx(expected, rel=1e-13)


def test_binary_cross_entropy_of_probabilities(capsys):
    p, bits = load("p", "bits")
    loss = ("--loss", "binary_cross_entropy")
    got = answer(capsys, "p.npy", "bits.npy", *loss)
    expected = mean(
        -math.log(q) if t else -math.log1p(-q) for q, t in zip(p.flat, bits.flat, strict=True)
    )
    assert got["loss"] == pytest.approx(expected, rel=1e-13)
    assert got["accuracy"] == mean((p > 0.5).flat == bits.reshape(-1))
    np.save("sure.npy", np.array([1.0, 0.25]))
    np.save("t.npy", np.array([0, 1]))
    got = answer(capsys, "sure.npy", "t.npy", *loss)
    assert (got["loss"], got["findings"][0]["positions"]) == ("inf", [[0]])
    got = answer(capsys, "sure.npy", "t.npy", *loss, "--eps", 2.0**-20)
    assert got["loss"] == pytest.approx((20 * math.log(2) + 2 * math.log(2)) / 2, rel=1e-13)


def test_the_focal_loss_of_elements(capsys):
    z, bits = load("z", "bits")
    given = ("--loss", "sigmoid_focal_loss", "--gamma", 1, "--alpha", 0.25)
    got = answer(capsys, "z.npy", "bits.npy", *given)
    terms = []
    for a, t in zip(z.flat, bits.flat, strict=True):
        ce = sigmoid_loss(a, t)
        terms.append((0.25 if t else 0.75) * (1 - math.exp(-ce)) * ce)
    assert got["loss"] == pytest.approx(mean(terms), rel=1e-12)


@pytest.mark.parametrize(("one", "other"), [((ROWS, 1), (ROWS,)), ((ROWS,), (ROWS, 1))])
def test_a_column_beside_a_row_of_binary_targets(capsys, one, other):
    z, t = load("z")[0][:, 0], load("bits")[0][:, 0]
    expected = mean(map(sigmoid_loss, z, t))
    loss = ("--loss", "binary_cross_entropy_with_logits")
    for name, array, shape in (("z", z, one), ("t", t, other)):
        np.save(f"{name}.npy", array.reshape(shape))
        Path(name).mkdir()
        np.save(f"{name}/0.npy", array[:13].reshape(-1, *shape[1:]))
        np.save(f"{name}/1.npy", array[13:].reshape(-1, *shape[1:]))
    for arguments in (("z.npy", "t.npy"), ("z", "t"), ("z", "t.npy")):
        got = answer(capsys, *arguments, *loss)
        assert got["loss"] == pytest.approx(expected, rel=1e-14)
        assert got["shape"] == list(one)
        assert got["rows"] == ROWS


@pytest.mark.parametrize("backend", ["torch", "jax"])
def test_other_libraries(capsys, backend):
    calls = [
        ("p.npy", "y.npy", "--loss", "log_loss"),
        ("log_p.npy", "soft.npy", "--loss", "nll_loss"),
        ("p.npy", "bits.npy", "--loss", "binary_cross_entropy"),
        ("log_p.npy", "soft.npy", "--loss", "kl_div"),
    ]
    for call, got in zip(calls, evaluated(capsys, backend, *calls), strict=True):
        want = answer(capsys, *call)
        assert got["backend"] == backend
        assert got["loss"] == pytest.approx(want["loss"], rel=1e-13)
        assert got["accuracy"] == want["accuracy"]
        assert [r["row"] for r in got["worst"]] == [r["row"] for r in want["worst"]]


# ---- What the eye sees ---------------------------------------------------------------------------


def test_the_terminal_says_which_loss_and_why_there_is_no_perplexity(capsys):
    assert run(["eval", "p.npy", "bits.npy", "--loss", "binary_cross_entropy"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].endswith(" (binary_cross_entropy)")
    assert lines[1].startswith("perplexity  none: this loss judges each element by itself; ")
    assert lines[4] == "input       probabilities, float64, 40 x 5"
