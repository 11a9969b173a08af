"""xloss eval: what is printed where, hints, and losses that are not finite."""

import json
import math
import re

import ml_dtypes
import numpy as np
import pytest
from safetensors.numpy import save_file

from cli_runs import process
from xloss import cross_entropy, diagnose, engines
from xloss.cli import run_task as task_module

KEYS = "schema loss perplexity accuracy rows counted ignored worst dtype shape function shift"
KEYS += " backend engine seconds"


# ---- What is printed -----------------------------------------------------------------------------


def test_json_is_alone_on_stdout(kinds):
    logits, labels = kinds.z, kinds.y
    ran = process("eval z.npy y.npy --json --worst 2")
    assert (ran.returncode, ran.stderr) == (0, "")
    got = json.loads(ran.stdout)
    assert " ".join(got) == KEYS
    assert got["schema"] == 1
    assert got["loss"] == pytest.approx(float(cross_entropy(logits, labels)), rel=1e-7)
    assert got["perplexity"] == math.exp(got["loss"])
    kept = labels >= 0
    assert got["accuracy"] == np.mean(logits.argmax(axis=1)[kept] == labels[kept])
    assert (got["rows"], got["counted"], got["ignored"]) == (40, 35, 5)
    assert (got["dtype"], got["shape"]) == ("float64", [40, 5])
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


def test_the_terminal_says_which_loss_and_why_there_is_no_perplexity(kinds, command):
    lines = command("eval p.npy bits.npy --loss binary_cross_entropy").stdout.splitlines()
    assert lines[0].endswith(" (binary_cross_entropy)")
    assert lines[1].startswith("perplexity  none: exp(loss) is a perplexity only of ")
    assert lines[4] == "input       probabilities, float64, 40 x 5"
    assert re.fullmatch(r"computed    by numpy, engine (cpu|generic), in \d+\.\d{3} s", lines[5])


@pytest.mark.parametrize("block", [2, 8, 100])
def test_worst_rows_in_order(command, monkeypatch, block):
    monkeypatch.setattr(task_module, "BLOCK_LOGITS", block)
    logits = np.zeros((9, 2))
    logits[:, 1] = [1, 5, np.nan, 5, -np.inf, 2, np.nan, 9, 0]
    np.save("z.npy", logits)
    np.save("y.npy", [0, 0, 0, 0, 1, 0, 0, -100, 0])
    got = command.answer("z.npy y.npy --worst 20", code=1)["worst"]
    # NaN before +inf; of equal rows the earlier first; an ignored row never.
    assert [r["row"] for r in got] == [2, 6, 4, 1, 3, 5, 0, 8]
    assert [r["loss"] for r in got[:3]] == ["nan", "nan", "inf"]
    assert [r["predicted"] for r in got[2:6]] == [0, 1, 1, 1]
    for limit in range(8):
        some = command.answer(f"z.npy y.npy --worst {limit}", code=1)["worst"]
        assert some == got[:limit]


@pytest.mark.parametrize("dtype", ["float16", ml_dtypes.bfloat16, "float32", "float64"])
def test_probabilities_given_as_logits_are_hinted_at(kinds, command, dtype):
    probs = kinds.p.astype(dtype)
    probs[0] = -1  # a row that is left out tells nothing
    save_file({"p": probs}, "p.safetensors")
    hint = (
        "p.safetensors: the first rows are of numbers from 0 to 1 that sum to 1: are these prob.*"
    )
    got = command.answer("p.safetensors y.npy", hint=hint)
    expected = cross_entropy(probs.astype(np.float64), kinds.y).item()
    assert got["loss"] == pytest.approx(expected, rel=1e-3)
    later = np.vstack([kinds.z[:20], kinds.p[20:]])
    for rows in (probs * 2, -probs, np.eye(5)[kinds.y % 5].astype(dtype), later.astype(dtype)):
        save_file({"p": rows}, "p.safetensors")
        command.answer("p.safetensors y.npy")


# ---- Losses that are not finite, and none at all -------------------------------------------------


def test_findings_say_why_a_loss_is_not_finite(kinds, command):
    logits, labels = kinds.z, kinds.y
    logits[23, 2] = np.nan
    logits[[7, 31], labels[[7, 31]]] = -np.inf
    np.save("z.npy", logits)
    got = command.answer("z.npy y.npy", code=1)
    assert " ".join(got) == KEYS.replace("seconds", "findings")
    assert (got["loss"], got["perplexity"]) == ("nan", "nan")
    findings = {f["rule"]: f for f in got["findings"]}
    assert findings["masked_target"]["positions"] == [[7], [31]]
    assert findings["nan_logit"]["positions"] == [[23]]
    expected = {f.rule: (f.count, f.explanation) for f in diagnose(logits, labels).findings}
    assert {f["rule"]: (f["count"], f["explanation"]) for f in got["findings"]} == expected
    ran = command("eval z.npy y.npy")
    start = "xloss: z.npy: the loss is NaN: masked_target: 2 rows (7, 31): the "
    assert ran.stderr.startswith(start)
    assert "masked_target: 2 rows (7, 31)\n    the target" in ran.stdout


@pytest.mark.parametrize("loss", ["log_loss", "binary_cross_entropy"])
def test_where_another_loss_is_not_finite(kinds, command, loss):
    targets, at = (kinds.y, kinds.y[17]) if loss == "log_loss" else (np.ones((40, 5), int), 2)
    np.save("t.npy", targets)
    for odd, said in ((0.0, "inf"), (np.nan, "nan")):
        kinds.p[17, at] = odd
        np.save("p.npy", kinds.p)
        got = command.answer(f"p.npy t.npy --loss {loss}", code=int(said == "nan"))
        assert got["loss"] == got["worst"][0]["loss"] == said
        assert np.atleast_1d(got["worst"][0]["row"])[0] == 17


def test_a_row_that_is_left_out_may_hold_anything(kinds, command):
    kinds.y[23] = -100
    np.save("y.npy", kinds.y)
    expected = command.answer("p.npy y.npy --loss log_loss")
    kinds.p[23] = [-1, np.nan, np.inf, 7, 0]
    np.save("p.npy", kinds.p)
    assert command.answer("p.npy y.npy --loss log_loss") == expected
