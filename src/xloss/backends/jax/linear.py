"""Linear cross-entropy on JAX: a scan over blocks of rows, with gradients in the forward pass."""

from __future__ import annotations

from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import lax

from ..._arrays.context import context
from ..._arrays.inspect import Array
from ...core import linear as cutting
from ...core.call import LossCall
from ...core.class_shards import Shard
from ...core.linear import Linear
from ...core.options import UNIT_COTANGENT, Cotangent, Operands, Options, Outcome, Outputs
from ...core.reduce import exact_sum
from ...core.token_stats import Tokens, dtypes, mapped
from ...core.weights import mean_weights
from ...engines import choose, refuse_compiled
from ..eager import dense, sharded
from ..eager.linear import evaluated, gathered, rounded
from .ffi import SPLIT
from .mesh import EVERYWHERE, automatic, spread_as
from .mesh_axis import Axis, varies

NAMES = ("x", "weight", "bias", "targets")
TWICE = (
    "linear_cross_entropy: second derivatives are not offered, for its gradients are made in the "
    "forward pass; cross_entropy(features @ weight.T + bias, targets) has them"
)
# The arrays that gradients go to, in the order of NAMES.
Arrays = tuple[Array, Array, Array | None, Array]
# Class weight, sample weight, where, indices and normalizer.
Constants = tuple[Array | None, Array | None, Array | None, Array | None, Any]


class Static(NamedTuple):
    """What a compiled function is specialised on."""

    options: Options
    block_rows: int | None
    axis: str | None  # the mesh axis along which the classes are split


def value(call: LossCall) -> Array:
    """Return the loss."""
    refuse_engine(call)
    return _value(*arguments(call))


def value_and_grad(
    call: LossCall, wanted: tuple[str, ...], cotangent: Any
) -> tuple[Array, dict[str, Array]]:
    """Return the loss and the closed-form gradients."""
    refuse_engine(call)
    both: tuple[Array, dict[str, Array]] = _value_and_grad(*arguments(call), cotangent, wanted)
    return both


def refuse_engine(call: LossCall) -> None:
    """Raise where an engine is asked for that cannot take the logits."""
    if call.group is None:
        choose(call.operands, call.options, call.cx)
    else:
        refuse_compiled(call.options, SPLIT)


def arguments(call: LossCall) -> tuple[Arrays, Constants, Static]:
    """Return a call as the arguments of a compiled function."""
    o, linear, n = call.operands, call.linear, call.normalizer
    assert linear is not None
    n = None if n is None else jnp.asarray(n, dtype=call.cx.sum_dtype)
    arrays = (o.x, linear.weight, linear.bias, o.targets)
    constants = (o.class_weight, o.sample_weight, o.where, o.indices, n)
    axis = None if call.group is None else call.group.name
    if axis is not None and not varies(linear.weight, axis):
        raise ValueError(
            f"weight: the same along mesh axis {axis!r}, where each device should hold a slice; "
            "shard_map must know of it (check_vma=True)"
        )
    return arrays, constants, Static(call.options, linear.block_rows, axis)


def described(arrays: Arrays, constants: Constants, static: Static) -> LossCall:
    """Return the call that a compiled function's arguments describe."""
    options, block_rows, name = static
    x, weight, bias, targets = arrays
    class_weight, sample_weight, where, indices, n = constants
    o = Operands(x, targets, class_weight, sample_weight, where, indices=indices)
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
        linear=Linear(weight, bias, block_rows),
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
        call = described(arrays, constants, static)
        loss, grads = evaluated(call, partial(run, call), wanted, cotangent)
        return loss, rounded(call, grads)

    named = dict(zip(NAMES, arrays, strict=True))
    value = spread_as(arrays[0], 1) if static.options.reduction == "none" else EVERYWHERE
    out = (value, {name: spread_as(named[name]) for name in wanted})
    result: tuple[Array, dict[str, Array]] = automatic(both, out, arrays, constants, cotangent)
    return result


@partial(jax.custom_vjp, nondiff_argnums=(0,))
def _loss(static: Static, arrays: Arrays, constants: Constants) -> Array:
    call = described(arrays, constants, static)
    return dense.value(call, partial(run, call, ()))


@jax.custom_jvp
def _differentiable_once(x: Array) -> Array:
    """Return an argument of the forward pass; its derivative is a second one of the loss."""
    return x


@_differentiable_once.defjvp
def _second_derivative(primals: Any, tangents: Any) -> Any:
    raise RuntimeError(TWICE)


