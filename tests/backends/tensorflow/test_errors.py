"""TensorFlow: one sentence for what is not a dense tensor, host arrays, evaluation, the import."""

from __future__ import annotations

from math import log
from typing import Any

import numpy as np
import pytest

import xloss
from expected import close, expected, inputs, labels

tf = pytest.importorskip("tensorflow")


WAYS: dict[str, Any] = {
    r"RaggedTensor; pass {}\.to_tensor\(\), with where= for what is padding$": (
        lambda: tf.ragged.constant([[0.0, 1.0], [2.0]])
    ),
    r"SparseTensor; pass tensorflow\.sparse\.to_dense\({}\)$": lambda: tf.sparse.from_dense(
        tf.eye(2)
    ),
    r"IndexedSlices; pass tensorflow\.convert_to_tensor\({}\)$": (
        lambda: tf.IndexedSlices(tf.zeros((1, 2)), tf.constant([0]), tf.constant([2, 2]))
    ),
}


@pytest.mark.parametrize("way", WAYS)
def test_what_is_no_dense_tensor_is_refused_in_one_sentence(way: str) -> None:
    """Wherever it stands: the message names the argument."""
    z, y, x = tf.zeros((2, 2)), tf.constant([0, 1]), WAYS[way]()
    calls = {
        "logits": lambda: xloss.cross_entropy(x, y),
        "targets": lambda: xloss.cross_entropy(z, x),
        "weight": lambda: xloss.cross_entropy(z, y, weight=x),
        "probs": lambda: xloss.binary_cross_entropy(x, x),
        "features": lambda: xloss.linear_cross_entropy(x, z, y),
        "x": lambda: xloss.softmax(x),
        "params": lambda: xloss.l2_penalty(x, strength=1.0),
    }
    for name, call in calls.items():
        with pytest.raises(TypeError, match=f"^{name}: .*, got TensorFlow's {way.format(name)}"):
            call()


@pytest.mark.parametrize("kind", ["uint8", "int8", "uint16", "int32", "uint32", "int64", "uint64"])
def test_labels_of_every_integer(kind: str) -> None:
    """TensorFlow compares few of them itself in a trace; the suite has them on the host."""
    x = inputs("cross_entropy", (4, 5))
    y = labels(4, 5).astype(kind)
    want = expected("cross_entropy", x, y.astype(np.int64))
    z, t = tf.constant(x), tf.constant(y)
    traced = tf.function(xloss.cross_entropy, autograph=False)
    for got in (traced(z, t), traced(z, y)):
        close(got, want.value, "float64")


@pytest.mark.parametrize("kind", ["float16", "bfloat16", "float32", "float64"])
@pytest.mark.parametrize(("rows", "classes"), [(2, 3), (64, 200), (64, 50)])
def test_gradients_are_tensors_whatever_their_memory(kind: str, rows: int, classes: int) -> None:
    """Large ones are handed over without a copy, whatever their dtype; small ones copied."""
    z = tf.cast(tf.constant(inputs("cross_entropy", (rows, classes))), kind)
    with tf.GradientTape() as tape:
        tape.watch(z)
        value = xloss.cross_entropy(z, np.zeros(rows, int))
    gradient = tape.gradient(value, z)
    assert (value.dtype, gradient.dtype) == (
        tf.float64 if kind == "float64" else tf.float32,
        z.dtype,
    )
    want = (tf.nn.softmax(tf.cast(z, tf.float64)).numpy() - np.eye(classes)[0]) / rows
    spare = {"float16": 1e-3, "bfloat16": 8e-3}.get(kind, 1e-5)
    again = tf.cast(gradient, tf.float64) + 0.0  # TensorFlow ends a process at odd memory
    np.testing.assert_allclose(again, want, rtol=spare, atol=1e-7)


def test_evaluation_and_diagnosis_of_a_trace_are_refused() -> None:
    """Inside tf.function there is nothing to read."""
    for read in (xloss.Evaluation().update, xloss.diagnose):
        traced = tf.function(lambda z, t, read=read: read(z, t) and 0, autograph=False)
        with pytest.raises(TypeError, match=r"^logits: .* no values here that can be read"):
            traced(tf.zeros((2, 3)), tf.constant([0, 1]))


def test_an_engine_that_is_asked_for_inside_a_function() -> None:
    """It reads no tensor that has no values yet, and says so: in a closed form, too."""
    for loss in (xloss.cross_entropy, xloss.value_and_grad(xloss.cross_entropy)):
        traced = tf.function(lambda z, t, loss=loss: loss(z, t), autograph=False)
        with (
            xloss.use_engine("cpu"),
            pytest.raises(xloss.EngineUnavailable, match=r"^engine 'cpu'"),
        ):
            traced(tf.zeros((2, 3)), tf.constant([0, 1]))


def test_weights_beyond_float32_change_no_mean() -> None:
    """Their exponents are read from their bits: every operation takes a subnormal for 0."""
    x, y = inputs("cross_entropy", (3, 4)).astype(np.float32), np.array([0, 3, 1])
    want = expected("cross_entropy", x, y)
    traced = tf.function(xloss.cross_entropy, autograph=False)
    for size in (1e-38, 1e38):
        weight = tf.fill((3,), tf.constant(size, tf.float32))
        for loss in (xloss.cross_entropy, traced):
            close(loss(tf.constant(x), y, sample_weight=weight), want.value)


def test_mean_of_many_rows_is_exact_to_the_last_digits() -> None:
    """600 equal numbers of float64 add up to one 5 ulp off, by TensorFlow's own sum."""
    z, y = tf.zeros((600, 2), tf.float64), np.zeros(600, np.int64)
    for jit in (False, True):
        traced = tf.function(xloss.cross_entropy, jit_compile=jit, autograph=False)
        assert abs(float(traced(z, y)) - log(2.0)) <= np.spacing(log(2.0))
