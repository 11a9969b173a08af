"""xloss eval --backend all: every installed library beside each other, and the peers' lost rows."""

import sys

import numpy as np
import pytest

from expected import expected
from places import ROOT
from xloss.cli import peers

DATA = ROOT / "examples" / "data"
FILES = [str(DATA / "digits_network_logits.npy"), str(DATA / "digits_labels.npy")]
ALL = f"{' '.join(FILES)} --backend all"


@pytest.fixture
def few(monkeypatch):
    """NumPy and the strict namespace alone, so that a test need not import the others."""
    monkeypatch.setattr("xloss.cli.evaluate.SUPPORTED", ("numpy", "array_api_strict"))
    monkeypatch.setattr(peers, "PEERS", peers.PEERS[:1])


def test_the_rows_that_the_textbook_formula_loses(command, few):
    """What it gives as 0 is counted against the definition in 60 digits."""
    z, y = (np.load(file) for file in FILES)
    exact = expected("cross_entropy", z, y).rows
    shifted = z - z.max(-1, keepdims=True)
    textbook = np.log(np.exp(shifted).sum(-1)) - shifted[np.arange(360), y]
    got = command.answer(ALL)
    first, second = got["backends"]
    assert (first["backend"], second["backend"]) == ("numpy", "array_api_strict")
    assert first["loss"] == pytest.approx(second["loss"], rel=4 * float(np.finfo(np.float32).eps))
    assert got["spread"] == pytest.approx(abs(first["loss"] - second["loss"]) / first["loss"])
    assert first["accuracy"] == second["accuracy"] == 353 / 360
    ours, theirs = got["peers"]
    assert (ours["name"], ours["lost"]) == ("xloss", 0)
    assert ours["error"] < 4 * np.finfo(np.float32).eps
    assert theirs["lost"] == sum(t == 0 and e > 0 for t, e in zip(textbook, exact, strict=True))
    assert theirs["lost"] > 90
    assert (theirs["gives"], theirs["error"]) == (0, 1)
    assert theirs["exact"] == pytest.approx(float(exact[theirs["row"]]), rel=1e-12)


def test_ignored_rows_are_the_peers_too(command, few):
    labels = np.load(FILES[1])
    labels[1] = -100  # the worst row of all
    np.save("y.npy", labels.astype(np.uint64))
    line = f"{FILES[0]} y.npy --ignore-index {2**64 - 100} --backend all"
    ours, theirs = command.answer(line)["peers"]
    assert ours["loss"] < 0.07
    assert theirs["loss"] == pytest.approx(ours["loss"], rel=1e-5)


def test_a_library_that_is_not_there_is_named(command, monkeypatch):
    monkeypatch.setattr("xloss.cli.evaluate.SUPPORTED", ("numpy", "torch"))
    monkeypatch.setattr(peers, "PEERS", ())
    monkeypatch.setitem(sys.modules, "torch", None)
    got = command.answer(f"{ALL} --label-smoothing 0.1")
    assert "without options" in got["peers_not_compared"]
    (missing,) = got["missing"]
    assert missing["backend"] == "torch"
    assert 'pip install "xloss[torch]"' in missing["reason"]
