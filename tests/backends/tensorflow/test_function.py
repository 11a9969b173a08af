"""TensorFlow: tf.function with unknown lengths, XLA, AutoGraph, host labels, strategies."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import linear_cases
import xloss
from expected import BINARY, CLASS, LOSSES, close, expected, inputs, labels, shape, targets
from fresh import said

tf = pytest.importorskip("tensorflow")

ROWS, CLASSES = 5, 7
WAYS = ("graph", "unknown", "xla", "unknown xla")
UNKNOWN = ("unknown", "unknown xla")  # XLA takes seconds to compile
LOST = 2.0**-126  # TensorFlow's operations make 0 of what is smaller


def both(loss: Callable[..., Any], *args: Any, **options: Any) -> tuple[Any, ...]:
    """A loss, its gradient by a tape, and value_and_grad's of both."""
    with tf.GradientTape() as tape:
        tape.watch(args[0])
        value = loss(*args, **options)
    return value, tape.gradient(value, args[0]), *xloss.value_and_grad(loss)(*args, **options)


def ran(way: str, function: Callable[..., Any], *args: Any) -> Any:
    """What a function returns inside tf.function, in one of the WAYS."""
    args = tuple(map(tf.constant, args))
    unknown = "unknown" in way
    signature = [tf.TensorSpec([None, *a.shape[1:]] if unknown else a.shape, a.dtype) for a in args]
    traced = tf.function(
        function, input_signature=signature, jit_compile="xla" in way, autograph=False
    )
    return traced(*args)


@pytest.mark.parametrize(
    ("name", "way"),
    [(name, way) for name in LOSSES for way in (UNKNOWN if name != LOSSES[0] else WAYS)],
)
def test_every_loss_is_exact_inside_a_function(name: str, way: str) -> None:
    """Value and gradient, the number of rows unknown or not."""
    form = shape(name, ROWS, CLASSES)
    x, t = inputs(name, form), targets(name, form)
    want = expected(name, x, t)
    loss = getattr(xloss, name)
    t = t if t.dtype.kind in "iu" else t.astype(np.float32)
    got = ran(way, lambda x, t: both(loss, x, t), x.astype(np.float32), t)
    for value, gradient in (got[:2], got[2:]):
        close(value, want.value, lost=LOST)
        close(gradient, want.grad, within=12, lost=LOST)


@pytest.mark.parametrize(
    ("reduction", "way"),
    [("mean", "graph"), *(("mean", way) for way in UNKNOWN), ("sum", "unknown"), ("none", "xla")],
)
def test_every_option_inside_a_function(reduction: str, way: str) -> None:
    """Weights that are broadcast, absent rows, smoothing, z-loss, a cap; the axis in front."""
    x = inputs("cross_entropy", (ROWS, CLASSES), 3)
    y = np.array([0, 6, -100, 3, 2])
    sample, where = np.array([0.5, 1, 2, 0, 4]), np.array([True, True, True, True, False])
    weight = np.linspace(0.5, 2, CLASSES).round(3)
    options = {"label_smoothing": 0.125, "z_loss": 0.25, "softcap": 8.0, "reduction": reduction}
    want = expected(
        "cross_entropy", x, y, sample_weight=sample, where=where, weight=weight, **options
    )

    def run(x: Any, y: Any, sample: Any, where: Any) -> Any:
        return both(
            xloss.cross_entropy, x, y, sample_weight=sample, where=where, weight=weight, **options
        )

    got = ran(way, run, x, y, sample, where)
    value = want.rows if reduction == "none" else want.value
    for found, gradient in (got[:2], got[2:]):
        close(found, value, "float64", within=40)
        close(gradient, want.grad, "float64", within=80)


@pytest.mark.parametrize("way", UNKNOWN)
def test_a_weight_of_length_one_is_every_rows(way: str) -> None:
    """It is broadcast when the graph runs, so that the mean counts every row."""
    x, y = inputs("cross_entropy", (ROWS, CLASSES)), labels(ROWS, CLASSES)
    want = expected("cross_entropy", x, y)
    got = ran(way, lambda x, y: xloss.cross_entropy(x, y, sample_weight=tf.constant([2.0])), x, y)
    close(got, want.value, "float64")
    count = ran(way, lambda y: xloss.effective_count(y, sample_weight=tf.constant([2.0])), y)
    assert float(count) == 2.0 * ROWS


