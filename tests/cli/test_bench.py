"""xloss bench: what is printed where, exit codes, the record, refusals."""

import json
import re
from unittest.mock import DEFAULT, Mock

import pytest
import scipy.special

from cli_runs import process
from xloss_conformance import bench

KEYS = "schema xloss date mode command machine versions threads load seconds contenders missing"
KEYS += " works"


@pytest.fixture(autouse=True)
def small(monkeypatch):
    """Shapes that take no time, and no library of xloss's that compiles first."""
    monkeypatch.setattr(bench, "OURS", ("numpy",))
    monkeypatch.setattr(bench, "SHAPES", ((6, 5), (8, 3)))
    monkeypatch.setattr(bench, "QUICK_SHAPES", ((6, 5),))


def test_json_is_alone_on_stdout_and_whole(command):
    ran = command("bench --quick --peer scipy --json")
    assert ran.returncode == 0
    record = json.loads(ran.stdout)
    assert set(record) == set(KEYS.split())
    assert (record["schema"], record["command"]) == (1, f"xloss {ran.args}")
    value, gradient = record["works"]
    assert (value["shape"], value["gradient"], gradient["gradient"]) == ([6, 5], False, True)
    assert [one["contender"] for one in value["runs"]] == ["xloss numpy", "scipy"]
    for one in value["runs"]:
        assert 0 < one["min_ms"] <= one["q1_ms"] <= one["median_ms"] <= one["q3_ms"]
        assert one["gb_s"] == pytest.approx(value["moved"] / one["median_ms"] / 1e6)
    assert gradient["refused"] == [{"contender": "scipy", "reason": "gives no gradient"}]


def test_one_table(command):
    first, second, ours, scipy, *_, last = command("bench --peer scipy").stdout.splitlines()
    assert re.fullmatch(r"milliseconds +\(6, 5\) +\(6, 5\) +\(8, 3\) +\(8, 3\)", first)
    assert re.fullmatch(r" +value +with gradient +value +with gradient", second)
    assert re.match(r"xloss numpy \((cpu|generic)\)( +[\d.e-]+){4}$", ours)
    assert re.match(r"scipy( +[\d.e-]+ +-){2}$", scipy)
    assert re.fullmatch(r"\d+ threads, in \d+ s", last)


def test_a_wrong_answer_is_not_timed(command, monkeypatch):
    torch = pytest.importorskip("torch")
    right = torch.nn.functional.cross_entropy
    monkeypatch.setattr(torch.nn.functional, "cross_entropy", lambda z, y: right(z, y) * 1.01)
    out = command("bench --quick --peer torch").stdout
    assert re.search(r"^torch +- +-$", out, re.MULTILINE)
    assert re.search(r"^not timed: torch: computes something else: ", out, re.MULTILINE)


def test_a_peer_that_is_not_installed_or_unknown(command, folder, monkeypatch):
    lines = "print('noise', flush=True)", "raise ModuleNotFoundError('no optax', name='optax')"
    (folder / "optax.py").write_text("\n".join(lines))
    monkeypatch.setenv("PYTHONPATH", str(folder))
    few = "from xloss_conformance import bench; bench.OURS = ('numpy',)"
    ran = process("bench --peer optax", before=few)
    assert (ran.returncode, ran.stdout) == (2, "")
    assert ran.stderr == "noise\nxloss: optax: optax is not installed: pip install optax\n"
    expected = "--peer jax: expected one of torch, optax, keras, tensorflow, sklearn, scipy"
    assert command.refusal("bench --peer jax") == expected


def test_a_contender_that_fails_while_it_is_timed_leaves_the_others_their_times(
    command, monkeypatch
):
    """Its first answer was right; memory that runs out later is no reason to lose the table."""
    answers = [DEFAULT, DEFAULT, MemoryError("no room")]
    tired = Mock(wraps=scipy.special.log_softmax, side_effect=answers)
    monkeypatch.setattr(scipy.special, "log_softmax", tired)
    ran = command("bench --quick --peer scipy --json")
    assert ran.returncode == 0
    value, _ = json.loads(ran.stdout)["works"]
    assert [one["contender"] for one in value["runs"]] == ["xloss numpy"]
    assert value["refused"] == [{"contender": "scipy", "reason": "fails: MemoryError: no room"}]
