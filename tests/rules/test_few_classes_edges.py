"""Targets of a few classes a row at the edges: the tail, empty slots, bad indices, memory, bits."""

from __future__ import annotations

import tracemalloc
from typing import Any

import mpmath
import numpy as np
import pytest

import xloss
from xloss import CrossEntropyLoss, TopKTargets, cross_entropy, linear_cross_entropy, value_and_grad

mpmath.mp.dps = 60
GAPS = (2.0, 17.0, 40.0)
LISTS = {  # of classes 0 to 3 with logits 0, -gap, -gap - 1/2 and -gap - 2
    "one class": ([[0]], [[1.0]]),
    "almost one": ([[0, 1]], [[1.0 - 2.0**-20, 2.0**-20]]),
    "twice": ([[0, 1, 0]], [[0.5, 2.0**-22, 0.5]]),
    "below": ([[3, 2]], [[0.25, 0.5]]),
}


def exact(z: np.ndarray, indices: Any, probs: Any, rest: str) -> tuple[Any, list[Any], Any]:
    """Loss, gradient and Σ t of one row in 60 digits, of numbers as they are stored."""
    z = [mpmath.mpf(float(v)) for v in z]
    t = [mpmath.mpf(0)] * len(z)
    for j, p in zip(indices, probs, strict=True):
        t[j] += mpmath.mpf(float(p))
    others = [j for j in range(len(z)) if j not in indices]
    left = 1 - sum(t)
    if rest == "uniform" and others and left > 0:
        for j in others:
            t[j] = left / len(others)
    e = [mpmath.exp(v) for v in z]
    total = sum(e)
    lse = mpmath.log(total)
    loss = sum(a * (lse - v) for a, v in zip(t, z, strict=True))
    return loss, [a * sum(t) / total - b for a, b in zip(e, t, strict=True)], t


@pytest.mark.parametrize("rest", ["zero", "uniform"])
@pytest.mark.parametrize("name", LISTS)
def test_the_tail_is_exact(lib: Any, name: str, rest: str) -> None:
    indices, probs = (np.repeat(a, len(GAPS), 0) for a in LISTS[name])
    z = np.array([[0.0, -gap, -gap - 0.5, -gap - 2.0] for gap in GAPS], dtype=np.float32)
    teacher = TopKTargets(lib.like(indices), lib.array(probs), rest)
    with lib.used():
        rows, got = value_and_grad(cross_entropy)(lib.array(z), teacher, reduction="none")
    for i, (row, slopes) in enumerate(zip(lib.host(rows), lib.host(got), strict=True)):
        loss, gradient, t = exact(z[i], indices[i], np.float32(probs)[i], rest)
        assert abs(mpmath.mpf(float(row)) - loss) <= 4 * float(np.spacing(np.float32(loss)))
        p = [mpmath.exp(float(v)) for v in z[i]]
        for j, (g, want) in enumerate(zip(slopes, gradient, strict=True)):
            # One class alone: nothing cancels, and each entry is right by itself.
            largest = abs(want) if name == "one class" else max(p[j] / sum(p) * sum(t), t[j])
            assert abs(mpmath.mpf(float(g)) - want) <= 6 * np.spacing(np.float32(float(largest)))


def test_an_empty_slot_and_a_row_of_them_count_for_nothing(lib: Any) -> None:
    # The row of empty slots is absent, whatever is in it; so is its probability's gradient.
    z = np.array([[1.0, 2.0, 0.5], [np.nan, np.inf, 0.0]])
    indices, probs = np.array([[1, -100], [-100, -100]]), np.array([[0.5, np.nan], [np.nan, 3.0]])
    teacher = TopKTargets(lib.like(indices), lib.array(probs), "uniform")
    alone = TopKTargets(np.array([[1]]), np.array([[0.5]]), "uniform")
    with lib.used():
        value, (g, h) = value_and_grad(cross_entropy, (0, 1))(lib.array(z), teacher, z_loss=0.5)
    want, (g_want, h_want) = value_and_grad(cross_entropy, (0, 1))(z[:1], alone, z_loss=0.5)
    np.testing.assert_allclose(lib.host(value), want, rtol=1e-6)
    np.testing.assert_allclose(lib.host(g), [g_want[0], [0.0] * 3], rtol=1e-5, atol=1e-7)
    np.testing.assert_allclose(lib.host(h), [[h_want[0, 0], 0.0], [0.0, 0.0]], rtol=1e-5)
    assert (lib.host(g)[1] == 0).all()


