"""JAX: one custom_jvp around the rows, jitted where arrays are concrete."""

from __future__ import annotations

from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from ..._arrays.context import context
from ..._arrays.inspect import Array
from ...core import elementwise as binary
from ...core.call import LossCall
from ...core.formula import formula_gradients
from ...core.options import Cotangent, Operands, Options, Outputs
from ...core.reduce import exact_sum
from ...core.token_stats import Tokens
from ...core.weights import mean_weights
from ...engines import choose, generic
from ...engines.cpu import engine as cpu
from ..eager import dense as default
from ..eager import followed
from . import ffi as jax_ffi
from .mesh import EVERYWHERE, automatic, spread_as
from .softmax_rules import slot_parts, softmax_parts


class Static(NamedTuple):
    """What a compiled function is specialised on."""

    options: Options
    classes: int
    clean: bool  # the labels were looked at


def value(call: LossCall) -> Array:
    """Return the loss."""
    choose(call)
    return _value(call.operands, _denominator(call), _static(call))


def value_and_grad(
    call: LossCall, wanted: tuple[str, ...], cotangent: Any
) -> tuple[Array, dict[str, Array]]:
    """Return the loss and the closed-form gradients."""
    choose(call)
    n = _denominator(call)
    got, grads = _value_and_grad(call.operands, n, cotangent, _static(call), wanted)
    return got, {name: default.restore(call, g) for name, g in grads.items()}


def tokens(call: LossCall, asked: Outputs) -> tuple[Array, Tokens]:
    """Return row losses and the numbers beside them, which are constants to autodiff."""
    choose(call)
    made: tuple[Array, Tokens] = _tokens(call.operands, _static(call), asked)
    return made


def elements(call: LossCall) -> Array:
    """Return softmax or its logarithm."""
    choose(call)
    out = _elements(call.operands.x, call.options.kind == "log_softmax")
    return default.restore(call, out)


def weight(call: LossCall) -> Array:
    """Return the mean's denominator."""
    choose(call)
    return _weight(call.operands, call.options, call.classes)


def _denominator(call: LossCall) -> Any:
    n = call.normalizer
    return None if n is None else jax.lax.stop_gradient(jnp.asarray(n, dtype=call.cx.sum_dtype))


def _static(call: LossCall) -> Static:
    return Static(call.options, call.classes, call.cx.labels_verified)


def _call(o: Operands, static: Static, normalizer: Any = None) -> LossCall:
    """Return the call that a compiled function's arguments describe."""
    cx = context(o.x, jnp)._replace(labels_verified=static.clean)
    return LossCall("", static.options, cx, o, static.classes, -1, normalizer)


# Compiled for concrete arrays too: run step by step, it would store many arrays as large as the
# logits.
@partial(jax.jit, static_argnums=2)
def _value(o: Operands, normalizer: Any, static: Static) -> Array:
    return automatic(partial(_reduced, static=static), _spread(o, static), o, normalizer)


def _spread(o: Operands, static: Static) -> Any:
    """Return how the value of a loss is spread over a mesh."""
    each = static.options.reduction == "none"
    return spread_as(o.x, 1 if static.classes else 0) if each else EVERYWHERE


def _reduced(o: Operands, normalizer: Any, static: Static) -> Array:
    call = _call(_constants(o), static, normalizer)
    return followed.value(call, lambda call: _rows(call.operands, static)[0])


@partial(jax.jit, static_argnums=(1, 2))
def _tokens(o: Operands, static: Static, asked: Outputs) -> tuple[Array, Tokens]:
    def run(o: Operands) -> tuple[Array, Tokens]:
        fixed = jax.tree.map(jax.lax.stop_gradient, o)
        beside: Any = generic.run(_call(fixed, static), asked).tokens
        return _rows(_constants(o), static)[0], beside

    made: tuple[Array, Tokens] = automatic(run, spread_as(o.x, 1), o)
    return made


