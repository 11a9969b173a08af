"""xloss eval --loss: what is refused, what is hinted at, and why a loss is not finite."""

import numpy as np
import pytest

from cli_runs import answer, refused

ROWS, CLASSES = 40, 5
pytestmark = pytest.mark.usefixtures("kinds")


def changed(name, at, value, into=None):
    array = np.load(f"{name}.npy")
    array[at] = value
    np.save(f"{into or name}.npy", array)


# ---- Options that a loss does not have -----------------------------------------------------------

IDLE = {
    "--axis": (1, "binary_cross_entropy", "only cross_entropy, nll_loss, log_loss, focal_loss, kl"),
    "--ignore-index": (-100, "kl_div", "only cross_entropy, nll_loss, log_loss, focal_loss"),
    "--label-smoothing": (0.0, "sigmoid_focal_loss", "only cross_entropy, nll_loss, log_loss, "),
    "--weight": ("w.npy", "binary_cross_entropy_with_logits", "only cross_entropy, nll_loss, lo"),
    "--eps": (1e-7, "nll_loss", "only log_loss, binary_cross_entropy"),
    "--gamma": (2, "cross_entropy", "only focal_loss, sigmoid_focal_loss"),
    "--alpha": (0.5, "focal_loss", "only sigmoid_focal_loss"),
}


@pytest.mark.parametrize("flag", IDLE)
def test_an_option_that_the_loss_does_not_have_is_refused(capsys, flag):
    value, loss, owners = IDLE[flag]
    said = refused(capsys, "z.npy", "bits.npy", "--loss", loss, flag, value)
    assert said.startswith(f"{flag}: {loss} has no such option; {owners}")


def test_an_unknown_loss_is_refused_with_the_names(capsys):
    said = refused(capsys, "z.npy", "y.npy", "--loss", "bce")
    assert said.startswith("--loss bce: expected one of cross_entropy, nll_loss, log_loss, focal_")


# ---- Numbers that are of another kind than the loss reads ----------------------------------------


def test_logits_given_as_probabilities_are_refused(capsys):
    changed("p", (23, 4), -0.5)
    said = refused(capsys, "p.npy", "y.npy", "--loss", "log_loss")
    assert said == (
        "p.npy: -0.5 of row 23, class 4: log_loss expected probabilities; are these logits? then "
        "give no --loss"
    )
    changed("p", (23, 4), 1.5)
    said = refused(capsys, "p.npy", "bits.npy", "--loss", "binary_cross_entropy")
    assert said == (
        "p.npy: 1.5 of row [23, 4]: binary_cross_entropy expected probabilities; are these logits? "
        "then give --loss binary_cross_entropy_with_logits"
    )


def test_a_row_that_is_left_out_may_hold_anything(capsys):
    expected = answer(capsys, "p.npy", "y.npy", "--loss", "log_loss", "--worst", 0)
    changed("y", 23, -100)
    changed("p", 23, [-1, np.nan, np.inf, 7, 0])
    got = answer(capsys, "p.npy", "y.npy", "--loss", "log_loss", "--worst", 0)
    assert (got["counted"], got["ignored"]) == (ROWS - 6, 6)
    assert got["loss"] != expected["loss"]


def test_rounded_probabilities_are_probabilities(capsys):
    p = np.zeros((3, 2), np.float32)
    p[:, 0] = 1 + 2.0**-23  # a softmax may round so
    np.save("p.npy", p)
    np.save("y.npy", np.zeros(3, int))
    assert answer(capsys, "p.npy", "y.npy", "--loss", "log_loss")["loss"] == pytest.approx(
        0, abs=2e-7
    )


def test_rows_that_do_not_sum_to_1_are_hinted_at(capsys):
    changed("p", slice(None), np.load("p.npy") / 2)
    hint = r"p\.npy: row 1 sums to 0\.5 and not to 1: are these probabilities\? Logits need no .*"
    answer(capsys, "p.npy", "y.npy", "--loss", "log_loss", hint=hint)
    changed("z", slice(None), 1.0)
    hint = r"z\.npy: row 1 has probabilities that sum to 13\.5914 and not to 1: are these log-p.*"
    answer(capsys, "z.npy", "y.npy", "--loss", "nll_loss", hint=hint)
    answer(capsys, "log_p.npy", "y.npy", "--loss", "nll_loss")
    np.save("half.npy", np.load("log_p.npy").astype(np.float16))
    answer(capsys, "half.npy", "y.npy", "--loss", "nll_loss")


# ---- Targets of the binary losses ----------------------------------------------------------------


