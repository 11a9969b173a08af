"""Linear cross-entropy on JAX: a scan over blocks of rows, gradients made in the forward pass."""

from __future__ import annotations

from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import lax

from ..._arrays.context import context
from ..._arrays.inspect import Array
from ..._arrays.ops import cast
from ...core import linear as cutting
from ...core.call import LossCall
from ...core.class_shards import Shard
from ...core.linear import Linear
from ...core.options import UNIT_COTANGENT, Cotangent, Operands, Options, Outcome, Outputs
from ...core.reduce import exact_sum
from ...core.weights import mean_weights
from ...engines import choose, refuse_compiled
from ..eager import dense as default
from ..eager import sharded as exchange
from ..eager.linear import evaluated, gathered, rounded
from .ffi import SPLIT
from .mesh import EVERYWHERE, automatic, spread_as
from .mesh_axis import Axis, varies

NAMES = ("x", "weight", "bias", "targets")
TWICE = (
    "linear_cross_entropy: second derivatives are not offered, for its gradients are made in the "
    "forward pass; cross_entropy(features @ weight.T + bias, targets) has them"
)
# What gradients go to; constants; the options.
Arrays = tuple[Array, Array, Array | None, Array]
Constants = tuple[Array | None, Array | None, Array | None, Any]


class Static(NamedTuple):
    """What a compiler specialises on."""

    options: Options
    rows: int | None  # of a block
    axis: str | None  # along which the classes are spread


def value(call: LossCall) -> Array:
    """Return the loss."""
    _choose(call)
    return _value(*_taken(call))


def value_and_grad(
    call: LossCall, wanted: tuple[str, ...], cotangent: Any
) -> tuple[Array, dict[str, Array]]:
    """Return the loss and the closed-form gradients."""
    _choose(call)
    made: tuple[Array, dict[str, Array]] = _value_and_grad(*_taken(call), cotangent, wanted)
    return made


def _choose(call: LossCall) -> None:
    """Raise where an engine is asked for that cannot take the logits."""
    if call.group is None:
        choose(call.operands, call.options, call.cx)
    else:
        refuse_compiled(call.options, SPLIT)


def _taken(call: LossCall) -> tuple[Arrays, Constants, Static]:
    o, linear, n = call.operands, call.linear, call.normalizer
    assert linear is not None
    n = None if n is None else jnp.asarray(n, dtype=call.cx.sum_dtype)
    arrays = (o.x, linear.weight, linear.bias, o.targets)
    constants = (o.class_weight, o.sample_weight, o.where, n)
    axis = None if call.group is None else call.group.name
    if axis is not None and not varies(linear.weight, axis):
        raise ValueError(
            f"weight: the same along mesh axis {axis!r}, where each device should hold a slice; "
            "shard_map must know of it (check_vma=True)"
        )
    return arrays, constants, Static(call.options, linear.block_rows, axis)


def _call(arrays: Arrays, constants: Constants, static: Static) -> LossCall:
    options, rows, name = static
    x, weight, bias, targets = arrays
    class_weight, sample_weight, where, n = constants
    o = Operands(x, targets, class_weight, sample_weight, where)
    axis = shard = None
    size = weight.shape[0]
    if name is not None:
        axis = Axis(name)
        shard = Shard(axis.rank * size, size, axis.size * size, size)
    cx = context(x, jnp)
    total = size if shard is None else shard.classes
    o, n = mean_weights(o, options, cx, total, n, group=axis)
    return LossCall(
        "linear_cross_entropy",
        options,
        cx,
        o,
        size,
        -1,
        n,
        linear=Linear(weight, bias, rows),
        shard=shard,
        group=axis,
    )


@partial(jax.jit, static_argnums=2)
def _value(arrays: Arrays, constants: Constants, static: Static) -> Array:
    out = spread_as(arrays[0], 1) if static.options.reduction == "none" else EVERYWHERE
    return automatic(partial(_loss, static), out, arrays, constants)


