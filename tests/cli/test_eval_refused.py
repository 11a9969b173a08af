"""xloss eval: what is refused, in one line and with exit code 2, and what was probably meant."""

import os
import sys
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save_file

from cli_runs import fits, process, save_shards
from xloss.cli import run_task as task_module

ROWS, CLASSES = 30, 7
RNG = np.random.default_rng(3)
Z, Y = RNG.normal(size=(ROWS, CLASSES)).astype("f4"), np.arange(ROWS) % CLASSES
P, BITS = RNG.dirichlet(np.ones(CLASSES), ROWS), (RNG.random((ROWS, CLASSES)) < 0.4).astype("i1")
MARKED = np.where(Y == 3, -100, Y)


def but(array, at, value):
    changed = array.copy()
    changed[at] = value
    return changed


@pytest.fixture(autouse=True)
def given(folder, monkeypatch):
    """Logits, labels, probabilities and elementwise targets; in shards too."""
    monkeypatch.setattr(task_module, "BLOCK_LOGITS", 7 * 8)
    for name, array in {
        "z": Z,
        "y": Y,
        "p": P,
        "bits": BITS,
        "few": Y[:9],
        "negative": but(P, (23, 4), -0.5),
        "above": but(P, (23, 4), 1.5),
        "classless": np.zeros((ROWS, 0)),
        "w": but(np.ones(CLASSES), 2, -2),
        "nan": but(np.ones(CLASSES), 3, np.nan),
        "inf": but(np.ones(CLASSES), 0, np.inf),
        "seq": RNG.normal(size=(5, 6, CLASSES)),
        "seq-y": but(np.zeros((5, 6), int), (3, 5), 9),
    }.items():
        np.save(f"{name}.npy", array)
    save_shards("z", Z)
    save_shards("y", Y)
    os.mkdir("empty")
    Path("y.csv").write_text("\n".join(["id,y", *(f"{i},{y}" for i, y in enumerate(Y))]))
    Path("logits.pt").write_bytes(b"whatever")


BCE = "--loss binary_cross_entropy"
REFUSED = {
    # Files and arguments.
    "z.npy": "Missing argument 'TARGETS'. (see xloss eval --help)",
    "none.npy y.npy": "none.npy: No such file ...",
    "::a y.npy": "'::a': expected the name of a file",
    "z.npy y.npy --fast": "No such option: --fast...",
    "z.npy y.npy --backend numpyy": "--backend numpyy: expected one of numpy, torch, ..., or all",
    "z.npy y.npy --backend all --scheduler tcp://127.0.0.1:1": "--backend all: not with ...",
    "z.npy y.npy --loss bce": "--loss bce: expected one of cross_entropy, ..., sigmoid_focal_loss",
    "logits.pt y.npy": "logits.pt: a .pt file is a pickle, ...save_file(...) or numpy.save(...)",
    # Logits and options.
    "y.npy y.npy": "y.npy: expected floating logits, got int64 of shape (30,)",
    "classless.npy y.npy": "classless.npy: expected at least one class...",
    "z.npy y.npy --axis 2": "z.npy: has no axis 2: its shape is (30, 7)...",
    "z.npy y.npy --label-smoothing 2": "label_smoothing: expected a number...",
    "z.npy y.npy --weight few.npy": "weight: expected shape (7,)...",
    "z y --weight inf.npy": "inf.npy: weight inf of class 0: ...",
    "p.npy y.npy --loss log_loss --weight nan.npy": "nan.npy: weight nan of class 3: ...",
    "z.npy y.npy --weight w.npy": "w.npy: weight -2.0 of class 2: expected 0 or a positive number",
    # Options that a loss does not have.
    f"z.npy bits.npy {BCE} --axis 1": "--axis: ... has no such option; only cross_entropy, ...",
    # Targets.
    "z.npy y.csv": "y.csv: ...got float64 of shape (30, 2); pick one column by y.csv::NAME",
    "p.npy y.npy --loss kl_div": "y.npy: kl_div expected probabilities of the logits' shape ...",
    "y.npy z.npy": "...; are the two files swapped?",
    "p.npy z.npy": "...expected a probability; are these logits, or the files swapped?",
    "z.npy negative.npy": "negative.npy: -0.5 of row 23, class 4: expected a probability...",
    f"z.npy y.npy {BCE}_with_logits": "y.npy: ...expected one target for each element, shape ...",
    # Numbers of another kind than the loss reads.
    "negative.npy y.npy --loss log_loss": "negative.npy: -0.5 of row 23, class 4: ... no --loss",
    "above.npy y.npy --loss nll_loss": "above.npy: ... of row 0, class 0: ...log-probabilities...",
    f"above.npy bits.npy {BCE}": f"above.npy: 1.5 of row [23, 4]...then give {BCE}_with_logits",
    # Shards.
    "z.npy y": "y: is a folder of shards, and z.npy is a file",
    "z y --axis 0": "z: shards are joined along axis 0: it cannot be the class axis",
    "empty y": "empty: is a folder without a .npy file",
    # Sequences.
    "seq.npy seq-y.npy --shift": "seq-y.npy: label 9 of row [3, 5] is not in [0, 7)...",
    "z y --shift": "--shift: expected z of shape (batch, time, classes), got (30, 7)...",
    "seq.npy seq.npy --shift": "--shift: expected integer labels in seq.npy, got float64 ...",
}

