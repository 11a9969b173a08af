"""xloss eval: what is refused, in one line and with exit code 2, and what was probably meant."""

import os
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
SEQ, SEQ_Y = RNG.normal(size=(5, 6, 4)), np.arange(30).reshape(5, 6) % 4
MARKED = np.where(Y == 3, -100, Y)


def but(array, at, value):
    changed = array.copy()
    changed[at] = value
    return changed


ARRAYS = {
    # Logits, probabilities, and weights of classes.
    "z": Z,
    "whole": Y,
    "classless": np.zeros((ROWS, 0)),
    "p": P,
    "negative": but(P, (23, 4), -0.5),
    "above": but(P, (23, 4), 1.5),
    "nan-row": but(P, 23, np.nan),
    "one": Z[:, :1],
    "w-": but(np.ones(CLASSES), 2, -2),
    # Labels.
    "y": Y,
    "few": Y[:9],
    "seven": np.arange(7),
    "bad": but(Y, 29, 7),
    "void": np.where(Y == 3, 255, Y),
    "byte": MARKED.astype("u1"),
    "huge": MARKED.astype("u8"),
    "padding": np.where(Y == 3, -1, Y),
    "two": but(but(Y, 0, 255), 1, 254),
    "from1": Y + 1,
    "row": Y[None],
    "column": but(Y, 13, 7)[:, None],
    "float": Y.astype("f8"),
    "half": Y + 0.5,
    "float-column": Y[:, None].astype("f4"),
    "bool": Y > 3,
    "one-hot": np.eye(CLASSES, dtype="i8")[Y],
    # Targets of binary losses.
    "bits": BITS,
    "bit": BITS[:, 0],
    "2": but(BITS, (11, 3), 2),
    "signs": but(BITS * 2 - 1, (0, 0), -1),
    "1.25": but(BITS * 1.0, (11, 3), 1.25),
    "narrow": np.zeros((ROWS, CLASSES - 1)),
    # Sequences.
    "seq": SEQ,
    "seq-y": but(SEQ_Y, (3, 5), 9),
}
SIZES = {"shard-1": 5, "shard-2": 0, "shard-9": 8, "shard-10": 17}
WRONG = {
    "other-classes": ("shard-9", np.zeros((8, 6), "f4")),
    "no-rows": ("shard-9", np.array(0, "f4")),
    "other-dtype": ("shard-10", np.zeros((17, 7))),
    "few-labels": ("shard-9", np.zeros(7, int)),
    "other-labels": ("shard-9", np.zeros(8, "i1")),
    "more": ("shard-3", np.zeros(1, int)),
    "bad-label": ("shard-10", np.append(np.zeros(2, int), np.full(15, 7))),
}


def shards(folder, array):
    folder.mkdir()
    for name, part in zip(SIZES, np.split(array, np.cumsum([*SIZES.values()])[:-1]), strict=True):
        np.save(folder / f"{name}.npy", part)


@pytest.fixture(scope="module")
def given(tmp_path_factory):
    """The folder of all these files."""
    folder = tmp_path_factory.mktemp("given")
    for name, array in ARRAYS.items():
        np.save(folder / f"{name}.npy", array)
    shards(folder / "zs", Z)
    shards(folder / "ys", Y)
    for name, (shard, array) in WRONG.items():
        shards(folder / name, Z if array.dtype.kind == "f" else Y)
        np.save(folder / name / f"{shard}.npy", array)
    shards(folder / "cut", Z)
    (folder / "cut/shard-9.npy").write_bytes(b"no array at all")
    shards(folder / "fewer", Y)
    (folder / "fewer/shard-9.npy").unlink()
    shards(folder / "seqs", SEQ.reshape(30, 4))
    for name in ("empty", "mixed", "pickles"):
        (folder / name).mkdir()
    np.savez(folder / "mixed/more.npz", z=Z)
    for name in ("logits.pt", "logits.pth", "logits.ckpt", "logits.PKL", "pickles/logits.pt"):
        (folder / name).write_bytes(b"whatever")
    save_file({"z": Z}, folder / "z.safetensors")
    lines = [f"{i},{y}" for i, y in enumerate(Y)]
    (folder / "y.csv").write_text("\n".join(["id,y", *lines]))
    (folder / "bad.csv").write_text("\n".join(map(str, but(Y, 29, 7))))
    if hasattr(os, "mkfifo"):
        os.mkfifo(folder / "fifo.npy")
        shards(folder / "fifos", Z)
        os.mkfifo(folder / "fifos/shard-11.npy")
    return folder


