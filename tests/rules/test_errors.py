"""What a wrong argument says: its name, what came, what was expected; before any arithmetic.

Shapes, dtypes and options of cross_entropy are the suite's family "errors", in every library.
"""

import re

import numpy as np
import pytest

import xloss
from expected import BINARY, CLASS, FIRST, LOSSES, inputs, loss, shape, soft, targets

SOFTMAX = ("cross_entropy", "focal_loss")
SMOOTHED = (*CLASS, "binary_cross_entropy_with_logits", "binary_cross_entropy")
NAN, INF = float("nan"), float("inf")


@pytest.fixture(autouse=True)
def _no_arithmetic(monkeypatch):
    """Every error of this file must come before anything is computed."""
    monkeypatch.setattr("xloss.backends.of", lambda call: pytest.fail("computed already"))


def refused(name, error, pattern, x=None, t=None, **options):
    form = shape(name, 6, 5)
    x = inputs(name, form) if x is None else x
    t = targets(name, form) if t is None else t
    for run in (loss(name), xloss.value_and_grad(loss(name))):
        with pytest.raises(error, match=pattern):
            run(x, t, **options)


ZEROS = np.zeros((6, 5))
ODD = [np.ma.zeros((6, 5)), ZEROS.view(np.matrix), *map(ZEROS.astype, (int, bool, complex, object))]


@pytest.mark.parametrize("name", LOSSES)
def test_logits_are_a_floating_array(name):
    for wrong in (None, 1.0, [[0.0, 1.0]], (0.0, 1.0), "logits", *ODD):
        want = rf"^{FIRST[name]}: expected .*, got .*{type(wrong).__name__}"
        with pytest.raises(TypeError, match=want):
            loss(name)(wrong, targets(name, shape(name, 6, 5)))


def test_what_was_probably_meant_is_suggested():
    y = np.zeros((2, 3, 4), int)
    refused("cross_entropy", ValueError, r"did you mean axis=1\?", np.zeros((2, 5, 3, 4)), y)
    y6 = np.zeros(6, int)
    refused("cross_entropy", ValueError, r"did you mean axis=0\?", np.zeros((5, 6)), y6)
    with pytest.raises(ValueError, match=r"got \(2, 3\)$"):
        xloss.cross_entropy(np.zeros((6, 5)), y[:, :, 0])
    refused("cross_entropy", ValueError, "drop .* axis of length 1", t=np.zeros((6, 1), int))
    whole = "class indices must have an integer dtype"  # numbers that may have been meant for them
    refused("cross_entropy", ValueError, whole, t=np.zeros(6))


def test_what_came_is_said():
    """The suite asks for the argument's name alone."""
    name = "cross_entropy"
    want = r"^targets: .*\(6, 5\); got \(6, 4\)"
    refused(name, ValueError, want, t=np.zeros((6, 4)))
    refused(name, ValueError, r"^axis: expected -2 <= axis < 2 .*, got 2$", axis=2)
    want = r"^weight: expected shape \(5,\), got \(4,\)$"
    refused(name, ValueError, want, weight=np.ones(4))
    refused(name, ValueError, r"^validate: expected .*, got 'always'$", validate="always")
    refused(name, TypeError, r"^weight: expected a floating", weight=np.ones(5, complex))
    refused(name, TypeError, r"^targets: expected", t=np.ones((6, 5), complex))


@pytest.mark.parametrize("name", BINARY)
def test_binary_targets_have_the_logits_shape(name):
    for wrong in (np.zeros(5), np.zeros((6, 1)), np.zeros((), bool)):
        want = rf"^targets: must have .*, \(6,\); got {re.escape(str(wrong.shape))}$"
        refused(name, ValueError, want, t=wrong)


def test_pos_weight():
    name = "binary_cross_entropy_with_logits"
    for wrong in (2.0, np.ones(6, bool)):
        refused(name, TypeError, r"^pos_weight: expected .*, got ", pos_weight=wrong)
    want = r"^pos_weight: shape \(2, 6\) does not broadcast to .* \(6,\)$"
    refused(name, ValueError, want, pos_weight=np.ones((2, 6)))


@pytest.mark.parametrize("name", CLASS)
def test_ignore_index_has_no_meaning_with_probabilities(name):
    for wrong in (0, 3, 255, np.int64(0)):
        want = rf"^ignore_index: {wrong} has no meaning with probabilities"
        refused(name, ValueError, want, t=soft((6, 5)), ignore_index=wrong)


def test_a_negative_ignore_index_and_none_are_unused_with_probabilities(monkeypatch):
    monkeypatch.undo()
    x, t = inputs("cross_entropy", (6, 5)), soft((6, 5))
    values = {xloss.cross_entropy(x, t, ignore_index=i) for i in (-100, -1, None)}
    assert len(values) == 1


NUMBERS = [
    *[(name, "label_smoothing", (-0.1, 1.5, NAN, INF), r"\[0, 1\]") for name in SMOOTHED],
    ("cross_entropy", "z_loss", (-1e-9, NAN, INF, -INF), r"\[0, inf\)"),
    *[(name, "softcap", (0, 0.0, -1.0, NAN, INF), r"\(0, inf\)") for name in SOFTMAX],
    *[(name, "gamma", (-1, NAN, INF), r"\[0, inf\)") for name in ("focal_loss", BINARY[2])],
    ("sigmoid_focal_loss", "alpha", (-0.1, 1.1, NAN), r"\[0, 1\]"),
    *[(name, "eps", (-0.1, 0.6, NAN), r"\[0, 0\.5\]") for name in ("log_loss", BINARY[1])],
    *[(name, "normalizer", (-1, -0.5, NAN, INF), r"\[0, inf\)") for name in LOSSES],
]


@pytest.mark.parametrize(
    ("name", "option", "wrong", "interval"), NUMBERS, ids=[f"{n}-{o}" for n, o, *_ in NUMBERS]
)
def test_a_number_is_in_its_interval(name, option, wrong, interval):
    for value in wrong:
        want = rf"^{option}: expected a number in {interval}, got {re.escape(repr(value))}$"
        refused(name, ValueError, want, **{option: value})
    for value in ("0.1", True, np.False_, np.array(True), [0.1], 1j):
        refused(
            name,
            TypeError,
            rf"^{option}: expected a(n array of| floating| number).*",
            **{option: value},
        )


@pytest.mark.parametrize("name", LOSSES)
def test_reduction(name):
    for wrong in ("average", "", None, 1, "Mean", ["mean"], np.array(["mean", "sum"])):
        want = rf"^reduction: expected one of .*'mean'.*, got {re.escape(repr(wrong))}$"
        refused(name, ValueError, want, reduction=wrong)


@pytest.mark.parametrize("name", LOSSES)
def test_normalizer_needs_the_mean(name):
    for how in ("sum", "none"):
        want = rf'^normalizer: needs reduction="mean", got reduction=\'{how}\'$'
        for value in (1.0, np.array(1.0)):
            refused(name, ValueError, want, reduction=how, normalizer=value)
