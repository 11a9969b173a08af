"""xloss eval: what the user probably meant; what is no loss is refused or failed, never printed."""

import json

import ml_dtypes
import numpy as np
import pytest
from safetensors.numpy import save_file

from cli_runs import refused, saved_rows
from xloss import cross_entropy
from xloss.cli import run_task as task_module
from xloss.cli.app import run

RNG = np.random.default_rng(3)


@pytest.fixture
def files(folder):
    """300 rows of 7 classes in the current folder."""
    return saved_rows(ignored=False)


def hinted(capsys, *arguments):
    """Return the loss and the hint of a command that is done."""
    assert run(["eval", *map(str, arguments), "--json"]) == 0
    out, err = capsys.readouterr()
    got = json.loads(out)
    lines = [f"xloss: {hint}\n" for hint in got.get("hints", ())]
    assert err == "".join(lines)
    return got["loss"], err[7:-1]


def softmax(logits):
    e = np.exp(np.float64(logits) - logits.max(-1, keepdims=True))
    return e / e.sum(-1, keepdims=True)


# ---- Labels --------------------------------------------------------------------------------------

WRONG = {
    "void": (lambda y: np.where(y == 3, 255, y), "label 255", "did you mean --ignore-index 255?"),
    "byte": (lambda y: np.where(y == 3, -100, y).astype("u1"), "156", "mean --ignore-index 156?"),
    "padding": (lambda y: np.where(y == 3, -1, y), "label -1", "did you mean --ignore-index -1?"),
    "from 1": (lambda y: y + 1, "label 7", "do the labels begin at 1? they begin at 0 here"),
    "row": (lambda y: y[None], "(1, 300)", "axis of length 1: save y.reshape((300,))"),
    "float": (
        lambda y: y.astype("f8"),
        "float64",
        "values are whole; labels are integers: save y.astype(np.int64)",
    ),
    "float column": (
        lambda y: y[:, None].astype("f4"),
        "float32",
        "labels are integers: save y.reshape((300,)).astype(np.int64)",
    ),
    "bool": (lambda y: y > 3, "bool", "labels are integers: save y.astype(np.int64)"),
    "one-hot": (
        lambda y: np.eye(7, dtype="i8")[y],
        "got int64 of shape (300, 7)",
        "one-hot labels? save them as class indices, y.argmax(1)",
    ),
}


@pytest.mark.parametrize("case", WRONG)
def test_wrong_labels_are_refused_with_a_hint(files, capsys, case):
    change, wrong, hint = WRONG[case]
    np.save("y.npy", change(files[1]))
    said = refused(capsys, "z.npy", "y.npy")
    assert said.startswith("y.npy: ")
    assert wrong in said
    assert hint in said


def test_no_hint_where_there_is_none_to_give(files, capsys):
    labels = files[1].copy()
    labels[:2] = 255, 254
    np.save("y.npy", labels)
    assert "did you mean" not in refused(capsys, "z.npy", "y.npy")
    np.save("y.npy", files[1] + 0.5)
    assert "labels are integers" not in refused(capsys, "z.npy", "y.npy")
    np.save("whole.npy", files[1])
    assert "swapped" not in refused(capsys, "whole.npy", "y.npy")


@pytest.mark.parametrize("soft", [False, True])
def test_the_two_files_swapped(files, capsys, soft):
    logits, labels = files
    np.save("y.npy", labels.astype("f4") if soft else labels)
    said = refused(capsys, "y.npy", "z.npy")
    assert said.endswith("; are the two files swapped?")
    np.save("p.npy", softmax(logits))
    assert "are these logits, or the two files swapped?" in refused(capsys, "p.npy", "z.npy")


# ---- Probabilities -------------------------------------------------------------------------------


def test_logits_given_as_probabilities_are_refused(files, capsys, monkeypatch):
    monkeypatch.setattr(task_module, "BLOCK_LOGITS", 7 * 40)
    target = softmax(RNG.normal(size=(300, 7)))
    target[123, 4] = -0.25
    np.save("t.npy", target)
    said = refused(capsys, "z.npy", "t.npy")
    assert said.startswith("t.npy: -0.25 of row 123, class 4: a probability is not negative")


def test_a_negative_class_weight_is_refused(files, capsys):
    np.save("w.npy", np.array([1, 1, -2.0, 1, 1, 1, 1]))
    said = refused(capsys, "z.npy", "y.npy", "--weight", "w.npy")
    assert said == "w.npy: weight -2.0 of class 2 is negative"


@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float32", "float64"])
def test_probabilities_given_as_logits_are_hinted_at(files, capsys, monkeypatch, dtype):
    monkeypatch.setattr(task_module, "BLOCK_LOGITS", 7 * 40)
    logits, labels = files
    labels[5] = -100
    probs = softmax(logits).astype(dtype if dtype != "bfloat16" else ml_dtypes.bfloat16)
    probs[5] = 0  # a row that is left out tells nothing
    np.save("y.npy", labels)
    save_file({"p": probs}, "p.safetensors")
    loss, hint = hinted(capsys, "p.safetensors", "y.npy")
    expected = cross_entropy(probs.astype(np.float64), labels).item()
    assert loss == pytest.approx(expected, rel=1e-3)
    assert hint == (
        "p.safetensors: every row is of numbers from 0 to 1 that sum to 1: are these "
        "probabilities? Logits are expected; the loss of probabilities is --loss log_loss"
    )
    probs[299] += probs[299]
    save_file({"p": probs}, "p.safetensors")
    assert hinted(capsys, "p.safetensors", "y.npy")[1] == ""


def test_log_probabilities_are_logits(files, capsys):
    np.save("z.npy", np.log(softmax(files[0])))
    loss, hint = hinted(capsys, "z.npy", "y.npy")
    assert loss == pytest.approx(cross_entropy(*files).item(), rel=1e-6)
    assert hint == ""


def test_soft_targets_that_do_not_sum_to_1_are_hinted_at(files, capsys):
    target = softmax(RNG.normal(size=(300, 7)))
    np.save("t.npy", target.astype(np.float16))
    assert hinted(capsys, "z.npy", "t.npy")[1] == ""
    target[7] = 0  # left out
    target[9] *= 3
    np.save("t.npy", target)
    hint = hinted(capsys, "z.npy", "t.npy")[1]
    assert hint == "t.npy: row 9 sums to 3: are these probabilities?"