def test_binary_targets_outside_0_and_1_are_refused(capsys):
    loss = ("--loss", "binary_cross_entropy_with_logits")
    changed("bits", (11, 3), 2, into="two")
    said = refused(capsys, "z.npy", "two.npy", *loss)
    assert said == "two.npy: label 2 of row [11, 3] is neither 0 nor 1"
    np.save("signs.npy", 2 * np.load("bits.npy") - 1)
    said = refused(capsys, "z.npy", "signs.npy", *loss)
    assert said.startswith("signs.npy: label -1 of row [")
    assert said.endswith(" is neither 0 nor 1; labels of -1 and 1? save (y + 1) // 2")
    np.save("soft.npy", np.load("bits.npy") * 1.25)
    said = refused(capsys, "z.npy", "soft.npy", *loss)
    assert said.startswith("soft.npy: 1.25 of row [")
    assert said.endswith("]: expected a target in [0, 1]")


def test_binary_targets_of_another_shape(capsys):
    loss = ("--loss", "binary_cross_entropy_with_logits")
    said = refused(capsys, "z.npy", "y.npy", *loss)
    assert said == (
        "y.npy: expected one target for each element, shape (40, 5); got int64 of shape (40,); one "
        "class index for each row? then leave --loss out, or take --loss log_loss"
    )
    np.save("few.npy", np.zeros((ROWS, CLASSES - 1)))
    assert "one target for each element" in refused(capsys, "z.npy", "few.npy", *loss)
    said = refused(capsys, "bits.npy", "bits.npy", "--loss", "binary_cross_entropy")
    assert said.startswith("bits.npy: expected floating probabilities, got int8 of shape (40, 5)")


def test_one_logit_a_row_is_hinted_at(capsys):
    np.save("one.npy", np.load("z.npy")[:, :1])
    np.save("t.npy", np.load("bits.npy")[:, 0])
    said = refused(capsys, "one.npy", "t.npy")
    assert said.endswith("; one logit a row? that is --loss binary_cross_entropy_with_logits")
    answer(capsys, "one.npy", "t.npy", "--loss", "binary_cross_entropy_with_logits")


# ---- Why a loss is NaN or infinite ---------------------------------------------------------------

NOT_FINITE = {
    "log_loss": ("p", "y", "nan_input"),
    "nll_loss": ("log_p", "y", "nan_input"),
    "kl_div": ("log_p", "p", "nan_input"),
    "focal_loss": ("z", "y", "nan_logit"),
    "binary_cross_entropy": ("p", "bits", "nan_input"),
    "binary_cross_entropy_with_logits": ("z", "bits", "nan_input"),
    "sigmoid_focal_loss": ("z", "bits", "nan_input"),
}


@pytest.mark.parametrize("loss", NOT_FINITE)
def test_a_nan_is_found_and_fails(capsys, loss):
    name, targets, rule = NOT_FINITE[loss]
    elements = targets == "bits"
    array, y = np.load(f"{name}.npy"), np.load("y.npy")
    where = [[17, 2], [30, 0]] if elements else [[17], [30]]
    for row in (17, 30):
        array[row, (2 if row == 17 else 0) if elements else y[row]] = np.nan
    np.save("bad.npy", array)
    got = answer(capsys, "bad.npy", f"{targets}.npy", "--loss", loss, code=1)
    assert got["loss"] == "nan"
    (finding,) = got["findings"]
    assert (finding["rule"], finding["count"], finding["positions"]) == (rule, 2, where)
    assert [r["row"] for r in got["worst"][:2]] == (where if elements else [17, 30])


def test_a_class_of_probability_0_is_found(capsys):
    y = np.load("y.npy")
    changed("log_p", 17, np.where(np.arange(CLASSES) == y[17], -np.inf, -np.log(CLASSES - 1)))
    got = answer(capsys, "log_p.npy", "y.npy", "--loss", "nll_loss")
    assert got["loss"] == got["perplexity"] == "inf"
    (finding,) = got["findings"]
    assert (finding["rule"], finding["positions"]) == ("impossible_target", [[17]])
    changed("z", (3, 1), np.inf)
    changed("bits", (3, 1), 0)
    got = answer(capsys, "z.npy", "bits.npy", "--loss", "binary_cross_entropy_with_logits")
    assert (got["loss"], got["findings"][0]["positions"]) == ("inf", [[3, 1]])


def test_a_class_weight_that_is_no_number_is_found(capsys):
    changed("w", 2, np.nan)
    got = answer(capsys, "p.npy", "y.npy", "--loss", "log_loss", "--weight", "w.npy", code=1)
    (finding,) = got["findings"]
    assert (finding["rule"], finding["count"], finding["positions"]) == ("bad_weight", 1, [[2]])
