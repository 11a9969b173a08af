"""xloss eval --backend all: every installed library beside each other, and the peers' lost rows."""

import json

import numpy as np
import pytest
from mpmath import mp

from cli_runs import refused
from places import ROOT
from xloss.cli import peers
from xloss.cli.app import run

DATA = ROOT / "examples" / "data"
FILES = [str(DATA / "digits_network_logits.npy"), str(DATA / "digits_labels.npy")]


def all_of(capsys, *arguments):
    assert run(["eval", *map(str, arguments), "--backend", "all", "--json"]) == 0
    out, _ = capsys.readouterr()
    return json.loads(out, parse_constant=pytest.fail)


@pytest.fixture
def few(monkeypatch):
    """NumPy and the strict namespace alone, so that a test need not import the others."""
    monkeypatch.setattr("xloss.cli.evaluate.NAMES", ("numpy", "array_api_strict"))
    monkeypatch.setattr(peers, "PEERS", peers.PEERS[:1])


def test_every_library_gives_the_same_loss(capsys, few):
    """tests/docs/test_readme.py has all of them."""
    got = all_of(capsys, *FILES)
    assert [row["backend"] for row in got["backends"]] == ["numpy", "array_api_strict"]
    losses = [row["loss"] for row in got["backends"]]
    assert max(losses) - min(losses) <= 4 * np.finfo(np.float32).eps * got["loss"]
    assert got["spread"] == pytest.approx((max(losses) - min(losses)) / losses[0])
    assert {row["accuracy"] for row in got["backends"]} == {353 / 360}


def test_the_rows_that_the_textbook_formula_loses(capsys, few):
    """What it gives as 0 is counted against the definition in 60 digits."""
    z, y = (np.load(file) for file in FILES)
    with mp.workdps(60):
        exact = [
            mp.log(mp.fsum(mp.exp(mp.mpf(float(v)) - mp.mpf(float(row[label]))) for v in row))
            for row, label in zip(z, y, strict=True)
        ]
    shifted = z - z.max(-1, keepdims=True)
    textbook = np.log(np.exp(shifted).sum(-1)) - shifted[np.arange(360), y]
    ours, theirs = all_of(capsys, *FILES)["peers"]
    assert (ours["name"], ours["lost"]) == ("xloss", 0)
    assert ours["error"] < 4 * np.finfo(np.float32).eps
    assert theirs["lost"] == sum(t == 0 and e > 0 for t, e in zip(textbook, exact, strict=True))
    assert theirs["lost"] > 90
    assert (theirs["gives"], theirs["error"]) == (0, 1)
    assert theirs["exact"] == pytest.approx(float(exact[theirs["row"]]), rel=1e-12)
    lost = [float(e) for t, e in zip(textbook, exact, strict=True) if t == 0]
    assert theirs["exact"] == pytest.approx(max(lost))


def test_ignored_rows_are_the_peers_too(capsys, few, tmp_path):
    labels = np.load(FILES[1])
    labels[1] = -100  # the worst row of all
    np.save(tmp_path / "y.npy", labels)
    ours, theirs = all_of(capsys, FILES[0], tmp_path / "y.npy")["peers"]
    assert ours["loss"] < 0.07
    assert theirs["loss"] == pytest.approx(ours["loss"], rel=1e-5)


@pytest.mark.parametrize("option", [("--label-smoothing", "0.1"), ("--loss", "focal_loss")])
def test_options_that_peers_are_not_asked_for(capsys, few, option):
    got = all_of(capsys, *FILES, *option)
    assert got["peers"] == []
    assert "without options" in got["peers_not_compared"]
    assert len(got["backends"]) == 2


def test_a_library_that_is_not_there_is_named(capsys, monkeypatch):
    monkeypatch.setattr("xloss.cli.evaluate.NAMES", ("numpy", "torch"))
    monkeypatch.setattr(peers, "PEERS", ())
    monkeypatch.setitem(__import__("sys").modules, "torch", None)
    (missing,) = all_of(capsys, *FILES)["missing"]
    assert missing["backend"] == "torch"
    assert 'pip install "xloss[torch]"' in missing["reason"]


def test_what_cannot_be_asked(capsys):
    assert "all" in refused(capsys, *FILES, "--backend", "tf")
    line = refused(capsys, *FILES, "--backend", "all", "--scheduler", "tcp://127.0.0.1:1")
    assert line.startswith("--backend all: not with --scheduler")
