"""xloss eval --loss: each loss by its definition, what it reads, and the options that it has."""

import math
import re
from pathlib import Path

import ml_dtypes
import numpy as np
import pytest
from safetensors.numpy import save_file

from cli_runs import answer, evaluated, refused
from xloss.cli.app import run

BCE, BCE_LOGITS = "binary_cross_entropy", "binary_cross_entropy_with_logits"


@pytest.fixture(autouse=True)
def given(kinds):
    return kinds


def mean(terms):
    terms = list(terms)
    return math.fsum(terms) / len(terms)


# ---- Each loss by its definition -----------------------------------------------------------------


def at_label(row_loss):
    """Return the losses of the rows that are not ignored, from the probability at the label."""
    return lambda of: {i: row_loss(of.p[i, y]) for i, y in enumerate(of.y) if y >= 0}


def over_classes(term):
    """Return the losses of soft targets, from the probability and the target of each class."""
    return lambda of: {i: math.fsum(map(term, of.p[i], of.soft[i])) for i in range(len(of.p))}


def each(element_loss, x="z"):
    """Return the losses of elements, from an element and its target."""
    return lambda of: {at: element_loss(v, of.bits[at]) for at, v in np.ndenumerate(vars(of)[x])}


def sigmoid_loss(z, t):
    """Return -t log sigmoid(z) - (1 - t) log(1 - sigmoid(z))."""
    softplus = math.log1p(math.exp(-abs(z)))
    return t * (softplus + max(-z, 0.0)) + (1 - t) * (softplus + max(z, 0.0))


def sigmoid_focal(z, t):
    ce = sigmoid_loss(z, t)
    return (0.25 if t else 0.75) * (1 - math.exp(-ce)) * ce


def surprise(p):
    return -math.log(p)


# The loss, the two files, options; the row losses, and how far from their mean the loss may be.
DEFINITIONS = [
    ("cross_entropy", "log_p", "y", (), at_label(surprise), 1e-14),
    ("log_loss", "p", "y", (), at_label(surprise), 1e-14),
    ("nll_loss", "log_p", "y", (), at_label(surprise), 1e-14),
    ("cross_entropy", "log_p", "soft", (), over_classes(lambda p, t: t * surprise(p)), 1e-14),
    ("log_loss", "p", "soft", (), over_classes(lambda p, t: t * surprise(p)), 1e-14),
    ("kl_div", "log_p", "soft", (), over_classes(lambda p, t: t * math.log(t / p)), 1e-13),
    ("focal_loss", "log_p", "y", (), at_label(lambda p: (1 - p) ** 2 * surprise(p)), 1e-12),
    (
        *("focal_loss", "log_p", "y", ("--gamma", 1.5)),
        *(at_label(lambda p: (1 - p) ** 1.5 * surprise(p)), 1e-12),
    ),
    (BCE_LOGITS, "z", "bits", (), each(sigmoid_loss), 1e-14),
    (
        *(BCE_LOGITS, "z", "bits", ("--label-smoothing", 0.2)),
        *(each(lambda z, t: sigmoid_loss(z, 0.8 * t + 0.1)), 1e-13),
    ),
    (BCE, "p", "bits", (), each(lambda p, t: surprise(p) if t else -math.log1p(-p), "p"), 1e-13),
    (
        *("sigmoid_focal_loss", "z", "bits", ("--gamma", 1, "--alpha", 0.25)),
        *(each(sigmoid_focal), 1e-12),
    ),
]


@pytest.mark.parametrize("case", DEFINITIONS, ids=lambda case: " ".join(map(str, case[:4])))
def test_a_loss_is_its_definition(given, capsys, case):
    loss, first, second, options, definition, within = case
    losses = definition(given)
    got = answer(capsys, f"{first}.npy", f"{second}.npy", "--loss", loss, *options, "--worst", 25)
    assert got["loss"] == pytest.approx(mean(losses.values()), rel=within)
    x, t = vars(given)[first], vars(given)[second]
    if second == "bits":
        labels, predicted = t, x > (0.5 if first == "p" else 0)
    else:
        labels, predicted = t if second == "y" else t.argmax(1), x.argmax(1)
    assert (got["rows"], got["counted"]) == (labels.size, len(losses))
    assert got["accuracy"] == mean(predicted[at] == labels[at] for at in losses)
    places = [tuple(r["row"]) if second == "bits" else r["row"] for r in got["worst"]]
    assert places == sorted(losses, key=losses.get, reverse=True)[:25]
    assert [r["label"] for r in got["worst"]] == [labels[at] for at in places]
    assert [r["predicted"] for r in got["worst"]] == [predicted[at] for at in places]
    if loss in ("cross_entropy", "log_loss", "nll_loss"):
        assert got["perplexity"] == pytest.approx(math.exp(got["loss"]), rel=1e-14)
    else:
        assert got["perplexity"] is None
        why = "entropy" if loss == "kl_div" else "each element" if second == "bits" else "focal"
        assert why in got["not_given"]["perplexity"]


