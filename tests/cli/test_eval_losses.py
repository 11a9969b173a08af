"""xloss eval --loss: every loss and option by the oracle, and on other libraries."""

import math

import ml_dtypes
import numpy as np
import pytest
from safetensors.numpy import save_file

import xloss
from expected import BINARY, expected
from xloss.cli import array_libraries, run_task

BCE, BCE_LOGITS = "binary_cross_entropy", "binary_cross_entropy_with_logits"
MIXED = {"axis": 0, "weight": "w.npy", "label_smoothing": 0.125, "ignore_index": 255}
CASES = [  # the loss, the two files, options
    ("cross_entropy", "z", "y", {}),
    ("cross_entropy", "z", "y", MIXED),
    ("cross_entropy", "z", "soft", {}),
    ("log_loss", "p", "y", MIXED),
    ("log_loss", "p", "soft", {"eps": 0.125}),
    ("nll_loss", "log_p", "y", MIXED),
    ("kl_div", "log_p", "soft", {}),
    ("focal_loss", "z", "y", {"gamma": 1.5}),
    (BCE, "p", "bits", {"label_smoothing": 0.25, "eps": 0.125}),
    (BCE_LOGITS, "z", "bits", {"label_smoothing": 0.25}),
    ("sigmoid_focal_loss", "z", "bits", {"gamma": 1, "alpha": 0.25}),
]


@pytest.mark.parametrize("case", CASES, ids=lambda case: f"{case[0]} {case[2]} {' '.join(case[3])}")
def test_every_loss_and_option(kinds, command, case):
    loss, first, second, options = case
    x, t, given = vars(kinds)[first], vars(kinds)[second], dict(options)
    if options is MIXED:
        t = np.where(t < 0, 255, t).astype(np.uint8)
        np.save("y.npy", t)
        np.save(f"{first}.npy", x.T)
        given |= {"weight": kinds.w}
        del given["axis"]
    flags = " ".join(f"--{name.replace('_', '-')} {value}" for name, value in options.items())
    got = command.answer(f"{first}.npy {second}.npy --loss {loss} --worst 25 {flags}")
    if loss in BINARY:
        labels, predicted = t.reshape(-1), (x > (0.5 if first == "p" else 0)).reshape(-1)
        want = expected(loss, x.reshape(-1), labels, **given)
    else:
        labels, predicted = t if second == "y" else t.argmax(1), x.argmax(1)
        want = expected(loss, x, t, **given)
    assert got["loss"] == pytest.approx(float(want.value), rel=1e-13)
    counted = [i for i, label in enumerate(labels) if 0 <= label < 5]
    assert (got["rows"], got["counted"]) == (labels.size, len(counted))
    right = [predicted[i] == labels[i] for i in counted]
    assert got["accuracy"] == sum(right) / len(right)
    worst = sorted(counted, key=lambda i: want.rows[i], reverse=True)[:25]
    places = [divmod(i, 5) if loss in BINARY else i for i in worst]
    assert [tuple(r["row"]) if loss in BINARY else r["row"] for r in got["worst"]] == places
    assert [r["label"] for r in got["worst"]] == [labels[i] for i in worst]
    assert [r["predicted"] for r in got["worst"]] == [predicted[i] for i in worst]
    if loss in ("cross_entropy", "log_loss", "nll_loss"):
        assert got["perplexity"] == pytest.approx(math.exp(got["loss"]), rel=1e-14)
    else:
        assert got["perplexity"] is None
        assert "only of a negative log-likelihood" in got["not_given"]["perplexity"]


def test_binary_targets_of_any_dtype(kinds, command):
    expected = command.answer(f"z.npy bits.npy --loss {BCE_LOGITS}")
    for dtype in (np.uint8, bool, np.float32):
        np.save("t.npy", kinds.bits.astype(dtype))
        assert command.answer(f"z.npy t.npy --loss {BCE_LOGITS}") == expected


@pytest.mark.parametrize("backend", ["torch", "jax"])
def test_other_libraries(kinds, command, backend):
    config = pytest.importorskip("jax", reason="pip install 'xloss[jax]'").config
    before = config.jax_enable_x64
    save_file({"z": kinds.z.astype(ml_dtypes.bfloat16)}, "z16.safetensors")
    try:
        for line, rel in {"z16.safetensors y.npy": 2e-7, "z.npy soft.npy": 1e-14}.items():
            want, got = command.answer(line), command.answer(f"{line} --backend {backend}")
            assert (got["backend"], got["dtype"]) == (backend, want["dtype"])
            assert got["loss"] == pytest.approx(want["loss"], rel=rel)
            assert [r["row"] for r in got["worst"]] == [r["row"] for r in want["worst"]]
    finally:  # the command allows float64 everywhere: other tests must not find it so
        config.update("jax_enable_x64", before)


def test_rows_alone_come_back_from_a_gpu(kinds, command, monkeypatch):
    """Of each block three numbers a row; predictions where one is among the worst; no logit."""
    pytest.importorskip("cupy", reason="CuPy has wheels for Linux and Windows only")
    from standin import DeviceArray, transfers

    monkeypatch.setattr(run_task, "BLOCK_LOGITS", 8 * 5)
    monkeypatch.setitem(array_libraries.DEVICES, "cupy", lambda cupy: ["a stand-in"])
    monkeypatch.setitem(array_libraries.CONVERTERS, "cupy", DeviceArray)
    want = command.answer("z.npy y.npy --weight w.npy --worst 1")
    # By name: beside a GPU the compiled engine would take the stand-in for an array of its own.
    with xloss.use_engine("generic"), transfers() as sizes:
        got = command.answer("z.npy y.npy --weight w.npy --worst 1 --backend cupy")
    assert (want["backend"], got["backend"]) == ("numpy", "cupy")
    assert got["loss"] == pytest.approx(want["loss"], rel=1e-6)
    assert sizes.count(3 * 8) == 5
    assert 0 < sizes.count(8) < 5
    assert set(sizes) == {1, 8, 3 * 8}  # of weights one: what they are scaled by