@pytest.mark.parametrize("jit", [False, True])
def test_classes_are_weighed_where_two_lengths_are_unknown(jit: bool) -> None:
    """TensorFlow reshapes to one unknown length alone."""
    x, y, weight = (
        inputs("nll_loss", (6, CLASSES)),
        labels(6, CLASSES),
        np.linspace(0.5, 2, CLASSES),
    )
    rows = [tf.TensorSpec([None, None, CLASSES], tf.float64), tf.TensorSpec([None] * 2, tf.int64)]
    loss = tf.function(
        lambda x, y: xloss.nll_loss(x, y, weight=weight), rows, jit_compile=jit, autograph=False
    )
    want = expected("nll_loss", x, y, weight=weight)
    close(loss(x.reshape(2, 3, CLASSES), y.reshape(2, 3)), want.value, "float64")


@pytest.mark.parametrize("jit", [False, True])
@pytest.mark.parametrize("known", ["logits", "targets", "neither"])
def test_shapes_that_do_not_fit_are_found_when_the_graph_runs(known: str, jit: bool) -> None:
    """One row of targets is not every row's, though arithmetic would repeat it."""
    lengths = [4 if known == "logits" else None, 1 if known == "targets" else None]
    rows = [tf.TensorSpec([n, 3]) for n in lengths]
    traced = tf.function(xloss.cross_entropy, rows, jit_compile=jit, autograph=False)
    z, t = tf.zeros((4, 3)), tf.fill((4, 3), 1 / 3)
    if known != "targets":
        close(traced(z, t), float(np.log(3.0)))
    with pytest.raises(tf.errors.InvalidArgumentError):
        traced(z, t[:1])


@pytest.mark.parametrize("way", UNKNOWN)
def test_linear_of_no_row(way: str) -> None:
    """The mean over no row is 0, and so are its gradients."""
    w = tf.ones((CLASSES, 3))

    def run(x: Any, y: Any) -> Any:
        value, gradient, *_ = both(xloss.linear_cross_entropy, x, w, y)
        return value, gradient, *xloss.value_and_grad(xloss.linear_cross_entropy, 1)(x, w, y)

    value, gradient, again, slope = ran(way, run, np.zeros((0, 3), np.float32), np.zeros(0, int))
    assert float(value) == float(again) == 0.0
    assert gradient.shape == (0, 3)
    np.testing.assert_array_equal(slope, np.zeros((CLASSES, 3)))


def test_unknown_rank() -> None:
    """Targets take that of the logits; of logits nobody knows the classes: one sentence."""

    def loss(logits: Any, targets: Any, dtype: Any = tf.int64) -> Any:
        spec = [tf.TensorSpec(logits), tf.TensorSpec(targets, dtype)]
        return tf.function(xloss.cross_entropy, input_signature=spec, autograph=False)

    z, y = tf.zeros((4, 3)), tf.zeros((4,), tf.int64)
    close(loss([None, 3], None)(z, y), float(np.log(3.0)))
    close(loss([None, 3], None, tf.float32)(z, tf.fill((4, 3), 1 / 3)), float(np.log(3.0)))
    with pytest.raises(ValueError, match=r"^logits: .*tensorflow\.ensure_shape\(logits, \.\.\.\)"):
        loss(None, [None])(z, y)
    with pytest.raises(ValueError, match="logits: the class axis must have a known length"):
        loss([None, None], [None])(z, y)


@pytest.mark.parametrize("form", ["labels", "soft"])
@pytest.mark.parametrize(
    ("block_rows", "way"), [("auto", "eager"), (2, "graph"), (2, "unknown xla")]
)
def test_linear(form: str, block_rows: Any, way: str) -> None:
    """In a loop over blocks, the last of them not full; two axes of rows."""
    t = linear_cases.Y if form == "labels" else linear_cases.T
    x, w, b = linear_cases.X, linear_cases.W, linear_cases.B
    names = ("weight", "bias", *(["targets"] if form == "soft" else []))

    def run(x: Any, t: Any) -> Any:
        options = {"bias": tf.constant(b), "block_rows": block_rows, "label_smoothing": 0.125}
        got = both(xloss.linear_cross_entropy, x, tf.constant(w), t, **options)
        own = xloss.value_and_grad(xloss.linear_cross_entropy, names)
        return *got, own(x, tf.constant(w), t, **options)[1]

    rows = x[:, None], t[:, None]
    got = run(*map(tf.constant, rows)) if way == "eager" else ran(way, run, *rows)
    like = {"x": x, "weight": w, "bias": b, "targets": t}
    for value, gradient in (got[:2], got[2:4]):
        parts = {"x": gradient, **dict(zip(names, got[4], strict=True))}
        flat = {name: np.reshape(part, like[name].shape) for name, part in parts.items()}
        made = {"value": np.asarray(value), **flat}
        linear_cases.held(made, t, b, dtype="float64", label_smoothing=0.125)