BCE = "--loss binary_cross_entropy"
REFUSED = {
    # Files and arguments.
    "z.npy": "Missing argument 'TARGETS'. (see xloss eval --help)",
    "none.npy y.npy": "none.npy: No such file ...",
    "'' y.npy": "'': expected the name of a file",
    "::a y.npy": "'::a': expected the name of a file",
    "z.npy y.npy --axis one": "Invalid value for '--axis'...",
    "z.npy y.npy --worst -1": "Invalid value for '--worst'...",
    "z.npy y.npy --fast": "No such option: --fast...",
    "z.npy y.npy --backend numpyy": "--backend numpyy: expected one of numpy, torch, ..., or all",
    "z.npy y.npy --backend all --scheduler tcp://127.0.0.1:1": "--backend all: not with ...",
    "z.npy y.npy --loss bce": "--loss bce: expected one of cross_entropy, ..., sigmoid_focal_loss",
    "logits.pt y.npy": "logits.pt: a .pt file is a pickle, ...save_file(...) or numpy.save(...)",
    "z.npy logits.pth": "logits.pth: a .pth file is a pickle, which can run any code ...",
    "logits.ckpt::x y.npy": "logits.ckpt: a .ckpt file is a pickle, which can run any code ...",
    "logits.PKL y.npy": "logits.PKL: a .pkl file is a pickle, which can run any code ...",
    "pickles y.npy": "pickles/logits.pt: a .pt file is a pickle, which can run any code ...",
    "fifo.npy y.npy": "fifo.npy: is a FIFO, not a file",
    "z.npy fifo.npy": "fifo.npy: is a FIFO, not a file",
    "z.npy y.npy --weight fifo.npy": "fifo.npy: is a FIFO, not a file",
    "fifos y.npy": "fifos/shard-11.npy: is a FIFO, not a file",
    # Logits and options.
    "whole.npy y.npy": "whole.npy: expected floating logits, got int64 of shape (30,)",
    "classless.npy y.npy": "classless.npy: expected at least one class...",
    "z.npy y.npy --axis 2": "z.npy: has no axis 2: its shape is (30, 7)...",
    "z.npy y.npy --label-smoothing 2": "label_smoothing: expected a number...",
    "z.npy p.npy --ignore-index 3": "ignore_index: 3 has no meaning...",
    "z.npy y.npy --weight few.npy": "weight: expected shape (7,)...",
    "z.npy y.npy --weight none.npy": "none.npy: No such file ...",
    "z.npy y.npy --weight w-.npy": "w-.npy: weight -2.0 of class 2 is negative",
    # Options that a loss does not have.
    f"z.npy bits.npy {BCE} --axis 1": "--axis: ... has no such option; only cross_entropy, ...",
    "p.npy p.npy --loss kl_div --ignore-index -100": "--ignore-index: kl_div has no ...",
    f"z.npy bits.npy {BCE}_with_logits --weight w-.npy": "--weight: ... only cross_...",
    "z.npy bits.npy --loss sigmoid_focal_loss --label-smoothing 0": "--label-smoothing: sigmoid...",
    "z.npy y.npy --loss nll_loss --eps 1e-7": "...only log_loss, binary_cross_entropy",
    "z.npy y.npy --gamma 2": "--gamma: cross_entropy has ...; only focal_loss, sigmoid_focal_loss",
    "z.npy y.npy --loss focal_loss --alpha 0.5": "--alpha: ...; only sigmoid_focal_loss",
    "seq.npy seq.npy --shift --loss kl_div": "--shift: kl_div has no such option; ...",
    # Labels.
    "z.npy few.npy": "few.npy: expected labels of shape (30,), that of the logits (30, 7) with...",
    "z.npy seven.npy": "...; did you mean --axis 0?",
    "z.npy bad.npy": "bad.npy: label 7 of row 29 is not in [0, 7) and not the ignored -100; ...",
    "z.npy bad.csv": "bad.csv: label 7 of row 29 is not in [0, 7)...",
    "z.npy column.npy": "column.npy: label 7 of row 13 is not in [0, 7)...",
    "z.npy void.npy": "...label 255 of ...; did you mean --ignore-index 255?",
    "z.npy byte.npy": "...label 156 of ...; did you mean --ignore-index 156?",
    "z.npy huge.npy": f"...label {2**64 - 100} of ...; did you mean --ignore-index {2**64 - 100}?",
    "z.npy padding.npy": "...label -1 of ...; did you mean --ignore-index -1?",
    "z.npy two.npy": "two.npy: label 255 of row 0 is not in [0, 7) and not the ignored -100",
    "z.npy from1.npy": "...label 7 of ...; do the labels begin at 1? they begin at 0 here",
    "z.npy row.npy": "...(1, 30); drop the axis of length 1: save y.reshape((30,))",
    "z.npy float.npy": "...; its values are whole; labels are integers: save y.astype(np.int64)",
    "z.npy half.npy": "half.npy: ...; got float64 of shape (30,)",
    "z.npy float-column.npy": "...integers: save y.reshape((30,)).astype(np.int64)",
    "z.npy bool.npy": "...got bool of shape (30,); labels are integers: save y.astype(np.int64)",
    "z.npy one-hot.npy": "...; one-hot labels? save them as class indices, y.argmax(1)...",
    "z.npy y.csv": "...; pick the column of the labels by y.csv::NAME",
    "p.npy y.npy --loss kl_div": "y.npy: kl_div expected probabilities of ...",
    "y.npy z.npy": "...; are the two files swapped?",
    "float.npy z.npy": "...; are the two files swapped?",
    "p.npy z.npy": "...is not negative; are these logits, or the two files swapped?",
    "z.npy negative.npy": "negative.npy: -0.5 of row 23, class 4: a probability is not negative...",
    # Numbers of another kind than the loss reads.
    "negative.npy y.npy --loss log_loss": "negative.npy: -0.5 of row 23, class 4: ... no --loss",
    f"above.npy bits.npy {BCE}": f"above.npy: 1.5 of row [23, 4]: ... then give {BCE}_with...",
    f"bits.npy bits.npy {BCE}": "bits.npy: expected floating probabilities, got int8 ...",
    "one.npy bit.npy": f"...; one logit a row? that is {BCE}_with_logits",
    f"z.npy 2.npy {BCE}_with_logits": "2.npy: label 2 of row [11, 3] is neither 0 nor 1",
    f"z.npy signs.npy {BCE}_with_logits": "signs.npy: ...; labels of -1 and 1? save (y + 1) // 2",
    f"z.npy 1.25.npy {BCE}_with_logits": "1.25.npy: 1.25 of row [11, 3]: expected ... [0, 1]",
    f"z.npy narrow.npy {BCE}_with_logits": "narrow.npy: expected one target for each element...",
    f"z.npy y.npy {BCE}_with_logits": "y.npy: ...; one class index for each row? ...",
    # Shards.
    "other-classes ys": "other-classes/shard-9.npy: expected shape (*, 7), as ..., got ...",
    "no-rows ys": "no-rows/shard-9.npy: expected shape (*, 7)...",
    "other-dtype ys": "other-dtype/shard-10.npy: expected float32, as ...shard-1.npy is, ...",
    "zs few-labels": "few-labels/shard-9.npy: expected labels of shape (8,)...",
    "zs other-labels": "other-labels/shard-9.npy: expected int64, as ...shard-1.npy is, ...",
    "zs more": "more: holds shard-3.npy, and zs does not",
    "zs fewer": "fewer: holds no shard-9.npy, which zs does",
    "cut ys": "cut/shard-9.npy: is no .npy or .npz file",
    "z.npy ys": "ys: is a folder of shards, and z.npy is a file",
    "zs ys --axis 0": "zs: shards are joined along axis 0: it cannot be the class axis",
    "mixed ys": "mixed: expected shards in .npy files alone, got more.npz too",
    "empty ys": "empty: is a folder without a .npy file",
    "zs ys/shard-1.npy": "...expected labels of shape (30,)...",
    "zs bad-label": "bad-label/shard-10.npy: label 7 of row 2 (15 of the whole) is not ...",
    "zs bad.npy": "bad.npy: label 7 of row 29 is not in [0, 7)...",
    # Sequences.
    "seq.npy seq-y.npy --shift": "seq-y.npy: label 9 of row [3, 5] is not in [0, 4)...",
    "z.npy y.npy --shift": "--shift: expected z.npy of shape (batch, time, classes), got (30...",
    "seqs y.npy --shift": "--shift: expected seqs of shape (batch, time, classes), got (30, 4)...",
    "seq.npy seq.npy --shift": "--shift: expected integer labels in seq.npy, got float64 ...",
}


