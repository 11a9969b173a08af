"""xloss eval on folders of shards: the numbers of the one array that they are together."""

import re
from pathlib import Path

import numpy as np
import pytest

from cli_runs import answer, refused
from xloss.cli import evaluate as evaluate_module
from xloss.cli import run_task as task_module

SIZES = {"shard-1": 5, "shard-2": 0, "shard-10": 17, "shard-9": 8}
ORDER = ("shard-1", "shard-2", "shard-9", "shard-10")
RNG = np.random.default_rng(8)


def made(inner=(), classes=7, seed=8):
    """Write logits and labels, in shards and whole, and return them whole."""
    rng = np.random.default_rng(seed)
    rows = (sum(SIZES.values()), *inner)
    logits = rng.normal(scale=3, size=(*rows, classes)).astype(np.float32)
    labels = rng.integers(0, classes, rows)
    labels[::10] = -100
    written(logits, "z")
    written(labels, "y")
    return logits, labels


def written(array, name):
    np.save(f"{name}.npy", array)
    at = 0
    for shard in ORDER:
        np.save(into(name) / f"{shard}.npy", array[at : at + SIZES[shard]])
        at += SIZES[shard]


def into(name):
    Path(name).mkdir(exist_ok=True)
    return Path(name)


# ---- One array in many files ---------------------------------------------------------------------


@pytest.mark.parametrize("piece", [1, 7 * 4, 10**9])
def test_shards_are_one_array_in_the_natural_order_of_their_names(capsys, monkeypatch, piece):
    logits, labels = made()
    logits[[3, 20], 2] = np.nan
    logits[25, labels[25]] = -np.inf
    logits[12], labels[12] = logits[7], labels[7]  # of equal rows the earlier is the worse
    written(logits, "z")
    written(labels, "y")
    expected = answer(capsys, "z.npy", "y.npy", "--worst", 40, code=1)
    monkeypatch.setattr(evaluate_module, "TASK_LOGITS", piece)
    monkeypatch.setattr(task_module, "BLOCK_LOGITS", 7 * 3)
    assert answer(capsys, "z", "y", "--worst", 40, code=1) == expected
    assert expected["shape"] == [30, 7]
    order = [r["row"] for r in expected["worst"]]
    assert order[:2] == [3, 25]
    assert order.index(12) == order.index(7) + 1
    found = {f["rule"]: f["positions"] for f in expected["findings"]}
    assert found == {"nan_logit": [[3]], "masked_target": [[25]]}


def test_more_row_axes_and_soft_targets(capsys):
    made(inner=(3, 2))
    assert answer(capsys, "z", "y") == answer(capsys, "z.npy", "y.npy")
    soft = RNG.dirichlet(np.ones(7), (30, 3, 2)).astype(np.float32)
    written(soft, "t")
    expected = answer(capsys, "z.npy", "t.npy")
    assert answer(capsys, "z", "t") == expected
    assert answer(capsys, "z", "t.npy") == expected
    assert len(expected["worst"][0]["row"]) == 3
    weight = RNG.uniform(size=3)
    np.save("w.npy", weight)
    labels = RNG.integers(0, 3, (30, 2, 7))
    written(labels, "y")
    given = ("--axis", 2, "--weight", "w.npy", "--label-smoothing", 0.1)
    logits = np.moveaxis(np.load("z.npy"), 1, 2)
    written(np.ascontiguousarray(logits), "z")
    assert answer(capsys, "z", "y", *given) == answer(capsys, "z.npy", "y.npy", *given)


def test_a_nan_class_weight_is_counted_once_for_all_shards(capsys):
    made()
    np.save("w.npy", np.array([1, 1, np.nan, 1, 1, 1, 1]))
    expected = answer(capsys, "z.npy", "y.npy", "--weight", "w.npy", code=1)
    assert answer(capsys, "z", "y", "--weight", "w.npy", code=1) == expected
    assert expected["findings"][0]["count"] == 1


def test_more_shards_than_a_process_may_have_files(capsys):
    resource = pytest.importorskip("resource")
    for name, array in (("z", np.zeros((200, 2))), ("y", np.zeros(200, int))):
        for i in range(200):
            np.save(into(name) / f"{i}.npy", array[i : i + 1])
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (150, hard))
    try:
        assert answer(capsys, "z", "y")["rows"] == 200
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


# ---- What is refused -----------------------------------------------------------------------------

WRONG = {
    "classes": ("z/shard-9", np.zeros((8, 6), "f4"), r"expected shape \(\*, 7\), as z/shard-1.npy"),
    "no rows": ("z/shard-9", np.array(0, "f4"), r"expected shape \(\*, 7\), as z/shard-1.npy has"),
    "dtype": (
        "z/shard-10",
        np.zeros((17, 7)),
        "expected float32, as z/shard-1.npy is, got",
    ),
    "few labels": ("y/shard-9", np.zeros(7, int), r"expected labels of shape \(8,\), that of"),
    "labels' dtype": ("y/shard-9", np.zeros(8, "i1"), "expected int64, as y/shard-1.npy is, got"),
    "more labels": ("y/shard-3", np.zeros(1, int), "y: holds shard-3.npy, and z does not"),
    "no array": ("z/shard-9", None, "z/shard-9.npy: is no .npy or .npz file"),
}


@pytest.mark.parametrize("case", WRONG)
def test_shards_that_do_not_fit_are_refused(capsys, case):
    made()
    name, array, message = WRONG[case]
    if array is None:
        Path(f"{name}.npy").write_bytes(b"no array at all")
    else:
        np.save(f"{name}.npy", array)
    said = refused(capsys, "z", "y")
    assert said.startswith(name) or case == "more labels"
    assert re.search(message, said)


def test_folders_that_do_not_fit_are_refused(capsys):
    made()
    assert "y: is a folder of shards, and z.npy is a file" in refused(capsys, "z.npy", "y")
    assert "cannot be the class axis" in refused(capsys, "z", "y", "--axis", 0)
    into("empty")
    np.savez(into("mixed") / "more.npz", z=np.zeros(1))
    assert "mixed: expected shards in .npy files alone, got more.npz" in refused(
        capsys, "mixed", "y"
    )
    assert "empty: is a folder without a .npy file" in refused(capsys, "empty", "y")
    (into("y") / "shard-9.npy").unlink()
    assert "y: holds no shard-9.npy, which z does" in refused(capsys, "z", "y")
    assert "labels of shape (30,)" in refused(capsys, "z", "y/shard-1.npy")


def test_a_bad_label_is_named_by_file_and_row(capsys):
    _, labels = made()
    labels[15] = 7
    written(labels, "y")
    said = refused(capsys, "z", "y")
    assert said.startswith("y/shard-10.npy: label 7 of row 2 (15 of the whole) is not in [0, 7)")
    assert refused(capsys, "z", "y.npy").startswith("y.npy: label 7 of row 15 is not in [0, 7)")


def test_a_file_that_changes_while_it_is_read_is_refused(capsys, monkeypatch):
    made()
    opened = evaluate_module.open_inputs

    def late(question):
        whole = opened(question)
        np.save("z/shard-10.npy", np.zeros((18, 7), np.float32))
        return whole

    monkeypatch.setattr(evaluate_module, "open_inputs", late)
    assert "z/shard-10.npy: is float32 of shape (18, 7), and was" in refused(capsys, "z", "y")
