"""xloss eval --shift: the logits of a position are judged with the label of the next position."""

import math
from pathlib import Path

import numpy as np
import pytest

from cli_runs import answer, refused
from xloss.cli import evaluate as evaluate_module
from xloss.cli import run_task as task_module

BATCH, TIME, CLASSES = 5, 6, 4
RNG = np.random.default_rng(21)


@pytest.fixture
def sequences(folder):
    """Log-probabilities and labels of five sequences; returns the losses by the definition."""
    probs = RNG.dirichlet(np.ones(CLASSES), (BATCH, TIME))
    labels = RNG.integers(0, CLASSES, (BATCH, TIME))
    labels[1, 3] = labels[4, 0] = labels[2, 5] = -100
    np.save("z.npy", np.log(probs))
    np.save("y.npy", labels)
    return {
        (b, t): -math.log(probs[b, t, labels[b, t + 1]])
        for b in range(BATCH)
        for t in range(TIME - 1)
        if labels[b, t + 1] >= 0
    }


def mean(losses):
    return math.fsum(losses.values()) / len(losses)


def test_the_next_label_judges_within_each_sequence(sequences, capsys):
    got = answer(capsys, "z.npy", "y.npy", "--shift", "--worst", 100)
    assert got["loss"] == pytest.approx(mean(sequences), rel=1e-14)
    assert got["perplexity"] == pytest.approx(math.exp(mean(sequences)), rel=1e-14)
    # The first label of a sequence, ignored in the fifth, is judged by no logits.
    assert (got["rows"], got["counted"], got["ignored"]) == (BATCH * (TIME - 1), 23, 2)
    assert (got["shape"], got["shift"]) == ([BATCH, TIME, CLASSES], True)
    worst = sorted(sequences, key=sequences.get, reverse=True)
    assert [tuple(r["row"]) for r in got["worst"]] == worst
    labels = np.load("y.npy")
    assert [r["label"] for r in got["worst"]] == [labels[b, t + 1] for b, t in worst]
    z = np.load("z.npy")
    right = [z[b, t].argmax() == labels[b, t + 1] for b, t in sequences]
    assert got["accuracy"] == sum(right) / len(right)
    without = answer(capsys, "z.npy", "y.npy")
    assert (without["rows"], without["shift"]) == (BATCH * TIME, False)
    assert without["loss"] != pytest.approx(got["loss"], rel=1e-3)


@pytest.mark.parametrize("block", [1, CLASSES * 3, CLASSES * 7, 10**9])
def test_block_size_and_shards_change_no_number(sequences, capsys, monkeypatch, block):
    expected = answer(capsys, "z.npy", "y.npy", "--shift", "--worst", 100)
    for name in ("z", "y"):
        Path(name).mkdir()
        whole = np.load(f"{name}.npy")
        for i, (start, stop) in enumerate([(0, 2), (2, 2), (2, 5)]):
            np.save(f"{name}/{i}.npy", whole[start:stop])
    monkeypatch.setattr(task_module, "BLOCK_LOGITS", block)
    monkeypatch.setattr(evaluate_module, "TASK_LOGITS", 2 * block)
    for arguments in (("z.npy", "y.npy"), ("z", "y"), ("z", "y.npy")):
        assert answer(capsys, *arguments, "--shift", "--worst", 100) == expected


def test_another_class_axis_and_more_row_axes(sequences, capsys):
    z, y = np.load("z.npy"), np.load("y.npy")
    np.save("first.npy", np.moveaxis(z, -1, 1))  # (batch, classes, time)
    got = answer(capsys, "first.npy", "y.npy", "--shift", "--axis", 1)
    assert got["loss"] == pytest.approx(mean(sequences), rel=1e-14)
    np.save("more.npy", z[:, None])  # (batch, 1, time, classes)
    np.save("labels.npy", y[:, None, :, None])
    got = answer(capsys, "more.npy", "labels.npy", "--shift")
    assert got["loss"] == pytest.approx(mean(sequences), rel=1e-14)


@pytest.mark.parametrize("time", [0, 1])
def test_sequences_without_a_next_position(sequences, capsys, time):
    np.save("z.npy", np.zeros((3, time, CLASSES)))
    np.save("y.npy", np.zeros((3, time), int))
    got = answer(capsys, "z.npy", "y.npy", "--shift")
    assert (got["loss"], got["accuracy"], got["rows"], got["worst"]) == (0.0, "nan", 0, [])


def test_a_bad_label_is_named_by_its_own_place(sequences, capsys):
    labels = np.load("y.npy")
    labels[0, 0] = 99  # judged by nothing
    np.save("y.npy", labels)
    assert answer(capsys, "z.npy", "y.npy", "--shift")["rows"] == BATCH * (TIME - 1)
    labels[3, 5] = 9
    np.save("y.npy", labels)
    said = refused(capsys, "z.npy", "y.npy", "--shift")
    assert said.startswith("y.npy: label 9 of row [3, 5] is not in [0, 4)")


def test_what_cannot_be_shifted_is_refused(sequences, capsys):
    z, y = np.load("z.npy"), np.load("y.npy")
    np.save("flat.npy", z.reshape(-1, CLASSES))
    np.save("flat_y.npy", y.reshape(-1))
    said = refused(capsys, "flat.npy", "flat_y.npy", "--shift")
    assert said.startswith(
        "--shift: expected flat.npy of shape (batch, time, classes), got (30, 4)"
    )
    for name, array in (("zs", z.reshape(-1, CLASSES)), ("ys", y.reshape(-1))):
        Path(name).mkdir()
        np.save(f"{name}/0.npy", array[:12])
        np.save(f"{name}/1.npy", array[12:])
    said = refused(capsys, "zs", "ys", "--shift")
    assert said.startswith("--shift: expected zs of shape (batch, time, classes), got (30, 4)")
    said = refused(capsys, "z.npy", "z.npy", "--shift")
    assert said.startswith("--shift: expected integer labels in z.npy, got float64 of shape")
    for loss in ("kl_div", "binary_cross_entropy_with_logits"):
        said = refused(capsys, "z.npy", "z.npy", "--shift", "--loss", loss)
        assert said.startswith(
            f"--shift: {loss} has no such option; only cross_entropy, nll_loss, "
        )
