"""xloss eval: any class axis in blocks of any size, and how little memory a large file takes."""

import json
import math
import os

import numpy as np
import pytest

from cli_runs import answer, process
from xloss import cross_entropy
from xloss.cli import inputs as inputs_module
from xloss.cli import run_task as task_module

RNG = np.random.default_rng(5)


# ---- Blocks --------------------------------------------------------------------------------------


@pytest.mark.parametrize("block", [1, 60, 1000, 10**9])
@pytest.mark.parametrize(("shape", "axis"), [((4, 7, 9, 5), 1), ((7, 20), 0), ((3, 1, 11, 7), -1)])
def test_any_class_axis_in_blocks(files, capsys, monkeypatch, shape, axis, block):
    logits = RNG.normal(size=shape).astype(np.float32)
    rows = tuple(np.delete(shape, axis))
    labels = RNG.integers(0, 7, rows)
    np.save("z.npy", logits)
    np.save("y.npy", labels)
    monkeypatch.setattr(task_module, "BLOCK_LOGITS", block)
    got = answer(capsys, "z.npy", "y.npy", "--axis", axis, "--worst", 3)
    losses = cross_entropy(logits, labels, axis=axis, reduction="none")
    assert got["loss"] == pytest.approx(losses.mean(dtype=np.float64), rel=1e-12)
    assert got["rows"] == losses.size
    order = np.argsort(-losses.reshape(-1), kind="stable")[:3]
    for row, at in zip(got["worst"], order, strict=True):
        position = tuple(map(int, np.unravel_index(at, rows)))
        assert row["row"] == (position[0] if len(rows) == 1 else list(position))
        assert row["loss"] == losses[position]
        assert row["label"] == labels[position]


def test_row_blocks_cover_every_row_once():
    for rows in [(), (0,), (5,), (3, 0, 2), (2, 3, 4), (1, 1, 9), (7, 2)]:
        for limit in (1, 2, 5, 6, 24, 100):
            seen = np.zeros(rows, dtype=int)
            for piece in inputs_module.row_blocks(rows, limit):
                assert seen[piece].size <= limit
                seen[piece] += 1
            assert (seen == 1).all()


@pytest.mark.parametrize("kind", ["npy", "safetensors"])
def test_a_large_file_takes_the_memory_of_a_block(tmp_path, kind):
    # The file is sparse: it takes no room on the disk either.
    def peak(rows):
        path = tmp_path / f"{rows}.{kind}"
        with path.open("wb") as f:
            if kind == "npy":
                header = {"descr": "<f4", "fortran_order": False, "shape": (rows, 2**16)}
                np.lib.format.write_array_header_1_0(f, header)
            else:
                entry = {"dtype": "F32", "shape": [rows, 2**16], "data_offsets": [0, rows * 2**18]}
                header = json.dumps({"z": entry}).encode()
                f.write(len(header).to_bytes(8, "little") + header)
            f.truncate(f.tell() + rows * 2**18)
        np.save(tmp_path / "y.npy", np.zeros(rows, np.int16))
        tell = (
            "import atexit, pathlib, re, sys; atexit.register(lambda: sys.stderr.write("
            "re.search(r'VmHWM:\\s+(\\d+)', pathlib.Path('/proc/self/status').read_text())[1]))"
        )
        ran = process("eval", path, tmp_path / "y.npy", "--json", "--worst", 0, before=tell)
        assert json.loads(ran.stdout)["loss"] == pytest.approx(math.log(2**16))
        return int(ran.stderr)  # kB

    if not os.path.exists("/proc/self/status"):
        pytest.skip("no /proc/self/status here")
    assert peak(1024) - peak(64) < 40_000  # 256 MiB of logits; 16 MiB are read at a time
