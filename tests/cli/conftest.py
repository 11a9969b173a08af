"""What the tests of several commands start from."""

from types import SimpleNamespace

import numpy as np
import pytest

from cli_runs import Command
from xloss.cli import run_task


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    """An empty folder as the current one, and a terminal of the usual width."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("COLUMNS", raising=False)
    return tmp_path


@pytest.fixture
def command(capfd):
    """The command, run in the test's own process."""
    return Command(capfd)


@pytest.fixture
def kinds(folder, monkeypatch):
    """Files for every loss, in the current folder: 40 rows of 5 classes, read a few at a time.

    Probabilities, their logarithms, logits; labels, soft targets, elementwise targets; weights.
    """
    monkeypatch.setattr(run_task, "BLOCK_LOGITS", 5 * 7)
    rng = np.random.default_rng(17)
    p, labels = rng.dirichlet(np.ones(5), 40), rng.integers(0, 5, 40)
    labels[::9] = -100
    arrays = {
        "p": p,
        "log_p": np.log(p),
        "y": labels,
        "soft": rng.dirichlet(np.ones(5), 40),
        "w": rng.uniform(0.5, 2.0, 5),
        "bits": (rng.uniform(size=(40, 5)) < 0.4).astype(np.int8),
        "z": rng.normal(scale=2, size=(40, 5)),
    }
    for name, array in arrays.items():
        np.save(f"{name}.npy", array)
    return SimpleNamespace(**arrays)