@pytest.mark.parametrize(
    ("loss", "name"), [("log_loss", "p"), ("nll_loss", "log_p"), ("cross_entropy", "log_p")]
)
def test_weights_smoothing_and_another_class_axis(given, capsys, loss, name):
    save_file({"x": vars(given)[name].T.copy(), "other": given.z}, "turned.safetensors")
    np.savez("w.npz", w=given.w)
    np.save("y.npy", np.where(given.y < 0, 255, given.y).astype(np.uint8))
    options = ("--axis", 0, "--weight", "w.npz", "--label-smoothing", 0.1, "--ignore-index", 255)
    got = answer(capsys, "turned.safetensors::x", "y.npy", "--loss", loss, *options)
    above, below = [], []
    for row, label in zip(given.p, given.y, strict=True):
        if label >= 0:
            q = 0.9 * (np.arange(5) == label) + 0.1 / 5
            above.extend(-given.w[j] * q[j] * math.log(row[j]) for j in range(5))
            below.append(given.w[label])
    assert got["loss"] == pytest.approx(math.fsum(above) / math.fsum(below), rel=1e-13)


def test_eps_bounds_a_certain_mistake(capsys):
    np.save("p.npy", np.array([[1.0, 0.0], [0.5, 0.5]]))
    np.save("y.npy", np.array([1, 0]))
    np.save("elements.npy", np.array([1.0, 0.5]))
    np.save("t.npy", np.array([0, 1]))
    for loss, *names in (("log_loss", "p.npy", "y.npy"), (BCE, "elements.npy", "t.npy")):
        got = answer(capsys, *names, "--loss", loss)
        assert got["loss"] == "inf"
        (finding,) = got["findings"]
        assert (finding["rule"], finding["positions"]) == ("impossible_target", [[0]])
        got = answer(capsys, *names, "--loss", loss, "--eps", 2.0**-20)
        assert got["loss"] == pytest.approx(21 * math.log(2) / 2, rel=1e-13)


def test_the_divergence_takes_no_labels(capsys):
    said = refused(capsys, "log_p.npy", "y.npy", "--loss", "kl_div")
    assert "kl_div expected probabilities of" in said


def test_binary_targets_of_any_dtype(given, capsys):
    expected = answer(capsys, "z.npy", "bits.npy", "--loss", BCE_LOGITS)
    for dtype in (np.int64, np.uint8, bool, np.float32):
        np.save("t.npy", given.bits.astype(dtype))
        assert answer(capsys, "z.npy", "t.npy", "--loss", BCE_LOGITS) == expected


@pytest.mark.parametrize(("one", "other"), [((40, 1), (40,)), ((40,), (40, 1))])
def test_a_column_beside_a_row_of_binary_targets(given, capsys, one, other):
    z, t = given.z[:, 0], given.bits[:, 0]
    expected = mean(map(sigmoid_loss, z, t))
    for name, array, shape in (("z", z, one), ("t", t, other)):
        np.save(f"{name}.npy", array.reshape(shape))
        Path(name).mkdir()
        np.save(f"{name}/0.npy", array[:13].reshape(-1, *shape[1:]))
        np.save(f"{name}/1.npy", array[13:].reshape(-1, *shape[1:]))
    for arguments in (("z.npy", "t.npy"), ("z", "t"), ("z", "t.npy")):
        got = answer(capsys, *arguments, "--loss", BCE_LOGITS)
        assert got["loss"] == pytest.approx(expected, rel=1e-14)
        assert (got["shape"], got["rows"]) == (list(one), 40)


@pytest.mark.parametrize("backend", ["torch", "jax"])
def test_other_libraries(given, capsys, backend):
    save_file({"z": given.z.astype(ml_dtypes.bfloat16)}, "z16.safetensors")
    np.save("z32.npy", given.z.astype(np.float32))
    within = {
        ("z16.safetensors", "y.npy"): 2e-7,
        ("z32.npy", "y.npy"): 2e-7,
        ("z.npy", "y.npy"): 1e-15,
        ("p.npy", "y.npy", "--loss", "log_loss"): 1e-13,
        ("log_p.npy", "soft.npy", "--loss", "nll_loss"): 1e-13,
        ("p.npy", "bits.npy", "--loss", BCE): 1e-13,
        ("log_p.npy", "soft.npy", "--loss", "kl_div"): 1e-13,
    }
    for (call, rel), got in zip(within.items(), evaluated(capsys, backend, *within), strict=True):
        want = answer(capsys, *call)
        assert (got["backend"], got["dtype"]) == (backend, want["dtype"])
        assert got["loss"] == pytest.approx(want["loss"], rel=rel)
        assert got["accuracy"] == want["accuracy"]
        assert [r["row"] for r in got["worst"]] == [r["row"] for r in want["worst"]]


# ---- What the eye sees ---------------------------------------------------------------------------


def test_the_terminal_says_which_loss_and_why_there_is_no_perplexity(capsys):
    assert run(["eval", "p.npy", "bits.npy", "--loss", BCE]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].endswith(" (binary_cross_entropy)")
    assert lines[1].startswith("perplexity  none: this loss judges each element by itself; ")
    assert lines[4] == "input       probabilities, float64, 40 x 5"
    assert re.fullmatch(r"computed    by numpy, engine (cpu|generic), in \d+\.\d{3} s", lines[5])