@partial(jax.jit, static_argnums=(2, 4))
def _value_and_grad(
    arrays: Arrays, constants: Constants, static: Static, cotangent: Any, wanted: tuple[str, ...]
) -> tuple[Array, dict[str, Array]]:
    def both(
        arrays: Arrays, constants: Constants, cotangent: Any
    ) -> tuple[Array, dict[str, Array]]:
        call = _call(arrays, constants, static)
        got, grads = evaluated(call, partial(run, call), wanted, cotangent)
        return got, rounded(call, grads)

    given = dict(zip(NAMES, arrays, strict=True))
    value = spread_as(arrays[0], 1) if static.options.reduction == "none" else EVERYWHERE
    out = (value, {name: spread_as(given[name]) for name in wanted})
    made: tuple[Array, dict[str, Array]] = automatic(both, out, arrays, constants, cotangent)
    return made


@partial(jax.custom_vjp, nondiff_argnums=(0,))
def _loss(static: Static, arrays: Arrays, constants: Constants) -> Array:
    call = _call(arrays, constants, static)
    return default.value(call, partial(run, call, ()))


@jax.custom_jvp
def _once(x: Array) -> Array:
    return x


@_once.defjvp
def _twice(primals: Any, tangents: Any) -> Any:
    raise RuntimeError(TWICE)


def _forward(static: Static, given: Any, fixed: Any) -> tuple[Array, Any]:
    wanted = tuple(
        name
        for name, a in zip(NAMES, given, strict=True)
        if a is not None and a.perturbed and jnp.issubdtype(a.value.dtype, jnp.floating)
    )
    own, constants = jax.tree.map(lambda a: a.value, (given, fixed))
    own = tuple(a if a is None else _once(a) for a in own)
    call = _call(own, constants, static)
    if static.options.reduction == "none":
        got = default.value(call, partial(run, call, ()))
        return got, (own, constants, dict.fromkeys(wanted))
    got, grads = evaluated(call, partial(run, call), wanted, None)
    return got, (own, constants, grads)


def _backward(static: Static, kept: Any, cotangent: Any) -> Any:
    own, constants, grads = kept
    call = _call(own, constants, static)
    if isinstance(cotangent, jax.custom_derivatives.SymbolicZero):
        grads = {}
    elif static.options.reduction == "none":
        outputs = Outputs(grad=bool(set(grads) - {"targets"}), grad_targets="targets" in grads)
        parts = tuple(name for name in grads if name != "targets")
        grads = gathered(run(call, parts, outputs, Cotangent(cotangent)))
    else:
        grads = {name: g * cotangent for name, g in grads.items()}
    made = rounded(call, grads)
    return tuple(made.get(name) for name in NAMES), None


_loss.defvjp(_forward, _backward, symbolic_zeros=True)


