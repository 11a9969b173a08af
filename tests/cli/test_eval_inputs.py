"""xloss eval: the same rows in other files, folders of shards, blocks and orders of axes."""

import json
import math
import os
from itertools import product

import numpy as np
import pytest
from safetensors.numpy import save_file

from cli_runs import process, save_shards
from expected import expected
from xloss.cli import evaluate as evaluate_module
from xloss.cli import run_task as task_module

RNG = np.random.default_rng(8)


def save(name, array):
    """Save an array in one file, and in a folder of shards."""
    np.save(f"{name}.npy", array)
    save_shards(name, array)


@pytest.fixture
def given():
    """Rows, rows along more axes, elements and sequences; some in other kinds of files."""
    z, y = RNG.normal(scale=3, size=(30, 7)).astype("f4"), RNG.integers(0, 7, 30)
    y[::10] = -100
    z[[3, 20], 2] = np.nan
    z[25, y[25]] = -np.inf
    z[12], y[12] = z[7], y[7]  # of equal rows the earlier is the worse
    save("z", z)
    save("y", y)
    save("column", y[:, None])
    np.savez("y.npz", y=y, other=z)
    np.savetxt("y.csv", y, fmt="%d")
    save_file({"z": z}, "z.safetensors")
    save("many", RNG.normal(size=(30, 2, 3, 7)))
    save("soft", RNG.dirichlet(np.ones(7), (30, 2, 3)))
    save("labels", RNG.integers(0, 3, (30, 2, 7)))
    np.save("w.npy", [0.5, 2.0, 0.25])
    save("e", RNG.normal(size=30))
    save("t", RNG.integers(0, 2, 30))
    np.save("ts.npy", np.load("t.npy")[:, None])
    save("seq", RNG.normal(size=(5, 6, 4)))
    save("next", RNG.integers(0, 4, (5, 6)))
    np.save("nexts.npy", np.load("next.npy")[..., None])


BINARY = "--loss binary_cross_entropy_with_logits"
SAME = [  # files of the same logits, files of the same targets, options; the exit code
    ("z.npy z.safetensors z", "y.npy column.npy y.csv y.npz::y y column", "--worst 40", 1),
    ("many.npy many", "soft.npy soft", "", 0),
    ("many.npy many", "labels.npy labels", "--axis 2 --weight w.npy --label-smoothing 0.1", 0),
    ("e.npy e", "t.npy ts.npy t", f"{BINARY} --worst 0", 0),
    ("seq.npy seq", "next.npy nexts.npy next", "--shift --worst 100", 0),
]


@pytest.mark.parametrize("block", [1, 21, 10**9])
@pytest.mark.parametrize("case", SAME, ids=lambda case: case[0])
def test_other_files_folders_and_blocks_change_no_number(given, command, monkeypatch, case, block):
    logits, targets, options, code = case
    expected = None
    for z, t in product(logits.split(), targets.split()):
        if "." in z and "." not in t:
            continue  # a folder of targets belongs to a folder of logits
        got = command.answer(f"{z} {t} {options}", code)
        got["shape"] = math.prod(got["shape"])
        expected = expected or got
        assert got == expected, (z, t)
        # The first answer is that of the whole at once.
        monkeypatch.setattr(task_module, "BLOCK_LOGITS", block)
        monkeypatch.setattr(evaluate_module, "TASK_LOGITS", 2 * block)


# ---- Sequences -----------------------------------------------------------------------------------


def test_the_next_label_judges_within_each_sequence(command):
    z, labels = RNG.normal(size=(5, 6, 4)), RNG.integers(0, 4, (5, 6))
    labels[1, 3] = labels[2, 5] = -100
    labels[4, 0] = 99  # judged by no logits
    np.save("z.npy", z)
    np.save("y.npy", labels)
    got = command.answer("z.npy y.npy --shift --worst 100")
    judged, judges = z[:, :-1].reshape(-1, 4), labels[:, 1:].reshape(-1)
    want = expected("cross_entropy", judged, judges)
    assert got["loss"] == pytest.approx(float(want.value), rel=1e-14)
    assert (got["rows"], got["counted"], got["ignored"]) == (25, 23, 2)
    assert (got["shape"], got["shift"]) == ([5, 6, 4], True)
    worst = sorted(np.flatnonzero(judges >= 0), key=lambda i: want.rows[i], reverse=True)
    assert [r["row"] for r in got["worst"]] == [list(divmod(i, 5)) for i in worst]
    assert [r["label"] for r in got["worst"]] == judges[worst].tolist()
    assert got["accuracy"] == np.mean(judged.argmax(1)[worst] == judges[worst])


@pytest.mark.parametrize(
    ("shape", "options", "rows"), [(0, "", 0), (3, "", 3), ((3, 1), "--shift", 0)]
)
def test_no_row_counts(command, shape, options, rows):
    labels = np.full(shape, -100)
    np.save("y.npy", labels)
    np.save("z.npy", np.zeros((*labels.shape, 4)))
    got = command.answer(f"z.npy y.npy {options}")
    assert (got["loss"], got["accuracy"], got["worst"]) == (0.0, "nan", [])
    assert (got["rows"], got["counted"], got["ignored"]) == (rows, 0, rows)


def test_a_large_file_takes_the_memory_of_a_block():
    # The file is sparse: it takes no room on the disk either.
    def peak(rows):
        with open("z.npy", "wb") as f:
            header = {"descr": "<f4", "fortran_order": False, "shape": (rows, 2**16)}
            np.lib.format.write_array_header_1_0(f, header)
            f.truncate(f.tell() + rows * 2**18)
        np.save("y.npy", np.zeros(rows, np.int16))
        tell = (
            "import atexit, pathlib, re, sys; atexit.register(lambda: sys.stderr.write("
            "re.search(r'VmHWM:\\s+(\\d+)', pathlib.Path('/proc/self/status').read_text())[1]))"
        )
        ran = process("eval z.npy y.npy --json --worst 0", before=tell)
        assert json.loads(ran.stdout)["loss"] == pytest.approx(math.log(2**16))
        return int(ran.stderr)  # kB

    if not os.path.exists("/proc/self/status"):
        pytest.skip("no /proc/self/status here")
    assert peak(1024) - peak(64) < 40_000  # 256 MiB of logits; 16 MiB are read at a time