def test_a_bad_index_raises_where_it_is_read_and_is_nan_elsewhere(lib: Any) -> None:
    z, indices = np.zeros((3, 4)), np.array([[0, 1], [2, 4], [-1, 3]])
    teacher = TopKTargets(lib.like(indices), lib.array(np.full((3, 2), 0.5)))
    with lib.used():
        if lib.reads:
            message = r"targets: indices: label 4 at position \(1, 1\) is outside \[0, 4\)"
            with pytest.raises(IndexError, match=message):
                cross_entropy(lib.array(z), teacher)
        rows, g = value_and_grad(cross_entropy)(
            lib.array(z), teacher, reduction="none", validate=False
        )
        # Absent rows are exempt.
        where = lib.array([True, False, False], "bool")
        assert np.isfinite(lib.host(cross_entropy(lib.array(z), teacher, where=where)))
    assert np.isnan(lib.host(rows)).tolist() == [False, True, True]
    assert np.isnan(lib.host(g)).all(axis=1).tolist() == [False, True, True]


def test_the_position_of_a_bad_index_is_that_in_the_users_array() -> None:
    z, indices = np.zeros((2, 4, 3)), np.zeros((2, 2, 3), dtype=np.int8)
    indices[1, 1, 2] = 7
    probs = np.full((2, 2, 3), 0.5)
    with pytest.raises(IndexError, match=r"label 7 at position \(1, 1, 2\) .* for 4 classes"):
        cross_entropy(z, TopKTargets(indices, probs), axis=1)
    indices[1, 1, 2] = 0
    probs[1, 0, 2] = -0.5
    with pytest.raises(ValueError, match=r"targets: negative at position \(1, 0, 2\)"):
        cross_entropy(z, TopKTargets(indices, probs), axis=1, validate=True)