# What is said of a file with another array in it: labels of cross_entropy (y), targets of a binary
# loss (t), or one shard.
UNFIT = {
    "y.npy: cross_entropy expected integer labels of shape (30,), or proba...": ("y", Y[:9]),
    "...; did you mean --axis 0?": ("y", np.arange(7)),
    "y.npy: label 8 of row 13 is not in [0, 7)...": ("y", but(Y, 13, 8)[:, None]),
    "...255 of ...; did you mean --ignore-index 255?": ("y", np.where(Y == 3, 255, Y)),
    f"...; did you mean --ignore-index {2**64 - 100}?": ("y", MARKED.astype("u8")),
    "...label 7 of ...; do the labels begin at 1? they begin at 0 here": ("y", Y + 1),
    "...; if these are labels, save y.astype(np.int64)": ("y", Y[:, None].astype("f4")),
    "...; one-hot labels? save them as class indices, y.argmax(1)...": (
        "y",
        np.eye(7, dtype=int)[Y],
    ),
    "t.npy: 2 of row [11, 3]: expected 0 or 1": ("t", but(BITS, (11, 3), 2)),
    "t.npy: 1.25 of row [11, 3]: expected ... [0, 1]": ("t", but(BITS * 1.0, (11, 3), 1.25)),
    "z/shard-9.npy: expected float32 of shape (*, 7), as z...": ("z/shard-9", np.zeros((8, 6))),
    "z/shard-2.npy: expected float32 of shape (*, 7), as ...": ("z/shard-2", np.array(0, "f4")),
    "y/shard-9.npy: ...integer labels of shape (10,), or ...": ("y/shard-9", np.zeros(7, int)),
    "y/shard-10.npy: label 8 of row 2 is not ...": ("y/shard-10", but(np.zeros(15, int), 2, 8)),
    "y: has other files than z: shard-3.npy is in only one": ("y/shard-3", np.zeros(1, int)),
}


@pytest.mark.parametrize("line", REFUSED)
def test_what_cannot_be_evaluated_is_refused_in_one_line(command, line):
    assert fits(REFUSED[line], command.refusal(f"eval {line}"))


@pytest.mark.parametrize("said", UNFIT)
def test_an_array_that_does_not_fit_is_refused_with_what_was_meant(command, said):
    name, array = UNFIT[said]
    np.save(f"{name}.npy", array)
    line = {"y": "z.npy y.npy", "t": f"z.npy t.npy {BCE}_with_logits"}.get(name, "z y")
    assert fits(said, command.refusal(f"eval {line}"))


def test_the_label_that_a_hint_ignores_may_be_larger_than_any_int64(command):
    for name, array in (("marked", MARKED), ("u8", MARKED.astype("u8"))):
        np.save(f"{name}.npy", array)
    got = command.answer(f"z.npy u8.npy --ignore-index {2**64 - 100}")
    assert got == command.answer("z.npy marked.npy")


# ---- What is not installed, and what breaks ------------------------------------------------------

MISSING = {
    "jax": ("z.npy y.npy --backend jax", '--backend jax: not installed: pip install "xloss[jax]"'),
    "safetensors": ("z.safetensors y.npy", "z.safetensors: needs safetensors: pip install ..."),
    "distributed": ("z y --scheduler tcp://127.0.0.1:1", "--scheduler: ...xloss[distributed]..."),
}


@pytest.mark.parametrize("name", MISSING)
def test_a_package_that_is_not_installed_is_named(command, monkeypatch, name):
    save_file({"z": Z}, "z.safetensors")
    monkeypatch.setitem(sys.modules, name, None)
    line, said = MISSING[name]
    assert fits(said, command.refusal(f"eval {line}"))
    assert command.answer("z.npy y.npy")["rows"] == ROWS


@pytest.mark.parametrize(("name", "line"), [("typer", "eval a b"), ("rich", "conform")])
def test_without_the_extra_the_command_says_what_to_install(name, line):
    ran = process(line, before=f"import sys; sys.modules[{name!r}] = None")
    assert (ran.returncode, ran.stdout) == (2, "")
    assert ran.stderr == f'xloss: the command line needs {name}: pip install "xloss[cli]"\n'


BROKEN = {
    "RuntimeError: CUDA error: unspecified (python -X dev shows where)": RuntimeError(
        "CUDA error:\nunspecified"
    ),
    "out of memory: of 8 GiB": MemoryError("of 8 GiB"),
    "No such device": OSError("No such device"),
}


@pytest.mark.parametrize("said", BROKEN)
def test_an_unexpected_exception_is_one_line(command, monkeypatch, said):
    def broken(call):
        raise BROKEN[said]

    monkeypatch.setattr(task_module, "measure", broken)
    assert command.refusal("eval z.npy y.npy") == said
