"""Linear cross-entropy on JAX: a scan over blocks of rows, gradients made in the forward pass."""

from __future__ import annotations

from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import lax

from .._xp import Array, cast, context
from ..core import linear as cutting
from ..core.linear import Linear
from ..core.reduce import exact_sum
from ..core.shards import Shard
from ..core.spec import NO_UPSTREAM, Need, Operands, Result, Spec, Upstream
from ..core.weights import mean_weights
from ..engines import choose, refuse_compiled
from . import default, exchange
from .call import Call
from .jax_axis import Axis, varies
from .jax_ffi import SPLIT
from .jax_mesh import EVERYWHERE, automatic, spread_as
from .linear_blocks import evaluated, gathered, rounded

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

    spec: Spec
    rows: int | None  # of a block
    axis: str | None  # along which the classes are spread


def value(call: Call) -> Array:
    """Return the loss."""
    _choose(call)
    return _value(*_taken(call))


def value_and_grad(
    call: Call, wanted: tuple[str, ...], cotangent: Any
) -> tuple[Array, dict[str, Array]]:
    """Return the loss and the closed-form gradients."""
    _choose(call)
    made: tuple[Array, dict[str, Array]] = _value_and_grad(*_taken(call), cotangent, wanted)
    return made


def _choose(call: Call) -> None:
    """Raise where an engine is asked for that cannot take the logits."""
    if call.group is None:
        choose(call.operands, call.spec, call.cx)
    else:
        refuse_compiled(call.spec, SPLIT)


def _taken(call: Call) -> tuple[Arrays, Constants, Static]:
    o, linear, n = call.operands, call.linear, call.normalizer
    assert linear is not None
    n = None if n is None else jnp.asarray(n, dtype=call.cx.wide)
    arrays = (o.x, linear.weight, linear.bias, o.targets)
    constants = (o.class_weight, o.sample_weight, o.where, n)
    axis = None if call.group is None else call.group.name
    if axis is not None and not varies(linear.weight, axis):
        raise ValueError(
            f"weight: the same along mesh axis {axis!r}, where each device should hold a slice; "
            "shard_map must know of it (check_vma=True)"
        )
    return arrays, constants, Static(call.spec, linear.block_rows, axis)


