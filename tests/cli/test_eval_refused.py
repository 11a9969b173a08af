"""xloss eval: what is refused, in one line and with exit code 2, and what was probably meant."""

import os
import re
import sys
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save_file

from cli_runs import fits, process
from xloss.cli import evaluate as evaluate_module
from xloss.cli import run_task as task_module

ROWS, CLASSES = 30, 7
RNG = np.random.default_rng(3)
Z, Y = RNG.normal(size=(ROWS, CLASSES)).astype("f4"), np.arange(ROWS) % CLASSES
P, BITS = RNG.dirichlet(np.ones(CLASSES), ROWS), (RNG.random((ROWS, CLASSES)) < 0.4).astype("i1")
SEQUENCES = RNG.normal(size=(5, 6, CLASSES))
MARKED = np.where(Y == 3, -100, Y)
SIZES = {"shard-1": 5, "shard-2": 0, "shard-9": 8, "shard-10": 17}


def but(array, at, value):
    changed = array.copy()
    changed[at] = value
    return changed


def shards(name, array):
    os.mkdir(name)
    for shard, part in zip(SIZES, np.split(array, np.cumsum([*SIZES.values()])[:-1]), strict=True):
        np.save(f"{name}/{shard}.npy", part)


@pytest.fixture(autouse=True)
def given(folder, monkeypatch):
    """Logits, labels, probabilities and elementwise targets; in shards and .csv files too."""
    monkeypatch.setattr(task_module, "BLOCK_LOGITS", 7 * 8)
    for name, array in {
        "z": Z,
        "y": Y,
        "p": P,
        "bits": BITS,
        "few": Y[:9],
        "negative": but(P, (23, 4), -0.5),
        "above": but(P, (23, 4), 1.5),
        "whole": Y.astype("f8"),
        "classless": np.zeros((ROWS, 0)),
        "w": but(np.ones(CLASSES), 2, -2),
        "nan": but(np.ones(CLASSES), 3, np.nan),
        "inf": but(np.ones(CLASSES), 0, np.inf),
        "one": Z[:, :1],
        "bit": BITS[:, 0],
        "seq": SEQUENCES,
        "seq-y": but(np.zeros((5, 6), int), (3, 5), 9),
    }.items():
        np.save(f"{name}.npy", array)
    shards("z", Z)
    shards("y", Y)
    Path("y.csv").write_text("\n".join(["id,y", *(f"{i},{y}" for i, y in enumerate(Y))]))
    Path("bad.csv").write_text("\n".join(map(str, but(Y, 29, 7))))
    for name in ("empty", "mixed", "pickles"):
        os.mkdir(name)
    np.savez("mixed/more.npz", z=Z)
    for name in ("logits.pt", "logits.PKL", "pickles/logits.ckpt"):
        Path(name).write_bytes(b"whatever")


