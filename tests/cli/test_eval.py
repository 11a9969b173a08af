"""xloss eval: what is printed where, options, and losses that are not finite."""

import json
import math
import subprocess
import sys
import sysconfig
from pathlib import Path

import ml_dtypes
import numpy as np
import pytest
from safetensors.numpy import save_file

from cli_runs import answer, evaluated, process
from places import ROOT
from xloss import cross_entropy, diagnose, engines, evaluation
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


def test_the_first_line_of_the_readme():
    script = Path(sysconfig.get_path("scripts")) / "xloss"
    # From a source tree nothing is installed: what the script does, without it.
    begins = [script] if script.exists() else [sys.executable, "-m", "xloss.cli"]
    ran = subprocess.run(
        [*begins, "eval", DATA / "digits_logits.npy", DATA / "digits_labels.npy"],
        capture_output=True,
        text=True,
        check=True,
    )
    assert ran.stderr == ""
    said = dict(line.split(None, 1) for line in ran.stdout.splitlines()[:6])
    assert said["loss"].startswith("0.28379")
    assert said["accuracy"] == "94.17%"
    assert said["rows"] == "360: 360 counted, 0 ignored"
    worst = ran.stdout.partition("worst rows\n")[2].splitlines()
    assert worst[0].split() == ["row", "label", "predicted", "loss"]
    assert worst[1].split()[:3] == ["332", "4", "8"]
    assert len(worst) == 6


def test_the_measured_rows_are_those_of_the_evaluation(files, capsys):
    record = evaluation.Evaluation().update(*files).result()
    assert answer(capsys, "z.npy", "y.npy")["loss"] == record.loss


# ---- Options -------------------------------------------------------------------------------------


def test_options_reach_the_loss(files, capsys):
    logits, labels = files
    weight = RNG.uniform(size=7)
    np.savez("w.npz", w=weight)
    np.save("y.npy", np.where(labels < 0, 255, labels).astype(np.uint8))
    got = answer(
        capsys,
        "z.npy",
        "y.npy",
        "--ignore-index",
        255,
        "--label-smoothing",
        0.2,
        "--weight",
        "w.npz::w",
        "--worst",
        0,
    )
    expected = cross_entropy(logits, labels, weight=weight, label_smoothing=0.2)
    assert got["loss"] == pytest.approx(float(expected), rel=1e-6)
    assert got["worst"] == []


def test_soft_targets(files, capsys):
    logits, _ = files
    soft = RNG.dirichlet(np.ones(7), 300)
    save_file({"z": logits.T.copy(), "t": soft.T.copy()}, "both.safetensors")
    got = answer(capsys, "both.safetensors::z", "both.safetensors::t", "--axis", 0)
    assert got["loss"] == pytest.approx(float(cross_entropy(logits, soft)), rel=1e-6)
    assert got["accuracy"] == np.mean(logits.argmax(axis=1) == soft.argmax(axis=1))
    assert got["worst"][0]["label"] == soft[got["worst"][0]["row"]].argmax()


@pytest.mark.parametrize("backend", ["torch", "jax"])
def test_backends_agree(files, capsys, backend):
    logits, _ = files
    save_file({"z": logits.astype(ml_dtypes.bfloat16)}, "z.safetensors")
    np.save("z64.npy", logits.astype(np.float64) + 1e-9)
    within = {"z.npy": 2e-7, "z.safetensors": 2e-7, "z64.npy": 1e-15}
    found = evaluated(capsys, backend, *((name, "y.npy") for name in within))
    for got, (name, rel) in zip(found, within.items(), strict=True):
        expected = answer(capsys, name, "y.npy")
        assert got["backend"] == backend
        assert got["loss"] == pytest.approx(expected["loss"], rel=rel)
        assert got["dtype"] == expected["dtype"]
        assert [r["row"] for r in got["worst"]] == [r["row"] for r in expected["worst"]]


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
