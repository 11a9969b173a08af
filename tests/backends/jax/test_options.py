"""What JAX traces beside plain arrays: symbols for lengths, scalars where a number is meant, and
targets of a few classes a row."""

from __future__ import annotations

import re
from functools import partial
from typing import Any

import numpy as np
import pytest

import xloss
from expected import close, expected, inputs, labels, soft
from nightly import core
from xloss import value_and_grad

jax = pytest.importorskip("jax")
jnp = jax.numpy
export = pytest.importorskip("jax.export")

ROWS, CLASSES, WIDTH = 5, 7, 3


def exported(function: Any, **shapes: str) -> Any:
    """Export a function of arrays of symbolic lengths; those named `y` are labels."""
    scope = export.SymbolicScope()
    kinds = [
        jax.ShapeDtypeStruct(
            export.symbolic_shape(shape, scope=scope), jnp.int32 if name == "y" else jnp.float32
        )
        for name, shape in shapes.items()
    ]
    return export.export(jax.jit(function))(*kinds).call


Z, Y = inputs("cross_entropy", (ROWS, CLASSES)), labels(ROWS, CLASSES)
FLOAT, LABELS = jnp.asarray(Z, jnp.float32), jnp.asarray(Y, jnp.int32)


def test_a_program_of_symbolic_lengths():
    """Value and gradients, of arrays of other lengths too."""
    w, s, t = np.arange(1.0, CLASSES + 1), np.arange(1.0, ROWS + 1), soft((ROWS, CLASSES))
    options = {"label_smoothing": 0.25, "z_loss": 0.5}
    loss = xloss.cross_entropy
    call = exported(lambda z, y: loss(z, y, **options), z="b, c", y="b")
    few = Z[:2, :3], Y[:2] % 3
    close(np.asarray(call(FLOAT, LABELS)), expected("cross_entropy", Z, Y, **options).value)
    got = call(jnp.asarray(few[0], jnp.float32), jnp.asarray(few[1], jnp.int32))
    close(np.asarray(got), expected("cross_entropy", *few, **options).value)
    for function in (jax.grad(loss), lambda z, y: value_and_grad(loss)(z, y)[1]):
        slope = exported(function, z="b, c", y="b")(FLOAT, LABELS)
        close(np.asarray(slope), expected("cross_entropy", Z, Y).grad)
    call = exported(
        lambda z, t, w, s: loss(z, t, weight=w, sample_weight=s), z="b, c", t="b, c", w="c", s="b"
    )
    got = call(FLOAT, *(jnp.asarray(a, jnp.float32) for a in (t, w, s)))
    close(np.asarray(got), expected("cross_entropy", Z, t, weight=w, sample_weight=s).value)


@pytest.mark.parametrize("axis", ["class", "feature"])
def test_linear_cross_entropy_of_symbolic_lengths(axis):
    x, m = inputs("cross_entropy", (ROWS, WIDTH), 1), inputs("cross_entropy", (CLASSES, WIDTH), 2)
    c, d = ("c", str(WIDTH)) if axis == "class" else (str(CLASSES), "d")
    call = exported(xloss.linear_cross_entropy, x=f"b, {d}", m=f"{c}, {d}", y="b")
    got = call(*(jnp.asarray(a, jnp.float32) for a in (x, m)), LABELS)
    close(np.asarray(got), expected("cross_entropy", x @ m.T, Y).value, within=32)


FLOATS, PROBS = jnp.asarray(soft((ROWS, CLASSES)), jnp.float32), jnp.asarray([0.5, 0.25])
NUMBERS = {
    **dict.fromkeys(
        ("label_smoothing", "z_loss", "softcap", "axis", "ignore_index"),
        partial(xloss.cross_entropy, FLOAT, LABELS),
    ),
    "gamma": partial(xloss.focal_loss, FLOAT, LABELS),
    "alpha": partial(xloss.sigmoid_focal_loss, FLOAT, FLOATS),
    "eps": partial(xloss.binary_cross_entropy, PROBS, PROBS),
    "strength": partial(xloss.l2_penalty, FLOAT),
}