@pytest.mark.parametrize("jit", [False, True])
def test_bad_labels(jit: bool) -> None:
    """Those of a trace are not read, and their rows are NaN; NumPy's raise."""
    z = tf.constant(inputs("cross_entropy", (3, 4)), tf.float32)
    y = tf.constant([0, 4, -(2**31)])

    def traced(function: Callable[..., Any]) -> Any:
        return tf.function(function, jit_compile=jit, autograph=False)

    value, gradient, *_ = traced(lambda *a: both(xloss.cross_entropy, *a, reduction="none"))(z, y)
    assert np.isnan(value.numpy()).tolist() == [False, True, True]
    assert np.isnan(gradient.numpy()).all(-1).tolist() == [False, True, True]
    with pytest.raises(IndexError, match="label 9"):
        traced(lambda z: xloss.cross_entropy(z, np.array([0, 9, 1])))(z)
    with pytest.raises(ValueError, match=r"^validate: "):
        traced(lambda z, y: xloss.cross_entropy(z, y, validate=True))(z, y)


def test_autograph_converts_every_public_function(caplog: pytest.LogCaptureFixture) -> None:
    """It warns where it cannot rewrite the source of what they call."""
    logger = logging.getLogger("tensorflow")  # which hands nothing on to other loggers
    logger.addHandler(caplog.handler)
    stateful = xloss.CrossEntropyLoss(label_smoothing=0.1)
    z, y = tf.constant(inputs("cross_entropy", (3, 4))), tf.constant([0, 1, 2])

    def everything(z: Any, y: Any) -> Any:
        p, w = xloss.softmax(z), tf.ones(4, tf.float64)
        out = [getattr(xloss, name)(z, y, weight=w) for name in CLASS]
        out += [getattr(xloss, name)(p, p, sample_weight=p) for name in BINARY]
        out += [xloss.kl_div(p, p, sample_weight=y), xloss.entropy(z), xloss.log_softmax(z)]
        out += [xloss.logsumexp(z, keepdims=True), xloss.one_hot(y, 4)]
        out += [xloss.smooth_labels(p, 0.1, where=p > 0.1)]
        out += [xloss.effective_count(y, weight=w), xloss.effective_count(p, weight=w)]
        out += [xloss.l2_penalty([z, p], strength=0.1), xloss.perplexity(out[0]), stateful(z, y)]
        out += [*xloss.value_and_grad(stateful)(z, y)]
        out += [*xloss.value_and_grad(xloss.l2_penalty)(z, strength=0.1)]
        return [*out, xloss.linear_cross_entropy(z, z, y, class_weight=tf.ones(3))]

    try:
        converted, plain = (tf.function(everything, autograph=way)(z, y) for way in (True, False))
    finally:
        logger.removeHandler(caplog.handler)
    assert "AutoGraph" not in caplog.text
    for a, b in zip(converted, plain, strict=True):
        np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize("name", ["cross_entropy", "focal_loss", "nll_loss"])
@pytest.mark.parametrize("reduction", ["none", "mean"])
def test_an_absent_row_of_nan_has_no_gradient_on_a_persistent_tape(name, reduction) -> None:
    """Such a tape also sends zeros back through what a tf.function saves: 0 times NaN is NaN."""
    z = inputs(name, (3, 4))
    z[1] = np.nan
    loss = getattr(xloss, name)
    traced = tf.function(lambda z, y: loss(z, y, reduction=reduction))
    v = tf.Variable(z)
    with tf.GradientTape(persistent=True) as tape:
        value = traced(v, tf.constant([0, -100, 2]))
    gradient = tape.gradient(value, v).numpy()
    assert np.isfinite(gradient).all()
    assert not gradient[1].any()
    assert gradient[0].any()


def test_mirrored_strategy() -> None:
    """Two logical devices: the replicas' losses and gradients add up to those of one."""
    assert said("import tensorflow_strategy").split() == ["eager", "graph", "refused"]