def test_the_slots_stand_where_the_classes_do(lib: Any) -> None:
    rng = np.random.default_rng(3)
    z, p = rng.normal(size=(2, 5, 3)), rng.random((2, 2, 3)) / 2
    indices = rng.integers(0, 5, (2, 2, 3))
    want, grads = value_and_grad(cross_entropy, (0, 1))(
        np.moveaxis(z, 1, -1), TopKTargets(np.moveaxis(indices, 1, -1), np.moveaxis(p, 1, -1))
    )
    teacher = TopKTargets(lib.like(indices), lib.like(p))
    with lib.used():
        value, got = value_and_grad(cross_entropy, (0, 1))(lib.like(z), teacher, axis=1)
    np.testing.assert_allclose(lib.host(value), want, rtol=1e-6)
    for g, h in zip(got, grads, strict=True):
        np.testing.assert_allclose(lib.host(g), np.moveaxis(h, -1, 1), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("rest", ["zero", "uniform"])
def test_masked_classes_take_nothing_and_a_listed_one_is_infinite(rest: str) -> None:
    z = np.array([[1.0, -np.inf, 0.0, 2.0], [1.0, -np.inf, 0.0, 2.0], [1.0, -np.inf, 0.0, 2.0]])
    indices, probs = (
        np.array([[0, 1], [0, 3], [0, 1]]),
        np.array([[0.5, 0.25], [0.5, 0.25], [0.5, 0]]),
    )
    rows, g = value_and_grad(cross_entropy)(z, TopKTargets(indices, probs, rest), reduction="none")
    lse = np.log(np.exp(z[1]).sum())
    spread = 0.25 * (lse - 0.0) if rest == "uniform" else 0.0
    assert rows[0] == np.inf
    np.testing.assert_allclose(rows[1], 0.5 * (lse - 1) + 0.25 * (lse - 2) + spread, rtol=1e-14)
    assert np.isfinite(rows[2])
    assert (g[1:, 1] == 0).all()
    # With no other class possible the rest is left out.
    few = TopKTargets(np.array([[0, 2, 3]]), np.array([[0.25] * 3]), rest)
    alone = cross_entropy(z[:1], few)
    np.testing.assert_allclose(alone, 0.25 * (3 * lse - 3.0) / (1.0 if rest == "uniform" else 0.75))


@pytest.mark.parametrize("engine", ["generic", "cpu"])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("rest", ["zero", "uniform"])
def test_a_rows_bits_do_not_depend_on_the_batch(rest: Any, engine: str, dtype: str) -> None:
    rng = np.random.default_rng(5)
    z = rng.normal(size=(300, 1000)).astype(dtype)
    indices, probs = rng.integers(0, 1000, (300, 4)), rng.random((300, 4)) / 4
    if engine == "cpu" and xloss.engines()["cpu"] is not None:
        pytest.skip("Numba is not installed")
    with xloss.use_engine(engine):
        both = value_and_grad(cross_entropy)
        rows, g = both(z, TopKTargets(indices, probs, rest), reduction="none")
        for i in (0, 7, 299):
            part = slice(i, i + 1)
            one, h = both(z[part], TopKTargets(indices[part], probs[part], rest), reduction="none")
            assert one.tobytes() == rows[part].tobytes()
            assert h.tobytes() == g[part].tobytes()


@pytest.mark.parametrize("engine", ["generic", "cpu"])
@pytest.mark.parametrize("rest", ["zero", "uniform"])
def test_no_row_of_all_classes_is_made(engine: str, rest: Any) -> None:
    if engine == "cpu" and xloss.engines()["cpu"] is not None:
        pytest.skip("Numba is not installed")
    count, classes, k = 64, 131072, 16
    rng = np.random.default_rng(7)
    z = rng.normal(size=(count, classes)).astype(np.float32)
    indices = np.argsort(rng.random((count, 1000)), axis=-1)[:, :k]
    teacher = TopKTargets(indices, np.full((count, k), 1 / 32, dtype=np.float32), rest)
    labels = indices[:, 0]
    both = value_and_grad(cross_entropy)
    peaks = []
    with xloss.use_engine(engine):
        for targets in (labels, teacher):
            both(z, targets)  # what is made once in a process is there from now on
            tracemalloc.start()
            both(z, targets)
            peaks.append(tracemalloc.get_traced_memory()[1] - z.nbytes)  # less the gradient
            tracemalloc.stop()
    # A dozen arrays of 8 bytes a slot more than labels need. Core's temporaries are those of a
    # block of 2^17 numbers, a few more than for labels: here a block is one row.
    room = 0 if (engine, rest) == ("cpu", "zero") else 8 * 4 * 2**17
    assert peaks[1] - peaks[0] < 12 * 8 * count * k + room
    assert peaks[1] < z.nbytes / 3


@pytest.mark.parametrize(
    ("teacher", "error", "message"),
    [
        ((np.zeros((2, 3)), np.ones((2, 3))), TypeError, "targets: indices: expected an integer"),
        ((np.zeros((2, 3), int), np.ones((2, 3), int)), TypeError, "targets: probabilities: exp"),
        ((np.zeros((2, 3), int), np.ones((2, 2))), ValueError, "targets: probabilities: expected"),
        ((np.zeros((3, 3), int), np.ones((3, 3))), ValueError, "targets: indices: expected the sh"),
        ((np.zeros(2, int), np.ones(2)), ValueError, "targets: indices: expected the shape of log"),
        ((np.zeros((2, 0), int), np.ones((2, 0))), ValueError, "at least one class a row"),
        (([[0]], np.ones((2, 1))), TypeError, "targets: indices: expected an integer array"),
        ((np.zeros((2, 1), int), np.ones((2, 1)), "even"), ValueError, "targets: rest: expected"),
    ],
)
def test_a_wrong_list_is_refused_by_name(teacher: Any, error: type, message: str) -> None:
    with pytest.raises(error, match=message):
        cross_entropy(np.zeros((2, 4)), TopKTargets(*teacher))
    with pytest.raises(error, match=message.replace("of log", "of the log")):
        linear_cross_entropy(np.zeros((2, 5)), np.zeros((4, 5)), TopKTargets(*teacher))


def test_other_losses_say_what_they_take_instead() -> None:
    z, teacher = np.full((1, 2), 0.5), TopKTargets(np.array([[0]]), np.array([[1.0]]))
    for loss in (xloss.focal_loss, xloss.nll_loss, xloss.log_loss, xloss.kl_div):
        with pytest.raises(TypeError, match=f"targets: {loss.__name__} takes no TopKTargets"):
            loss(z, teacher)
    for loss in (xloss.binary_cross_entropy, xloss.sigmoid_focal_loss):
        with pytest.raises(TypeError, match=r"targets: .* takes no TopKTargets"):
            loss(z, teacher)
    with pytest.raises(TypeError, match="takes no TopKTargets"):
        xloss.vocab_parallel_cross_entropy(z, teacher, group=None)


def test_a_loss_object_and_its_gradient_take_a_list() -> None:
    z, teacher = np.array([[1.0, 2.0, 0.5]]), TopKTargets(np.array([[1]]), np.array([[0.5]]))
    loss = CrossEntropyLoss(label_smoothing=0.25)
    want = cross_entropy(z, np.array([[0.0, 0.5, 0.0]]), label_smoothing=0.25)
    np.testing.assert_allclose(loss(z, teacher), want, rtol=1e-15)
    np.testing.assert_allclose(value_and_grad(loss, 1)(z, teacher)[0], want, rtol=1e-15)


def test_a_compiled_engine_says_which_lists_it_does_not_take() -> None:
    if xloss.engines()["cpu"] is not None:
        pytest.skip("Numba is not installed")
    few = TopKTargets(np.array([[1]]), np.array([[0.5]]), "uniform")
    with (
        xloss.use_engine("cpu"),
        pytest.raises(xloss.EngineUnavailable, match="partly spread evenly"),
    ):
        cross_entropy(np.zeros((1, 3)), few, softcap=2.0)