def _call(arrays: Arrays, constants: Constants, static: Static) -> Call:
    spec, rows, name = static
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
    o, n = mean_weights(o, spec, cx, total, n, group=axis)
    return Call(
        "linear_cross_entropy",
        spec,
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
    out = spread_as(arrays[0], 1) if static.spec.reduction == "none" else EVERYWHERE
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
    value = spread_as(arrays[0], 1) if static.spec.reduction == "none" else EVERYWHERE
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
    if static.spec.reduction == "none":
        got = default.value(call, partial(run, call, ()))
        return got, (own, constants, dict.fromkeys(wanted))
    got, grads = evaluated(call, partial(run, call), wanted, None)
    return got, (own, constants, grads)


def _backward(static: Static, kept: Any, up: Any) -> Any:
    own, constants, grads = kept
    call = _call(own, constants, static)
    if isinstance(up, jax.custom_derivatives.SymbolicZero):
        grads = {}
    elif static.spec.reduction == "none":
        need = Need(grad=bool(set(grads) - {"targets"}), grad_targets="targets" in grads)
        parts = tuple(name for name in grads if name != "targets")
        grads = gathered(run(call, parts, need, Upstream(up)))
    else:
        grads = {name: g * up for name, g in grads.items()}
    made = rounded(call, grads)
    return tuple(made.get(name) for name in NAMES), None


_loss.defvjp(_forward, _backward, symbolic_zeros=True)


def run(call: Call, parts: tuple[str, ...], need: Need, up: Upstream = NO_UPSTREAM) -> Result:
    """Compute what is needed in a scan over blocks; the last one begins early, to be full."""
    cx, spec, classes, linear = call.cx, call.spec, call.classes, call.linear
    assert linear is not None
    shape = tuple(call.operands.x.shape)
    o = cutting.flat(call.operands, classes, cx)
    count, width = o.x.shape
    made = Result()
    if need.weight:
        if call.group is None:
            made = Result(weight=cutting.weight_sum(o, spec, cx, classes, count))
        else:
            made = Result(weight=exchange.weight_sum(call, o))
    if not (need.rows or need.total or need.grad or need.grad_targets):
        return made
    if not isinstance(up.row, float) and up.row.ndim > 1:
        up = up._replace(row=up.row.reshape(count))
    # A length that is a symbol (jax.export) has no part of known length: one block of all.
    known = all(isinstance(n, int) for n in (count, width, classes))
    step = cutting.block_rows(count, classes, linear, cx) if known else count
    blocks = -(-count // step) if known else 1
    keep = cutting.present(o, spec, cx, classes, up)
    group = call.group

    def own(a: Array) -> Array:
        """Start a sum of which each rank has its own."""
        return a if group is None else group.own(a)

    room = {
        "x": ((count, width), cx.acc),
        "weight": ((classes, width), cx.acc),
        "bias": ((classes,), cx.wide),
    }
    start = {name: own(jnp.zeros(*room[name])) for name in parts if need.grad}
    start["rows"] = jnp.zeros((count,), cx.acc)
    if need.grad_targets and o.targets is not None:
        start["targets"] = jnp.zeros_like(o.targets)

    def cut(a: Array | None, at: Any) -> Array | None:
        return None if a is None else lax.dynamic_slice_in_dim(a, at, step)

    def put(a: Array, new: Array, at: Any) -> Array:
        """Add: what an earlier block has done is 0 here."""
        return lax.dynamic_update_slice_in_dim(a, cut(a, at) + new, at, 0)

    few = max(1, min(classes, cutting.PIECE // max(1, width))) if known else classes

    def by_classes(step: Any, into: Any) -> Any:
        """Fold over pieces of the weight, converted; of the last one the classes yet to come."""

        def one(j: Any, into: Any) -> Any:
            at = jnp.minimum(j * few, classes - few)
            w = lax.dynamic_slice_in_dim(linear.weight, at, few)
            return step(into, at, at + jnp.arange(few) >= j * few, cast(cx, w, cx.acc))

        return lax.fori_loop(0, -(-classes // few) if known else 1, one, into)

    def logits(x: Array) -> Array:
        if linear.weight.dtype == cx.acc:
            z = jnp.matmul(x, linear.weight.T)
        else:
            z = by_classes(
                lambda z, at, new, w: lax.dynamic_update_slice_in_dim(z, x @ w.T, at, 1),
                own(jnp.zeros((step, classes), cx.acc)),
            )
        return z if linear.bias is None else z + cast(cx, linear.bias, cx.acc)

    def body(into: dict[str, Array], i: Any) -> tuple[dict[str, Array], None]:
        at = jnp.minimum(i * step, count - step)
        new = at + jnp.arange(step) >= i * step
        there = new if keep is None else new & cut(keep, at)
        x = jnp.where(there[:, None], cast(cx, cut(o.x, at), cx.acc), 0.0)
        where = new if o.where is None else new & cut(o.where, at)
        targets, sample = cut(o.targets, at), cut(o.sample_weight, at)
        part = Operands(logits(x), targets, o.class_weight, sample, where)
        row = up.row if isinstance(up.row, float) or up.row.ndim == 0 else cut(up.row, at)
        asked = need._replace(rows=True, total=False, weight=False)
        stage = exchange.stage(call, part, cx)
        got = stage.run(part, spec, cx, classes, asked, up._replace(row=row))
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
            sums["x"] = own(jnp.zeros((step, width), cx.acc))
        sums = by_classes(products, sums) if sums else sums
        out = {**into, "rows": put(into["rows"], got.rows, at)}
        if "weight" in sums:
            out["weight"] = sums["weight"]
        if "x" in sums:
            out["x"] = put(into["x"], jnp.where(there[:, None], sums["x"], 0.0), at)
        if "bias" in into:
            out["bias"] = into["bias"] + cast(cx, jnp.sum(g, axis=0), cx.wide)
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
    total = exact_sum(cx, rows) if need.total else None
    return made._replace(rows=rows.reshape(shape[:-1]), total=total, grad=done)