def forward(static: Static, arrays: Any, constants: Any) -> tuple[Array, Any]:
    """Return the loss, and what the backward pass starts from: the gradients, if it is a scalar."""
    wanted = tuple(
        name
        for name, a in zip(NAMES, arrays, strict=True)
        if a is not None and a.perturbed and jnp.issubdtype(a.value.dtype, jnp.floating)
    )
    arrays, constants = jax.tree.map(lambda a: a.value, (arrays, constants))
    arrays = tuple(a if a is None else _differentiable_once(a) for a in arrays)
    call = described(arrays, constants, static)
    if static.options.reduction == "none":
        rows = dense.value(call, partial(run, call, ()))
        return rows, (arrays, constants, dict.fromkeys(wanted))
    loss, grads = evaluated(call, partial(run, call), wanted, None)
    return loss, (arrays, constants, grads)


def backward(static: Static, saved: Any, cotangent: Any) -> Any:
    """Return the gradients times the cotangent."""
    arrays, constants, grads = saved
    call = described(arrays, constants, static)
    if isinstance(cotangent, jax.custom_derivatives.SymbolicZero):
        grads = {}
    elif static.options.reduction == "none":
        outputs = Outputs(grad=bool(set(grads) - {"targets"}), grad_targets="targets" in grads)
        parts = tuple(name for name in grads if name != "targets")
        grads = gathered(run(call, parts, outputs, Cotangent(cotangent)))
    else:
        grads = {name: g * cotangent for name, g in grads.items()}
    grads = rounded(call, grads)
    return tuple(grads.get(name) for name in NAMES), None


_loss.defvjp(forward, backward, symbolic_zeros=True)


