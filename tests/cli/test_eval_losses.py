"""xloss eval --loss: each loss by its definition, what it reads, and the options that it has."""

import math

import ml_dtypes
import numpy as np
import pytest
from safetensors.numpy import save_file

BCE, BCE_LOGITS = "binary_cross_entropy", "binary_cross_entropy_with_logits"


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
DEFINITIONS = {
    "cross_entropy log_p y": (at_label(surprise), 1e-14),
    "log_loss p y": (at_label(surprise), 1e-14),
    "nll_loss log_p y": (at_label(surprise), 1e-14),
    "cross_entropy log_p soft": (over_classes(lambda p, t: t * surprise(p)), 1e-14),
    "log_loss p soft": (over_classes(lambda p, t: t * surprise(p)), 1e-14),
    "kl_div log_p soft": (over_classes(lambda p, t: t * math.log(t / p)), 1e-13),
    "focal_loss log_p y": (at_label(lambda p: (1 - p) ** 2 * surprise(p)), 1e-12),
    "focal_loss log_p y --gamma 1.5": (at_label(lambda p: (1 - p) ** 1.5 * surprise(p)), 1e-12),
    f"{BCE} p bits": (each(lambda p, t: surprise(p) if t else -math.log1p(-p), "p"), 1e-13),
    f"{BCE_LOGITS} z bits": (each(sigmoid_loss), 1e-14),
    f"{BCE_LOGITS} z bits --label-smoothing 0.2": (
        each(lambda z, t: sigmoid_loss(z, 0.8 * t + 0.1)),
        1e-13,
    ),
    "sigmoid_focal_loss z bits --gamma 1 --alpha 0.25": (each(sigmoid_focal), 1e-12),
}


@pytest.mark.parametrize("case", DEFINITIONS)
def test_a_loss_is_its_definition(kinds, command, case):
    loss, first, second, *options = case.split()
    definition, within = DEFINITIONS[case]
    losses = definition(kinds)
    line = f"{first}.npy {second}.npy --loss {loss} --worst 25"
    got = command.answer(" ".join([line, *options]))
    assert got["loss"] == pytest.approx(mean(losses.values()), rel=within)
    x, t = vars(kinds)[first], vars(kinds)[second]
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
def test_weights_smoothing_and_another_class_axis(kinds, command, loss, name):
    save_file({"x": vars(kinds)[name].T.copy(), "other": kinds.z}, "turned.safetensors")
    np.savez("w.npz", w=kinds.w)
    np.save("y.npy", np.where(kinds.y < 0, 255, kinds.y).astype(np.uint8))
    options = "--axis 0 --weight w.npz --label-smoothing 0.1 --ignore-index 255"
    got = command.answer(f"turned.safetensors::x y.npy --loss {loss} {options}")
    above, below = [], []
    for row, label in zip(kinds.p, kinds.y, strict=True):
        if label >= 0:
            q = 0.9 * (np.arange(5) == label) + 0.1 / 5
            above.extend(-kinds.w[j] * q[j] * math.log(row[j]) for j in range(5))
            below.append(kinds.w[label])
    assert got["loss"] == pytest.approx(math.fsum(above) / math.fsum(below), rel=1e-13)


def test_eps_bounds_a_certain_mistake(command):
    np.save("p.npy", [[1.0, 0.0], [0.5, 0.5]])
    np.save("y.npy", [1, 0])
    np.save("elements.npy", [1.0, 0.5])
    np.save("t.npy", [0, 1])
    for line in ("p.npy y.npy --loss log_loss", f"elements.npy t.npy --loss {BCE}"):
        got = command.answer(line)
        assert got["loss"] == "inf"
        (finding,) = got["findings"]
        assert (finding["rule"], finding["positions"]) == ("infinite_loss", [[0]])
        got = command.answer(f"{line} --eps {2.0**-20}")
        assert got["loss"] == pytest.approx(21 * math.log(2) / 2, rel=1e-13)


def test_binary_targets_of_any_dtype(kinds, command):
    expected = command.answer(f"z.npy bits.npy --loss {BCE_LOGITS}")
    for dtype in (np.int64, np.uint8, bool, np.float32):
        np.save("t.npy", kinds.bits.astype(dtype))
        assert command.answer(f"z.npy t.npy --loss {BCE_LOGITS}") == expected


@pytest.mark.parametrize("backend", ["torch", "jax"])
def test_other_libraries(kinds, command, backend):
    config = pytest.importorskip("jax", reason="pip install 'xloss[jax]'").config
    before = config.jax_enable_x64
    save_file({"z": kinds.z.astype(ml_dtypes.bfloat16)}, "z16.safetensors")
    np.save("z32.npy", kinds.z.astype(np.float32))
    within = {
        "z16.safetensors y.npy": 2e-7,
        "z32.npy y.npy": 2e-7,
        "z.npy y.npy": 1e-15,
        "p.npy y.npy --loss log_loss": 1e-13,
        "log_p.npy soft.npy --loss nll_loss": 1e-13,
        f"p.npy bits.npy --loss {BCE}": 1e-13,
        "log_p.npy soft.npy --loss kl_div": 1e-13,
    }
    try:
        for line, rel in within.items():
            want, got = command.answer(line), command.answer(f"{line} --backend {backend}")
            assert (got["backend"], got["dtype"]) == (backend, want["dtype"])
            assert got["loss"] == pytest.approx(want["loss"], rel=rel)
            assert got["accuracy"] == want["accuracy"]
            assert [r["row"] for r in got["worst"]] == [r["row"] for r in want["worst"]]
    finally:  # the command allows float64 everywhere: other tests must not find it so
        config.update("jax_enable_x64", before)
