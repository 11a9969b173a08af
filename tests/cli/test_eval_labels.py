"""xloss eval: labels with an axis of length 1."""

import math
from pathlib import Path

import numpy as np
import pytest

from cli_runs import answer, refused
from xloss.cli import run_task as task_module

RNG = np.random.default_rng(9)


@pytest.fixture(autouse=True)
def small_blocks(monkeypatch):
    monkeypatch.setattr(task_module, "BLOCK_LOGITS", 12)


def mean_surprise(probs, labels):
    """Return the mean of -log p of the labels, the class axis last."""
    rows = probs.reshape(-1, probs.shape[-1])
    return math.fsum(
        -math.log(row[label]) for row, label in zip(rows, labels.reshape(-1), strict=True)
    ) / len(rows)


def test_a_column_of_labels(capsys):
    probs, labels = RNG.dirichlet(np.ones(3), 20), RNG.integers(0, 3, 20)
    np.save("z.npy", np.log(probs))
    np.save("y.npy", labels[:, None])
    got = answer(capsys, "z.npy", "y.npy", "--worst", 20)
    assert got["loss"] == pytest.approx(mean_surprise(probs, labels), rel=1e-14)
    assert got["rows"] == 20
    assert [r["label"] for r in got["worst"]] == [labels[r["row"]] for r in got["worst"]]
    labels[13] = 7
    np.save("y.npy", labels[:, None])
    assert refused(capsys, "z.npy", "y.npy").startswith("y.npy: label 7 of row 13 is not in [0, 3)")


@pytest.mark.parametrize("shape", [(2, 1, 4, 5), (2, 4, 5, 1)])
def test_labels_of_images_with_one_channel(capsys, shape):
    probs, labels = RNG.dirichlet(np.ones(3), (2, 4, 5)), RNG.integers(0, 3, (2, 4, 5))
    np.save("z.npy", np.log(np.moveaxis(probs, -1, 1)))
    np.save("y.npy", labels.reshape(shape))
    got = answer(capsys, "z.npy", "y.npy", "--axis", 1)
    assert got["loss"] == pytest.approx(mean_surprise(probs, labels), rel=1e-14)
    assert len(got["worst"][0]["row"]) == 3


def test_columns_of_labels_beside_shards(capsys):
    probs, labels = RNG.dirichlet(np.ones(3), 20), RNG.integers(0, 3, 20)
    for name, array in (("z", np.log(probs)), ("y", labels[:, None])):
        Path(name).mkdir()
        np.save(f"{name}/0.npy", array[:13])
        np.save(f"{name}/1.npy", array[13:])
    np.save("y.npy", labels[:, None])
    for targets in ("y", "y.npy"):
        got = answer(capsys, "z", targets)
        assert got["loss"] == pytest.approx(mean_surprise(probs, labels), rel=1e-14)