def run(
    call: LossCall, parts: tuple[str, ...], outputs: Outputs, cotangent: Cotangent = UNIT_COTANGENT
) -> Outcome:
    """Compute the outputs in a scan over blocks of rows.

    All blocks have the same number of rows, as a scan needs. The last one begins early to be full,
    and the rows that the block before it has computed count as absent in it.
    """
    cx, options, classes, linear = call.cx, call.options, call.classes, call.linear
    assert linear is not None
    shape = tuple(call.operands.x.shape)
    o = cutting.one_row_axis(call.operands, classes, cx)
    count, width = o.x.shape
    outcome = Outcome()
    if outputs.weight:
        if call.group is None:
            outcome = Outcome(weight=cutting.weight_sum(o, options, cx, classes, count))
        else:
            outcome = Outcome(weight=sharded.weight_sum(call, o))
    if not (outputs.rows or outputs.total or outputs.grad or outputs.grad_targets):
        return outcome
    if not isinstance(cotangent.row_loss, float) and cotangent.row_loss.ndim > 1:
        cotangent = cotangent._replace(row_loss=cotangent.row_loss.reshape(count))
    # A length that is a symbol (jax.export) cannot be cut into blocks of a known length: one block.
    known = all(isinstance(n, int) for n in (count, width, classes))
    step = cutting.block_rows(count, classes, linear, cx) if known else count
    blocks = -(-count // step) if known else 1
    row_present = cutting.present_rows(o, options, cx, classes, cotangent)
    group = call.group

    def varying(a: Array) -> Array:
        """Return the start of a sum that differs from rank to rank."""
        return a if group is None else group.own(a)

    shapes = {
        "x": ((count, width), cx.compute_dtype),
        "weight": ((classes, width), cx.compute_dtype),
        "bias": ((classes,), cx.sum_dtype),
    }
    start = {name: varying(jnp.zeros(*shapes[name])) for name in parts if outputs.grad}
    start["rows"] = jnp.zeros((count,), cx.compute_dtype)
    if outputs.tokens:
        # As numbers, correct too: each block adds 0 to the rows that another computes.
        for name, kind in dtypes(cx, outputs).items():
            start[f"row {name}"] = jnp.zeros((count,), jnp.int32 if name == "correct" else kind)
    if outputs.grad_targets and o.targets is not None:
        start["targets"] = jnp.zeros_like(o.targets)

    def rows_of(a: Array | None, at: Any) -> Array | None:
        return None if a is None else lax.dynamic_slice_in_dim(a, at, step)

    def add_rows(a: Array, block: Array, at: Any) -> Array:
        """Add a block to its rows; it is 0 in the rows that an earlier block has computed."""
        return lax.dynamic_update_slice_in_dim(a, rows_of(a, at) + block, at, 0)

    # How many classes' weights are converted to the dtype of the arithmetic at once.
    slice_size = max(1, min(classes, cutting.WEIGHT_CHUNK // max(1, width))) if known else classes

    def over_class_slices(step: Any, carry: Any) -> Any:
        """Fold a step over class slices of the weight, converted.

        The last slice begins early to be full; `new` marks the classes that no earlier one had.
        """

        def one(j: Any, carry: Any) -> Any:
            at = jnp.minimum(j * slice_size, classes - slice_size)
            w = lax.dynamic_slice_in_dim(linear.weight, at, slice_size)
            new = at + jnp.arange(slice_size) >= j * slice_size
            return step(carry, at, new, cx.cast(w, cx.compute_dtype))

        return lax.fori_loop(0, -(-classes // slice_size) if known else 1, one, carry)

    def logits(x: Array) -> Array:
        """Return the logits of a block, (rows, classes); x: (rows, features)."""
        if linear.weight.dtype == cx.compute_dtype:
            z = jnp.matmul(x, linear.weight.T)
        else:
            z = over_class_slices(
                lambda z, at, new, w: lax.dynamic_update_slice_in_dim(z, x @ w.T, at, 1),
                varying(jnp.zeros((step, classes), cx.compute_dtype)),
            )
        return z if linear.bias is None else z + cx.cast(linear.bias, cx.compute_dtype)

    def body(carry: dict[str, Array], i: Any) -> tuple[dict[str, Array], None]:
        """Compute one block, and add it to the outputs."""
        at = jnp.minimum(i * step, count - step)
        new = at + jnp.arange(step) >= i * step
        counted = new if row_present is None else new & rows_of(row_present, at)
        x = jnp.where(counted[:, None], cx.cast(rows_of(o.x, at), cx.compute_dtype), 0.0)
        where = new if o.where is None else new & rows_of(o.where, at)
        targets, sample_weight = rows_of(o.targets, at), rows_of(o.sample_weight, at)
        indices = rows_of(o.indices, at)
        block = Operands(logits(x), targets, o.class_weight, sample_weight, where, indices=indices)
        row_loss = cotangent.row_loss
        if not isinstance(row_loss, float) and row_loss.ndim > 0:
            row_loss = rows_of(row_loss, at)
        of_block = outputs._replace(rows=True, total=False, weight=False)
        stage = sharded.stage(call, block, cx)
        result = stage.run(
            block, options, cx, classes, of_block, cotangent._replace(row_loss=row_loss)
        )
        g: Any = result.grad

        def products(sums: dict[str, Array], at: Any, new: Any, w: Array) -> dict[str, Array]:
            """Add the products with a class slice of g, (rows, classes)."""
            part = jnp.where(new, lax.dynamic_slice_in_dim(g, at, slice_size, 1), 0.0)
            out = {}
            if "x" in sums:
                out["x"] = sums["x"] + part @ w
            if "weight" in sums:
                total = lax.dynamic_slice_in_dim(sums["weight"], at, slice_size) + part.T @ x
                out["weight"] = lax.dynamic_update_slice_in_dim(sums["weight"], total, at, 0)
            return out

        sums = {"weight": carry["weight"]} if "weight" in carry else {}
        if "x" in carry:
            sums["x"] = varying(jnp.zeros((step, width), cx.compute_dtype))
        sums = over_class_slices(products, sums) if sums else sums
        out = {**carry, "rows": add_rows(carry["rows"], result.rows, at)}
        for name, v in zip(Tokens._fields, result.tokens or (), strict=False):
            if v is not None:
                total = carry[f"row {name}"]
                out[f"row {name}"] = add_rows(total, jnp.where(new, v, 0).astype(total.dtype), at)
        if "weight" in sums:
            out["weight"] = sums["weight"]
        if "x" in sums:
            out["x"] = add_rows(carry["x"], jnp.where(counted[:, None], sums["x"], 0.0), at)
        if "bias" in carry:
            out["bias"] = carry["bias"] + cx.cast(jnp.sum(g, axis=0), cx.sum_dtype)
        if "targets" in carry:
            out["targets"] = add_rows(carry["targets"], result.grad_targets, at)
        return out, None

    done = start
    if blocks:
        done, _ = lax.scan(body, start, jnp.arange(blocks))
    rows = done.pop("rows")
    t: Any = call.operands.targets
    if "targets" in done:
        outcome = outcome._replace(grad_targets=done.pop("targets").reshape(t.shape))
    if "x" in done:
        # Every rank's classes have a share in the features' gradient.
        done["x"] = (done["x"] if group is None else group.total(done["x"])).reshape(shape)
    if outputs.tokens:
        numbers = [done.pop(f"row {name}", None) for name in Tokens._fields]
        found = mapped(lambda a: a.reshape(shape[:-1]), numbers)
        outcome = outcome._replace(tokens=found._replace(correct=found.correct != 0))
    total = exact_sum(cx, rows) if outputs.total else None
    return outcome._replace(rows=rows.reshape(shape[:-1]), total=total, grad=done)