@pytest.mark.parametrize("line", REFUSED)
def test_what_cannot_be_evaluated_is_refused_in_one_line(given, command, monkeypatch, line):
    if "fifo" in line and os.name == "nt":
        pytest.skip("no FIFOs")
    monkeypatch.chdir(given)
    monkeypatch.setattr(task_module, "BLOCK_LOGITS", 7 * 8)
    assert fits(REFUSED[line], command.refusal(f"eval {line}"))


def test_the_label_that_a_hint_ignores_may_be_larger_than_any_int64(given, command, monkeypatch):
    monkeypatch.chdir(given)
    Path("marked.npy").unlink(missing_ok=True)
    np.save("marked.npy", MARKED)
    expected = command.answer("z.npy marked.npy")
    assert command.answer(f"z.npy huge.npy --ignore-index {2**64 - 100}") == expected
    assert command.answer("z.npy byte.npy --ignore-index 156") == expected


def test_a_file_that_changes_while_it_is_read_is_refused(given, command, monkeypatch):
    opened = evaluate_module.open_inputs
    for name, array in (("zs", Z), ("ys", Y)):
        shards(Path(name), array)

    def late(question):
        whole = opened(question)
        np.save("zs/shard-10.npy", np.zeros((18, 7), np.float32))
        return whole

    monkeypatch.setattr(evaluate_module, "open_inputs", late)
    said = command.refusal("eval zs ys")
    assert said.startswith("zs/shard-10.npy: is float32 of shape (18, 7), and was float32 of shape")


# ---- What is not installed, and what breaks ------------------------------------------------------

MISSING = {
    "torch": (
        "--backend torch",
        '--backend torch: torch is not installed: pip install "xloss[torch',
    ),
    "jax": ("--backend jax", '--backend jax: jax is not installed: pip install "xloss[jax]"'),
    "cupy": ("--backend cupy", '--backend cupy: cupy is not installed: pip install "xloss[cupy]"'),
    "safetensors": ("z.safetensors", 'z.safetensors: needs safetensors: pip install "xloss[cli]"'),
    "ml_dtypes": ("z.safetensors", 'z.safetensors: needs ml_dtypes: pip install "xloss[cli]"'),
    "distributed": (
        "--scheduler tcp://127.0.0.1:1",
        '--scheduler: distributed is not installed: pip install "xloss[distributed]"',
    ),
}


@pytest.mark.parametrize("name", MISSING)
def test_a_package_that_is_not_installed_is_named(given, command, monkeypatch, name):
    monkeypatch.chdir(given)
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