BCE = "--loss binary_cross_entropy"
REFUSED = {
    # Files and arguments.
    "z.npy": "Missing argument 'TARGETS'. (see xloss eval --help)",
    "none.npy y.npy": "none.npy: No such file ...",
    f"{'x' * 300}.npz::z y.npy": "...x.npz: File name too long",
    "'' y.npy": "'': expected the name of a file",
    "::a y.npy": "'::a': expected the name of a file",
    "z.npy y.npy --axis one": "Invalid value for '--axis'...",
    "z.npy y.npy --worst -1": "Invalid value for '--worst'...",
    "z.npy y.npy --fast": "No such option: --fast...",
    "z.npy y.npy --backend numpyy": "--backend numpyy: expected one of numpy, torch, ..., or all",
    "z.npy y.npy --backend all --scheduler tcp://127.0.0.1:1": "--backend all: not with ...",
    "z.npy y.npy --loss bce": "--loss bce: expected one of cross_entropy, ..., sigmoid_focal_loss",
    "logits.pt y.npy": "logits.pt: a .pt file is a pickle, ...save_file(...) or numpy.save(...)",
    "z.npy logits.PKL::x": "logits.PKL: a .pkl file is a pickle, which can run any code ...",
    "pickles y.npy": "pickles/logits.ckpt: a .ckpt file is a pickle, ...",
    # Logits and options.
    "y.npy y.npy": "y.npy: expected floating logits, got int64 of shape (30,)",
    "classless.npy y.npy": "classless.npy: expected at least one class...",
    "z.npy y.npy --axis 2": "z.npy: has no axis 2: its shape is (30, 7)...",
    "z.npy y.npy --label-smoothing 2": "label_smoothing: expected a number...",
    "z.npy p.npy --ignore-index 3": "ignore_index: 3 has no meaning...",
    "z.npy y.npy --weight few.npy": "weight: expected shape (7,)...",
    "z.npy y.npy --weight none.npy": "none.npy: No such file ...",
    "z.npy y.npy --weight w.npy": "w.npy: weight -2.0 of class 2: expected 0 or a positive number",
    "p.npy y.npy --loss log_loss --weight nan.npy": "nan.npy: weight nan of class 3: ...",
    "z y --weight inf.npy": "inf.npy: weight inf of class 0: ...",
    # Options that a loss does not have.
    f"z.npy bits.npy {BCE} --axis 1": "--axis: ... has no such option; only cross_entropy, ...",
    "p.npy p.npy --loss kl_div --ignore-index -100": "--ignore-index: kl_div has no ...",
    f"z.npy bits.npy {BCE}_with_logits --weight w.npy": "--weight: ... only cross_...",
    "z.npy bits.npy --loss sigmoid_focal_loss --label-smoothing 0": "--label-smoothing: sigmoid...",
    "z.npy y.npy --loss nll_loss --eps 1e-7": "...only log_loss, binary_cross_entropy",
    "z.npy y.npy --gamma 2": "--gamma: cross_entropy has ...; only focal_loss, sigmoid_focal_loss",
    "z.npy y.npy --loss focal_loss --alpha 0.5": "--alpha: ...; only sigmoid_focal_loss",
    "seq.npy seq.npy --shift --loss kl_div": "--shift: kl_div has no such option; ...",
    # Labels.
    "z.npy bad.csv": "bad.csv: label 7 of row 29 is not in [0, 7)...",
    "z.npy y.csv": "...; pick the column of the labels by y.csv::NAME",
    "p.npy y.npy --loss kl_div": "y.npy: kl_div expected probabilities of ...",
    "y.npy z.npy": "...; are the two files swapped?",
    "whole.npy z.npy": "...; are the two files swapped?",
    "p.npy z.npy": "...is not negative; are these logits, or the two files swapped?",
    "z.npy negative.npy": "negative.npy: -0.5 of row 23, class 4: a probability is not negative...",
    # Numbers of another kind than the loss reads.
    "negative.npy y.npy --loss log_loss": "negative.npy: -0.5 of row 23, class 4: ... no --loss",
    f"above.npy bits.npy {BCE}": f"above.npy: 1.5 of row [23, 4]: ... then give {BCE}_with...",
    f"bits.npy bits.npy {BCE}": "bits.npy: expected floating probabilities, got int8 ...",
    "one.npy bit.npy": f"...; one logit a row? that is {BCE}_with_logits",
    f"z.npy y.npy {BCE}_with_logits": "y.npy: ...; one class index for each row? ...",
    # Shards.
    "z.npy y": "y: is a folder of shards, and z.npy is a file",
    "z y --axis 0": "z: shards are joined along axis 0: it cannot be the class axis",
    "z y/shard-1.npy": "...expected labels of shape (30,)...",
    "mixed y": "mixed: expected shards in .npy files alone, got more.npz too",
    "empty y": "empty: is a folder without a .npy file",
    # Sequences.
    "seq.npy seq-y.npy --shift": "seq-y.npy: label 9 of row [3, 5] is not in [0, 7)...",
    "z.npy y.npy --shift": "--shift: expected z.npy of shape (batch, time, classes), got (30...",
    "z y --shift": "--shift: expected z of shape (batch, time, classes), got (30, 7)...",
    "seq.npy seq.npy --shift": "--shift: expected integer labels in seq.npy, got float64 ...",
}

LABELS = {
    "y.npy: expected labels of shape (30,), that of the logits (30, 7) with...": Y[:9],
    "...; did you mean --axis 0?": np.arange(7),
    "y.npy: label 7 of row 29 is not in [0, 7) and not the ignored -100; ...": but(Y, 29, 7),
    "y.npy: label 7 of row 13 is not in [0, 7)...": but(Y, 13, 7)[:, None],
    "...label 255 of ...; did you mean --ignore-index 255?": np.where(Y == 3, 255, Y),
    "...label 156 of ...; did you mean --ignore-index 156?": MARKED.astype("u1"),
    f"...; did you mean --ignore-index {2**64 - 100}?": MARKED.astype("u8"),
    "...label -1 of ...; did you mean --ignore-index -1?": np.where(Y == 3, -1, Y),
    "y.npy: label 255 of row 0 is not in [0, 7) and not the ignored -100": but(Y + 248, 0, 255),
    "...label 7 of ...; do the labels begin at 1? they begin at 0 here": Y + 1,
    "...(1, 30); drop the axis of length 1: save y.reshape((30,))": Y[None],
    "...; its values are whole; labels are integers: save y.astype(np.int64)": Y.astype("f8"),
    "y.npy: ...; got float64 of shape (30,)": Y + 0.5,
    "...integers: save y.reshape((30,)).astype(np.int64)": Y[:, None].astype("f4"),
    "...got bool of shape (30,); labels are integers: save y.astype(np.int64)": Y > 3,
    "...; one-hot labels? save them as class indices, y.argmax(1)...": np.eye(7, dtype=int)[Y],
}
ELEMENTS = {
    "t.npy: label 2 of row [11, 3] is neither 0 nor 1": but(BITS, (11, 3), 2),
    "t.npy: ...; labels of -1 and 1? save (y + 1) // 2": but(BITS * 2 - 1, (0, 0), -1),
    "t.npy: 1.25 of row [11, 3]: expected ... [0, 1]": but(BITS * 1.0, (11, 3), 1.25),
    "t.npy: expected one target for each element...": np.zeros((ROWS, CLASSES - 1)),
}
SHARDS = {  # what is said of one shard that is another
    "z/shard-9.npy: expected shape (*, 7), as z/shard-1.npy has, got ...": np.zeros((8, 6), "f4"),
    "z/shard-2.npy: expected shape (*, 7), as z/shard-1.npy has, got ...": np.array(0, "f4"),
    "z/shard-10.npy: expected float32, as z/shard-1.npy is, got ...": np.zeros((17, 7)),
    "y/shard-9.npy: expected labels of shape (8,)...": np.zeros(7, int),
    "y/shard-10.npy: expected int64, as y/shard-1.npy is, got ...": np.zeros(17, "i1"),
    "y/shard-10.npy: label 7 of row 2 (15 of the whole) is not ...": but(np.zeros(17, int), 2, 7),
    "y: holds shard-3.npy, and z does not": np.zeros(1, int),
    "y: holds no shard-3.npy, which z does": np.zeros((1, 7), "f4"),
}


