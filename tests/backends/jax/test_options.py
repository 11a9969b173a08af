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


@pytest.mark.parametrize("options", [{}, {"label_smoothing": 0.25, "z_loss": 0.5}])
def test_a_program_of_symbolic_lengths(options):
    call = exported(lambda z, y: xloss.cross_entropy(z, y, **options), z="b, c", y="b")
    want = expected("cross_entropy", Z, Y, **options)
    close(np.asarray(call(FLOAT, LABELS)), want.value)
    few = expected("cross_entropy", Z[:2, :3], Y[:2] % 3, **options)
    close(np.asarray(call(FLOAT[:2, :3], LABELS[:2] % 3)), few.value)


def test_its_gradients():
    want = expected("cross_entropy", Z, Y)
    loss = xloss.cross_entropy
    for function in (jax.grad(loss), lambda z, y: value_and_grad(loss)(z, y)[1]):
        close(np.asarray(exported(function, z="b, c", y="b")(FLOAT, LABELS)), want.grad)


def test_its_weights_and_soft_targets():
    w, s = np.arange(1.0, CLASSES + 1), np.arange(1.0, ROWS + 1)
    t = soft((ROWS, CLASSES))

    def loss(z: Any, t: Any, w: Any, s: Any) -> Any:
        return xloss.cross_entropy(z, t, weight=w, sample_weight=s)

    call = exported(loss, z="b, c", t="b, c", w="c", s="b")
    got = call(FLOAT, *(jnp.asarray(a, jnp.float32) for a in (t, w, s)))
    close(np.asarray(got), expected("cross_entropy", Z, t, weight=w, sample_weight=s).value)


@pytest.mark.parametrize("axis", ["class", "feature"])
def test_linear_cross_entropy_of_symbolic_lengths(axis):
    x, m = inputs("cross_entropy", (ROWS, WIDTH), 1), inputs("cross_entropy", (CLASSES, WIDTH), 2)
    c, d = ("c", str(WIDTH)) if axis == "class" else (str(CLASSES), "d")
    call = exported(xloss.linear_cross_entropy, x=f"b, {d}", m=f"{c}, {d}", y="b")
    got = call(*(jnp.asarray(a, jnp.float32) for a in (x, m)), LABELS)
    close(np.asarray(got), expected("cross_entropy", x @ m.T, Y).value, within=32)


NUMBERS = {
    "label_smoothing": xloss.cross_entropy,
    "z_loss": xloss.cross_entropy,
    "softcap": xloss.cross_entropy,
    "gamma": xloss.focal_loss,
}


@pytest.mark.parametrize("name", NUMBERS)
def test_a_traced_number_is_refused_with_the_way_out(name):
    loss = NUMBERS[name]
    with pytest.raises(TypeError, match=rf"^{name}: expected a number, got .*Tracer") as caught:
        jax.jit(lambda z, y, v: loss(z, y, **{name: v}))(FLOAT, LABELS, 0.5)
    assert f"static_argnames=({name!r},)" in str(caught.value)
    # And the way out it names is one.
    given = jax.jit(loss, static_argnames=(name,))
    close(
        np.asarray(given(FLOAT, LABELS, **{name: 0.5})),
        expected(loss.__name__, Z, Y, **{name: 0.5}).value,
        within=16,
    )


def test_the_other_options_of_the_same_kind():
    x, t = FLOAT, jnp.asarray(soft((ROWS, CLASSES)), jnp.float32)
    probs = jnp.asarray([0.5, 0.25])
    calls = {
        "alpha": lambda v: xloss.sigmoid_focal_loss(x, t, alpha=v),
        "eps": lambda v: xloss.binary_cross_entropy(probs, probs, eps=v),
        "strength": lambda v: xloss.l2_penalty(x, strength=v),
        "epsilon": lambda v: xloss.smooth_labels(t, v),
        "axis": lambda v: xloss.cross_entropy(x, LABELS, axis=v),
        "ignore_index": lambda v: xloss.cross_entropy(x, LABELS, ignore_index=v),
    }
    for name, call in calls.items():
        with pytest.raises(TypeError, match=rf"^{name}: expected .*static_argnames=\('{name}',\)"):
            jax.jit(call)(1)


@pytest.mark.parametrize("make", [jnp.float32, np.asarray])
def test_an_array_where_a_number_is_meant_is_refused_with_the_way_out(make):
    if isinstance(make(0.5), float):
        pytest.skip("a number after all")
    want = re.escape("pass label_smoothing=float(...)")
    with pytest.raises(TypeError, match=want):
        xloss.cross_entropy(FLOAT, LABELS, label_smoothing=make(0.5))