@pytest.mark.parametrize("name", NUMBERS)
def test_a_traced_number_is_refused_with_the_way_out(name):
    with pytest.raises(TypeError, match=rf"^{name}: expected .*static_argnames=\('{name}',\)"):
        jax.jit(lambda v: NUMBERS[name](**{name: v}))(1)


def test_the_way_out_is_one():
    given = jax.jit(xloss.cross_entropy, static_argnames=("z_loss",))(FLOAT, LABELS, z_loss=0.5)
    close(np.asarray(given), expected("cross_entropy", Z, Y, z_loss=0.5).value, within=16)
    with pytest.raises(TypeError, match=re.escape("pass label_smoothing=float(...)")):
        xloss.cross_entropy(FLOAT, LABELS, label_smoothing=jnp.float32(0.5))


def test_evaluation_and_diagnosis_of_a_trace_are_refused():
    for read in (xloss.Evaluation().update, xloss.diagnose):
        with pytest.raises(TypeError, match=r"^logits: .* no values here that can be read"):
            jax.jit(lambda z, y, read=read: read(z, y) and 0)(FLOAT, LABELS)


LOGITS = jnp.asarray(inputs("cross_entropy", (4, 6)), jnp.float32)
INDICES = jnp.asarray([[0, 1, 1], [2, 3, 4], [5, -100, 4], [1, 2, 0]])
P = jnp.asarray(soft((4, 3)) * 0.75, jnp.float32)
# A rest spread evenly has all that none has, and the others' share.
RESTS = pytest.mark.parametrize("rest", core(["zero", "uniform"], lambda rest: rest == "uniform"))


def test_the_record_passes_through_transformations():
    teacher = xloss.TopKTargets(INDICES, P, "uniform")
    value, (g, h) = value_and_grad(xloss.cross_entropy, (0, 1))(LOGITS, teacher)
    by_both = jax.value_and_grad(xloss.cross_entropy, (0, 1), allow_int=True)
    got, (by_z, by_record) = jax.jit(by_both)(LOGITS, teacher)
    np.testing.assert_allclose(got, value, rtol=1e-6)
    np.testing.assert_allclose(by_z, g, atol=1e-7)
    np.testing.assert_allclose(by_record.probabilities, h, atol=1e-6)
    rows = xloss.cross_entropy(LOGITS, teacher, reduction="none")
    each = jax.vmap(lambda z, t: xloss.cross_entropy(z, t, reduction="none"))(LOGITS, teacher)
    np.testing.assert_allclose(each, rows, rtol=1e-6)


@RESTS
def test_second_derivatives_are_those_of_targets_written_out(rest):
    dense = np.zeros((4, 6), np.float32)
    there = INDICES >= 0
    np.add.at(dense, (np.nonzero(there)[0], INDICES[there]), P[there])  # row 0 has class 1 twice
    if rest == "uniform":
        for row, places in zip(dense, INDICES.tolist(), strict=True):
            others = [j for j in range(6) if j not in places]
            row[others] = (1 - row.sum()) / len(others)
    teacher = xloss.TopKTargets(INDICES, P, rest)
    hessian = jax.jit(jax.hessian(xloss.cross_entropy))
    got, want = hessian(LOGITS, teacher), hessian(LOGITS, jnp.asarray(dense))
    np.testing.assert_allclose(got, want, atol=2e-6)


def test_no_array_of_the_logits_size_is_made_beside_the_gradient():
    z = jnp.zeros((64, 32768), jnp.float32)
    teacher = xloss.TopKTargets(jnp.tile(jnp.arange(8), (64, 1)), jnp.full((64, 8), 0.0625))
    step = jax.jit(jax.value_and_grad(xloss.cross_entropy)).lower(z, teacher).compile()
    # A few dozen arrays of 4 bytes for each of 8 · 8 pairs of slots, and what reductions share.
    assert step.memory_analysis().temp_size_in_bytes < 40 * 4 * 64 * 64 + 2**17
