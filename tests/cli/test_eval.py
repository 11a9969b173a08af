"""xloss eval: what is printed where, options, and losses that are not finite."""

import json
import math

import numpy as np
import pytest

from cli_runs import answer, process
from places import ROOT
from xloss import cross_entropy, diagnose, engines
from xloss.cli import run_task as task_module
from xloss.cli.app import run

RNG = np.random.default_rng(5)
DATA = ROOT / "examples" / "data"
KEYS = [
    "schema",
    "loss",
    "perplexity",
    "accuracy",
    "rows",
    "counted",
    "ignored",
    "worst",
    "dtype",
    "shape",
    "function",
    "shift",
    "backend",
    "engine",
    "seconds",
]


# ---- What is printed -----------------------------------------------------------------------------


def test_json_is_alone_on_stdout(files):
    logits, labels = files
    ran = process("eval", "z.npy", "y.npy", "--json", "--worst", 2)
    assert (ran.returncode, ran.stderr) == (0, "")
    got = json.loads(ran.stdout)
    assert list(got) == KEYS
    assert got["schema"] == 1
    assert got["loss"] == pytest.approx(float(cross_entropy(logits, labels)), rel=1e-7)
    assert got["perplexity"] == math.exp(got["loss"])
    kept = labels >= 0
    assert got["accuracy"] == np.mean(logits.argmax(axis=1)[kept] == labels[kept])
    assert (got["rows"], got["counted"], got["ignored"]) == (300, 270, 30)
    assert (got["dtype"], got["shape"]) == ("float32", [300, 7])
    engine = "cpu" if engines()["cpu"] is None else "generic"
    assert (got["backend"], got["engine"]) == ("numpy", engine)
    assert 0 < got["seconds"] < 60
    rows = cross_entropy(logits, labels, reduction="none")
    first = int(rows.argmax())
    assert got["worst"][0] == {
        "row": first,
        "label": labels[first],
        "predicted": logits[first].argmax(),
        "loss": float(rows[first]),
    }
    assert len(got["worst"]) == 2


@pytest.mark.parametrize("block", [2, 4, 8, 100])
def test_worst_rows_in_order(files, capsys, monkeypatch, block):
    monkeypatch.setattr(task_module, "BLOCK_LOGITS", block)
    logits = np.zeros((9, 2))
    logits[:, 1] = [1, 5, np.nan, 5, -np.inf, 2, np.nan, 9, 0]
    labels = np.array([0, 0, 0, 0, 1, 0, 0, -100, 0])
    np.save("z.npy", logits)
    np.save("y.npy", labels)
    got = answer(capsys, "z.npy", "y.npy", "--worst", 20, code=1)["worst"]
    # NaN before +inf; of equal rows the earlier first; an ignored row never.
    assert [r["row"] for r in got] == [2, 6, 4, 1, 3, 5, 0, 8]
    assert [r["loss"] for r in got[:3]] == ["nan", "nan", "inf"]
    assert [r["predicted"] for r in got[2:6]] == [0, 1, 1, 1]
    for limit in range(8):
        some = answer(capsys, "z.npy", "y.npy", "--worst", limit, code=1)["worst"]
        assert some == got[:limit]


# ---- Losses that are not finite, and none at all -------------------------------------------------


def test_findings_say_why_a_loss_is_not_finite(files, capsys, monkeypatch):
    logits, labels = files
    logits[123, 2] = np.nan
    logits[[7, 251], labels[[7, 251]]] = -np.inf
    np.save("z.npy", logits)
    monkeypatch.setattr(task_module, "BLOCK_LOGITS", 7 * 60)
    got = answer(capsys, "z.npy", "y.npy", code=1)
    assert list(got) == [*KEYS[:-1], "findings"]
    assert (got["loss"], got["perplexity"]) == ("nan", "nan")
    findings = {f["rule"]: f for f in got["findings"]}
    assert findings["masked_target"]["positions"] == [[7], [251]]
    assert findings["nan_logit"]["positions"] == [[123]]
    expected = {f.rule: (f.count, f.explanation) for f in diagnose(logits, labels).findings}
    assert {f["rule"]: (f["count"], f["explanation"]) for f in got["findings"]} == expected
    assert run(["eval", "z.npy", "y.npy"]) == 1
    out, err = capsys.readouterr()
    assert err.startswith("xloss: z.npy: the loss is NaN: masked_target: 2 rows (7, 251): the ")
    assert "; nan_logit: 1 row (123): a logit is NaN: so is the loss\n" in err
    assert err.count("\n") == 1
    assert "loss        nan\n" in out
    assert "masked_target: 2 rows (7, 251)\n    the target" in out


def test_an_infinite_loss_is_the_string_inf_in_json(files, capsys):
    np.save("z.npy", np.array([[0.0, 1.7e308], [0.0, 1.7e308]]))
    np.save("y.npy", np.array([0, 0]))
    got = answer(capsys, "z.npy", "y.npy")
    assert (got["loss"], got["perplexity"]) == ("inf", "inf")
    assert [f["rule"] for f in got["findings"]] == ["overflow"]


@pytest.mark.parametrize("rows", [0, 3])
def test_nothing_counted(files, capsys, rows):
    np.save("z.npy", np.zeros((rows, 2)))
    np.save("y.npy", np.full(rows, -100))
    got = answer(capsys, "z.npy", "y.npy")
    assert (got["loss"], got["accuracy"], got["worst"]) == (0.0, "nan", [])
    assert (got["counted"], got["ignored"]) == (0, rows)