@pytest.mark.parametrize("line", REFUSED)
def test_what_cannot_be_evaluated_is_refused_in_one_line(command, line):
    assert fits(REFUSED[line], command.refusal(f"eval {line}"))


@pytest.mark.parametrize("said", LABELS)
def test_labels_that_do_not_fit_are_refused_with_what_was_meant(command, said):
    np.save("y.npy", LABELS[said])
    assert fits(said, command.refusal("eval z.npy y.npy"))


@pytest.mark.parametrize("said", ELEMENTS)
def test_targets_that_no_element_can_have_are_refused(command, said):
    np.save("t.npy", ELEMENTS[said])
    assert fits(said, command.refusal(f"eval z.npy t.npy {BCE}_with_logits"))


@pytest.mark.parametrize("said", SHARDS)
def test_shards_that_do_not_fit_are_refused(command, said):
    array = SHARDS[said]
    np.save(
        f"{'z' if array.dtype.kind == 'f' else 'y'}/{re.search('shard-[0-9]+', said)[0]}", array
    )
    assert fits(said, command.refusal("eval z y"))


@pytest.mark.skipif(os.name == "nt", reason="no FIFOs")
@pytest.mark.parametrize(
    "line", ["x.npy y.npy", "z.npy x.npy", "z.npy y.npy --weight x.npy", "z y"]
)
def test_a_fifo_is_never_waited_for(command, line):
    name = "z/shard-11.npy" if line == "z y" else "x.npy"
    os.mkfifo(name)
    assert command.refusal(f"eval {line}") == f"{name}: is a FIFO, a socket or a device, not a file"


def test_the_label_that_a_hint_ignores_may_be_larger_than_any_int64(command):
    for name, array in (("marked", MARKED), ("u8", MARKED.astype("u8"))):
        np.save(f"{name}.npy", array)
    got = command.answer(f"z.npy u8.npy --ignore-index {2**64 - 100}")
    assert got == command.answer("z.npy marked.npy")


def test_a_file_that_changes_while_it_is_read_is_refused(command, monkeypatch):
    opened = evaluate_module.open_inputs

    def late(question):
        whole = opened(question)
        np.save("z/shard-10.npy", np.zeros((18, 7), np.float32))
        return whole

    monkeypatch.setattr(evaluate_module, "open_inputs", late)
    said = command.refusal("eval z y")
    assert fits("z/shard-10.npy: is float32 of shape (18, 7), and was float32 of shape ...", said)


# ---- What is not installed, and what breaks ------------------------------------------------------

MISSING = {
    "torch": (
        "--backend torch",
        '--backend torch: not installed: pip install "xloss[torch',
    ),
    "jax": ("--backend jax", '--backend jax: not installed: pip install "xloss[jax]"'),
    "cupy": ("--backend cupy", '--backend cupy: not installed: pip install "xloss[cupy]"'),
    "safetensors": ("z.safetensors", 'z.safetensors: needs safetensors: pip install "xloss[cli]"'),
    "ml_dtypes": ("z.safetensors", 'z.safetensors: needs ml_dtypes: pip install "xloss[cli]"'),
    "distributed": (
        "--scheduler tcp://127.0.0.1:1",
        '--scheduler: distributed is not installed: pip install "xloss[distributed]"',
    ),
}


@pytest.mark.parametrize("name", MISSING)
def test_a_package_that_is_not_installed_is_named(command, monkeypatch, name):
    save_file({"z": Z}, "z.safetensors")
    monkeypatch.setitem(sys.modules, name, None)
    what, said = MISSING[name]
    line = f"{what} y.npy" if what.endswith("safetensors") else f"z.npy y.npy {what}"
    assert command.refusal(f"eval {line}").startswith(said)
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
def test_an_unexpected_exception_is_one_line(files, command, monkeypatch, said):
    def broken(call):
        raise BROKEN[said]

    monkeypatch.setattr(task_module, "measure", broken)
    assert command.refusal("eval z.npy y.npy") == said


def test_ctrl_c(files, command, monkeypatch):
    def interrupted(call):
        raise KeyboardInterrupt

    monkeypatch.setattr(task_module, "measure", interrupted)
    assert command("eval z.npy y.npy").returncode == 130