def run(
    call: LossCall, parts: tuple[str, ...], outputs: Outputs, cotangent: Cotangent = UNIT_COTANGENT
) -> Outcome:
    """Compute what is needed in a scan over blocks; the last one begins early, to be full."""
    cx, options, classes, linear = call.cx, call.options, call.classes, call.linear
    assert linear is not None
    shape = tuple(call.operands.x.shape)
    o = cutting.one_row_axis(call.operands, classes, cx)
    count, width = o.x.shape
    made = Outcome()
    if outputs.weight:
        if call.group is None:
            made = Outcome(weight=cutting.weight_sum(o, options, cx, classes, count))
        else:
            made = Outcome(weight=exchange.weight_sum(call, o))
    if not (outputs.rows or outputs.total or outputs.grad or outputs.grad_targets):
        return made
    if not isinstance(cotangent.row_loss, float) and cotangent.row_loss.ndim > 1:
        cotangent = cotangent._replace(row_loss=cotangent.row_loss.reshape(count))
    # A length that is a symbol (jax.export) has no part of known length: one block of all.
    known = all(isinstance(n, int) for n in (count, width, classes))
    step = cutting.block_rows(count, classes, linear, cx) if known else count
    blocks = -(-count // step) if known else 1
    keep = cutting.present_rows(o, options, cx, classes, cotangent)
    group = call.group

    def own(a: Array) -> Array:
        """Start a sum of which each rank has its own."""
        return a if group is None else group.own(a)

    room = {
        "x": ((count, width), cx.compute_dtype),
        "weight": ((classes, width), cx.compute_dtype),
        "bias": ((classes,), cx.sum_dtype),
    }
    start = {name: own(jnp.zeros(*room[name])) for name in parts if outputs.grad}
    start["rows"] = jnp.zeros((count,), cx.compute_dtype)
    if outputs.grad_targets and o.targets is not None:
        start["targets"] = jnp.zeros_like(o.targets)

    def cut(a: Array | None, at: Any) -> Array | None:
        return None if a is None else lax.dynamic_slice_in_dim(a, at, step)

    def put(a: Array, new: Array, at: Any) -> Array:
        """Add: what an earlier block has done is 0 here."""
        return lax.dynamic_update_slice_in_dim(a, cut(a, at) + new, at, 0)

    few = max(1, min(classes, cutting.WEIGHT_CHUNK // max(1, width))) if known else classes

    def by_classes(step: Any, into: Any) -> Any:
        """Fold over pieces of the weight, converted; of the last one the classes yet to come."""

        def one(j: Any, into: Any) -> Any:
            at = jnp.minimum(j * few, classes - few)
            w = lax.dynamic_slice_in_dim(linear.weight, at, few)
            return step(into, at, at + jnp.arange(few) >= j * few, cast(cx, w, cx.compute_dtype))

        return lax.fori_loop(0, -(-classes // few) if known else 1, one, into)

    def logits(x: Array) -> Array:
        if linear.weight.dtype == cx.compute_dtype:
            z = jnp.matmul(x, linear.weight.T)
        else:
            z = by_classes(
                lambda z, at, new, w: lax.dynamic_update_slice_in_dim(z, x @ w.T, at, 1),
                own(jnp.zeros((step, classes), cx.compute_dtype)),
            )
        return z if linear.bias is None else z + cast(cx, linear.bias, cx.compute_dtype)

    def body(into: dict[str, Array], i: Any) -> tuple[dict[str, Array], None]:
        at = jnp.minimum(i * step, count - step)
        new = at + jnp.arange(step) >= i * step
        there = new if keep is None else new & cut(keep, at)
        x = jnp.where(there[:, None], cast(cx, cut(o.x, at), cx.compute_dtype), 0.0)
        where = new if o.where is None else new & cut(o.where, at)
        targets, sample = cut(o.targets, at), cut(o.sample_weight, at)
        part = Operands(logits(x), targets, o.class_weight, sample, where)
        row = (
            cotangent.row_loss
            if isinstance(cotangent.row_loss, float) or cotangent.row_loss.ndim == 0
            else cut(cotangent.row_loss, at)
        )
        asked = outputs._replace(rows=True, total=False, weight=False)
        stage = exchange.stage(call, part, cx)
        got = stage.run(part, options, cx, classes, asked, cotangent._replace(row_loss=row))
        g: Any = got.grad

        def products(sums: dict[str, Array], at: Any, new: Any, w: Array) -> dict[str, Array]:
            piece = jnp.where(new, lax.dynamic_slice_in_dim(g, at, few, 1), 0.0)
            out = {}
            if "x" in sums:
                out["x"] = sums["x"] + piece @ w
            if "weight" in sums:
                total = lax.dynamic_slice_in_dim(sums["weight"], at, few) + piece.T @ x
                out["weight"] = lax.dynamic_update_slice_in_dim(sums["weight"], total, at, 0)
            return out

        sums = {"weight": into["weight"]} if "weight" in into else {}
        if "x" in into:
            sums["x"] = own(jnp.zeros((step, width), cx.compute_dtype))
        sums = by_classes(products, sums) if sums else sums
        out = {**into, "rows": put(into["rows"], got.rows, at)}
        if "weight" in sums:
            out["weight"] = sums["weight"]
        if "x" in sums:
            out["x"] = put(into["x"], jnp.where(there[:, None], sums["x"], 0.0), at)
        if "bias" in into:
            out["bias"] = into["bias"] + cast(cx, jnp.sum(g, axis=0), cx.sum_dtype)
        if "targets" in into:
            out["targets"] = put(into["targets"], got.grad_targets, at)
        return out, None

    done = start
    if blocks:
        done, _ = lax.scan(body, start, jnp.arange(blocks))
    rows = done.pop("rows")
    t: Any = call.operands.targets
    if "targets" in done:
        made = made._replace(grad_targets=done.pop("targets").reshape(t.shape))
    if "x" in done:
        # Each rank's classes have a share in every feature.
        done["x"] = (done["x"] if group is None else group.total(done["x"])).reshape(shape)
    total = exact_sum(cx, rows) if outputs.total else None
    return made._replace(rows=rows.reshape(shape[:-1]), total=total, grad=done)
