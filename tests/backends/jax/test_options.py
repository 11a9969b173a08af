"""What JAX traces beside the arrays: symbols for lengths, and scalars where a number is meant."""

from __future__ import annotations

import re
from typing import Any

import numpy as np
import pytest

import xloss
from expected import close, expected, inputs, labels, soft
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
    "label_smoothing": lambda v: xloss.cross_entropy(FLOAT, LABELS, label_smoothing=v),
    "z_loss": lambda v: xloss.cross_entropy(FLOAT, LABELS, z_loss=v),
    "softcap": lambda v: xloss.cross_entropy(FLOAT, LABELS, softcap=v),
    "gamma": lambda v: xloss.focal_loss(FLOAT, LABELS, gamma=v),
    "alpha": lambda v: xloss.sigmoid_focal_loss(FLOAT, FLOATS, alpha=v),
    "eps": lambda v: xloss.binary_cross_entropy(PROBS, PROBS, eps=v),
    "strength": lambda v: xloss.l2_penalty(FLOAT, strength=v),
    "epsilon": lambda v: xloss.smooth_labels(FLOATS, v),
    "axis": lambda v: xloss.cross_entropy(FLOAT, LABELS, axis=v),
    "ignore_index": lambda v: xloss.cross_entropy(FLOAT, LABELS, ignore_index=v),
}


@pytest.mark.parametrize("name", NUMBERS)
def test_a_traced_number_is_refused_with_the_way_out(name):
    with pytest.raises(TypeError, match=rf"^{name}: expected .*static_argnames=\('{name}',\)"):
        jax.jit(NUMBERS[name])(1)


def test_the_way_out_is_one():
    given = jax.jit(xloss.cross_entropy, static_argnames=("z_loss",))(FLOAT, LABELS, z_loss=0.5)
    close(np.asarray(given), expected("cross_entropy", Z, Y, z_loss=0.5).value, within=16)
    with pytest.raises(TypeError, match=re.escape("pass label_smoothing=float(...)")):
        xloss.cross_entropy(FLOAT, LABELS, label_smoothing=jnp.float32(0.5))