@partial(jax.jit, static_argnums=(3, 4))
def _value_and_grad(
    o: Operands, normalizer: Any, cotangent: Any, static: Static, wanted: tuple[str, ...]
) -> tuple[Array, dict[str, Array]]:
    def run(o: Operands, normalizer: Any, cotangent: Any) -> tuple[Array, dict[str, Array]]:
        call = _call(o, static)
        o, normalizer = mean_weights(o, static.options, call.cx, static.classes, normalizer)
        call = call._replace(operands=o, normalizer=normalizer)
        return default.value_and_grad(call, wanted, cotangent)

    grads = {name: spread_as(getattr(o, name)) for name in wanted}
    out = (_spread(o, static), grads)
    made: tuple[Array, dict[str, Array]] = automatic(run, out, o, normalizer, cotangent)
    return made


@partial(jax.jit, static_argnums=(1, 2))
def _weight(o: Operands, options: Options, classes: int) -> Array:
    def run(o: Operands) -> Array:
        return followed.weight(_call(o, Static(options, classes, clean=False)))

    return automatic(run, EVERYWHERE, o)


@jax.jit
def square_sum(x: Array) -> Array:
    """Sum the squares of all elements."""
    return automatic(lambda x: exact_sum(context(x, jnp), x * x), EVERYWHERE, x)


@partial(jax.jit, static_argnums=1)
def _elements(x: Array, logarithm: bool) -> Array:
    def run(x: Array) -> Array:
        cx = context(x, jnp)
        got = softmax_parts(cx.cast(x, cx.compute_dtype))
        return -got.nll if logarithm else got.p

    return automatic(run, spread_as(x), x)


def _constants(o: Operands) -> Operands:
    """Stop gradients to the weights, which are constants of the loss."""
    stop = jax.lax.stop_gradient
    names = ("class_weight", "sample_weight", "pos_weight")
    given = {n: stop(getattr(o, n)) for n in names if getattr(o, n) is not None}
    return o._replace(**given)


@partial(jax.custom_jvp, nondiff_argnums=(1,))
def _rows(o: Operands, static: Static) -> tuple[Array, Any]:
    """Return row losses, and the statistics that make a gradient one pass, if an engine has any."""
    call = _call(o, static)
    engine: Any = choose(call)
    keeps = engine is cpu and 0 not in o.x.shape and jax_ffi.keeps_stats(*static[:2])
    got = engine.run(call, Outputs(rows=True, stats=keeps))
    return got.rows, got.stats


@_rows.defjvp
def _rows_jvp(
    static: Static, primals: Any, tangents: Any
) -> tuple[tuple[Array, Any], tuple[Array, Any]]:
    (o,), (v,) = primals, tangents
    call = _call(o, static)
    options, cx, classes = call.options, call.cx, call.classes
    rows, saved = made = _rows(o, static)
    compiled = choose(call) is cpu and 0 not in o.x.shape
    g = h = None
    if not (compiled and options.indexed):
        g, h = formula_gradients(
            call,
            Cotangent(1.0),
            lambda z, _: softmax_parts(z),
            lambda z, _: _sigmoid_parts(z),
            lambda z, indices, *_: slot_parts(z, indices),
        )
    out = jnp.zeros_like(rows)
    if compiled:
        g, out = None, jax_ffi.tangent(v.x, call, saved)
    for slope, tangent in ((g, v.x), (h, v.targets)):
        if slope is None or tangent is None:
            continue
        # Linear in the tangent, as transposition needs: an infinite derivative that would meet a
        # tangent of 0 has been selected away before.
        term = cx.cast(slope, cx.compute_dtype) * cx.cast(tangent, cx.compute_dtype)
        out = out + (jnp.sum(term, axis=-1) if classes else term)
    return made, (out, jax.tree.map(_no_tangent, saved))


def _no_tangent(a: Array) -> Any:
    """Return the tangent of what is a constant to autodiff."""
    return np.zeros(a.shape, jax.dtypes.float0) if a.dtype == jnp.uint32 else jnp.zeros_like(a)


@jax.custom_jvp
def _sigmoid_parts(z: Array) -> binary.Sigmoid:
    return binary.sigmoid(z, context(z, jnp))


@_sigmoid_parts.defjvp
def _sigmoid_parts_jvp(primals: Any, tangents: Any) -> tuple[binary.Sigmoid, binary.Sigmoid]:
    got = _sigmoid_parts(*primals)
    (v,) = tangents
    moved = got.p * got.q * v
    return got, binary.Sigmoid(moved, -moved, got.p * v, -got.q * v)
