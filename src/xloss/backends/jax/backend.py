"""JAX: one custom_jvp around the rows, jitted where arrays are concrete."""

from __future__ import annotations

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from ..._arrays.context import context
from ..._arrays.inspect import Array
from ...core import elementwise as binary
from ...core.call import LossCall
from ...core.formula import formula_gradients
from ...core.options import Cotangent, Operands, Outputs
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


def value(call: LossCall) -> Array:
    """Return the loss."""
    choose(call)
    return _value(call.operands, denominator(call), bare(call))


def value_and_grad(
    call: LossCall, wanted: tuple[str, ...], cotangent: Any
) -> tuple[Array, dict[str, Array]]:
    """Return the loss and the closed-form gradients."""
    choose(call)
    n = denominator(call)
    got, grads = _value_and_grad(call.operands, n, cotangent, bare(call), wanted)
    return got, {name: default.restore(call, g) for name, g in grads.items()}


def tokens(call: LossCall, asked: Outputs) -> tuple[Array, Tokens]:
    """Return row losses and the numbers beside them, which are constants to autodiff."""
    choose(call)
    made: tuple[Array, Tokens] = _tokens(call.operands, bare(call), asked)
    return made


def elements(call: LossCall) -> Array:
    """Return softmax or its logarithm."""
    choose(call)
    out = _elements(call.operands.x, call.options.kind == "log_softmax")
    return default.restore(call, out)


def weight(call: LossCall) -> Array:
    """Return the mean's denominator."""
    choose(call)
    return _weight(call.operands, bare(call))


def denominator(call: LossCall) -> Any:
    """Return the normalizer as a constant."""
    n = call.normalizer
    return None if n is None else jax.lax.stop_gradient(jnp.asarray(n, dtype=call.cx.sum_dtype))


def bare(call: LossCall) -> LossCall:
    """Return a call without its arrays: what a compiled function is specialised on."""
    cx = call.cx._replace(device=None, values_readable=False)
    linear, shard = call.linear, call.shard
    return call.of(Operands(None))._replace(
        name="",
        cx=cx,
        axis=-1,
        normalizer=None,
        linear=None if linear is None else linear._replace(weight=None, bias=None),
        shard=None if shard is None else shard._replace(start=None),
    )


# Compiled for concrete arrays too: run step by step, it would store many arrays as large as the
# logits.
@partial(jax.jit, static_argnums=2)
def _value(o: Operands, normalizer: Any, bare: LossCall) -> Array:
    def run(o: Operands, normalizer: Any) -> Array:
        call = bare._replace(operands=constants(o), normalizer=normalizer)
        return followed.value(call, lambda call: _rows(call.operands, bare)[0])

    return automatic(run, spread_loss(o.x, bare), o, normalizer)


def spread_loss(x: Array, bare: LossCall) -> Any:
    """Return how the value of a loss is spread over a mesh."""
    each = bare.options.reduction == "none"
    return spread_as(x, 1 if bare.classes else 0) if each else EVERYWHERE


@partial(jax.jit, static_argnums=(1, 2))
def _tokens(o: Operands, bare: LossCall, asked: Outputs) -> tuple[Array, Tokens]:
    def run(o: Operands) -> tuple[Array, Any]:
        fixed = jax.tree.map(jax.lax.stop_gradient, o)
        return _rows(constants(o), bare)[0], generic.run(bare.of(fixed), asked).tokens

    return automatic(run, spread_as(o.x, 1), o)


@partial(jax.jit, static_argnums=(3, 4))
def _value_and_grad(
    o: Operands, normalizer: Any, cotangent: Any, bare: LossCall, wanted: tuple[str, ...]
) -> tuple[Array, dict[str, Array]]:
    def run(o: Operands, n: Any, cotangent: Any) -> tuple[Array, dict[str, Array]]:
        o, n = mean_weights(o, bare.options, bare.cx, bare.classes, n)
        call = bare._replace(operands=o, normalizer=n)
        return default.value_and_grad(call, wanted, cotangent)

    out = spread_loss(o.x, bare), {name: spread_as(getattr(o, name)) for name in wanted}
    return automatic(run, out, o, normalizer, cotangent)


@partial(jax.jit, static_argnums=1)
def _weight(o: Operands, bare: LossCall) -> Array:
    return automatic(lambda o: followed.weight(bare.of(o)), EVERYWHERE, o)


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


def constants(o: Operands) -> Operands:
    """Stop gradients to the weights, which are constants of the loss."""
    stop = jax.lax.stop_gradient
    names = ("class_weight", "sample_weight", "pos_weight")
    given = {n: stop(getattr(o, n)) for n in names if getattr(o, n) is not None}
    return o._replace(**given)


@partial(jax.custom_jvp, nondiff_argnums=(1,))
def _rows(o: Operands, bare: LossCall) -> tuple[Array, Any]:
    """Return row losses, and the statistics that make a gradient one pass, if an engine has any."""
    engine: Any = choose(call := bare.of(o))
    keeps = engine is cpu and 0 not in o.x.shape and jax_ffi.keeps_stats(call)
    got = engine.run(call, Outputs(rows=True, stats=keeps))
    return got.rows, got.stats


@_rows.defjvp
def _rows_jvp(
    bare: LossCall, primals: Any, tangents: Any
) -> tuple[tuple[Array, Any], tuple[Array, Any]]:
    (o,), (v,) = primals, tangents
    call = bare.of(o)
    options, cx, classes = call.options, call.cx, call.classes
    rows, saved = made = _rows(o, bare)
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
