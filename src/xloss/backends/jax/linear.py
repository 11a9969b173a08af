"""Linear cross-entropy on JAX: differentiated once, its gradients made in the forward pass."""

from __future__ import annotations

from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from ..._arrays.context import context
from ..._arrays.inspect import Array
from ...core.call import LossCall
from ...core.class_shards import Shard
from ...core.linear import Linear
from ...core.options import Operands, Options, Outputs
from ...core.token_stats import Tokens
from ...core.weights import mean_weights
from ...engines import choose, refuse_compiled
from ..eager import dense
from ..eager.linear import NAMES, TWICE, evaluated, of_rows, rounded
from .ffi import SPLIT
from .linear_blocks import run
from .mesh import EVERYWHERE, automatic, spread_as
from .mesh_axis import Axis, varying


class Arrays(NamedTuple):
    """The arrays of a call; gradients go to x and soft targets of the operands, weight and bias."""

    operands: Operands
    weight: Array
    bias: Array | None
    normalizer: Array | None

    def named(self) -> dict[str, Array | None]:
        """Return what gradients go to, by NAMES."""
        o = self.operands
        return dict(zip(NAMES, (o.x, self.weight, self.bias, o.targets), strict=True))

    def replaced(self, named: dict[str, Any]) -> Arrays:
        """Return the arrays with these in the places of their names."""
        o = self.operands._replace(x=named["x"], targets=named["targets"])
        return Arrays(o, named["weight"], named["bias"], self.normalizer)


class Static(NamedTuple):
    """What a compiled function is specialised on."""

    options: Options
    block_rows: int | None
    axis: str | None  # the mesh axis along which the classes are split


def value(call: LossCall) -> Array:
    """Return the loss."""
    made: Array = _computed(*_arguments(call), None)
    return made


def tokens(call: LossCall, asked: Outputs) -> tuple[Array, Tokens]:
    """Return row losses and the numbers beside them, which are constants to autodiff."""
    made: tuple[Array, Tokens] = _computed(*_arguments(call), asked)
    return made


def value_and_grad(
    call: LossCall, wanted: tuple[str, ...], cotangent: Any
) -> tuple[Array, dict[str, Array]]:
    """Return the loss and the closed-form gradients."""
    both: tuple[Array, dict[str, Array]] = _value_and_grad(*_arguments(call), cotangent, wanted)
    return both


def _arguments(call: LossCall) -> tuple[Arrays, Static]:
    """Return a call as the arguments of a compiled function."""
    if call.group is None:
        choose(call)  # an engine that is asked for and cannot take the logits is an error
    else:
        refuse_compiled(call.options, SPLIT)
    linear, n = call.linear, call.normalizer
    assert linear is not None
    n = None if n is None else jnp.asarray(n, dtype=call.cx.sum_dtype)
    axis = None if call.group is None else call.group.name
    if axis is not None and axis not in varying(linear.weight):
        raise ValueError(
            f"weight: the same along mesh axis {axis!r}, where each device should hold a slice; "
            "shard_map must know of it (check_vma=True)"
        )
    arrays = Arrays(call.operands, linear.weight, linear.bias, n)
    return arrays, Static(call.options, linear.block_rows, axis)


def _described(arrays: Arrays, static: Static) -> LossCall:
    """Return the call that a compiled function's arguments describe."""
    options, block_rows, name = static
    o, weight, bias, n = arrays
    axis = shard = None
    size = weight.shape[0]
    if name is not None:
        axis = Axis(name)
        shard = Shard(axis.rank * size, size, axis.size * size, size)
    cx = context(o.x, jnp)
    o, n = mean_weights(o, options, cx, size if shard is None else shard.classes, n, group=axis)
    linear = Linear(weight, bias, block_rows)
    name = "linear_cross_entropy"
    return LossCall(name, options, cx, o, size, -1, n, linear=linear, shard=shard, group=axis)


def _spread(x: Array, static: Static) -> Any:
    """Return how the value of a loss is spread over a mesh."""
    return spread_as(x, 1) if static.options.reduction == "none" else EVERYWHERE


@partial(jax.jit, static_argnums=(1, 2))
def _computed(arrays: Arrays, static: Static, asked: Outputs | None) -> Any:
    out = _spread(arrays.operands.x, static)
    return automatic(partial(_followed, (static, asked)), out, arrays)


@partial(jax.jit, static_argnums=(1, 3))
def _value_and_grad(
    arrays: Arrays, static: Static, cotangent: Any, wanted: tuple[str, ...]
) -> tuple[Array, dict[str, Array]]:
    def both(arrays: Arrays, cotangent: Any) -> tuple[Array, dict[str, Array]]:
        call = _described(arrays, static)
        loss, grads = evaluated(call, partial(run, call), wanted, cotangent)
        return loss, rounded(call, grads)

    named: dict[str, Any] = arrays.named()
    out = _spread(named["x"], static), {name: spread_as(named[name]) for name in wanted}
    result: tuple[Array, dict[str, Array]] = automatic(both, out, arrays, cotangent)
    return result


def _made(how: tuple[Static, Outputs | None], arrays: Arrays) -> Any:
    """Return the loss; where more is asked for, row losses and the numbers beside them."""
    call = _described(arrays, how[0])
    compute = partial(run, call, ())
    return dense.value(call, compute) if how[1] is None else dense.tokens(call, how[1], compute)


_followed = jax.custom_vjp(_made, nondiff_argnums=(0,))


@jax.custom_jvp
def _differentiable_once(x: Array) -> Array:
    """Return an argument of the forward pass; its derivative is a second one of the loss."""
    return x


@_differentiable_once.defjvp
def _second_derivative(primals: Any, tangents: Any) -> Any:
    raise RuntimeError(TWICE)


def _forward(how: tuple[Static, Outputs | None], given: Any) -> tuple[Any, tuple[Any, ...]]:
    """Return the same, and what the backward pass starts from: gradients, if it is a scalar."""
    wanted = tuple(
        name
        for name, a in given.named().items()
        if a is not None and a.perturbed and jnp.issubdtype(a.value.dtype, jnp.floating)
    )
    arrays = jax.tree.map(lambda a: a.value, given)
    once = {n: a if a is None else _differentiable_once(a) for n, a in arrays.named().items()}
    arrays = arrays.replaced(once)
    if how[0].options.reduction == "none":
        return _made(how, arrays), (arrays, dict.fromkeys(wanted))
    call = _described(arrays, how[0])
    loss, grads = evaluated(call, partial(run, call), wanted, None)
    return loss, (arrays, grads)


def _backward(how: tuple[Static, Outputs | None], saved: Any, cotangent: Any) -> Any:
    """Return the gradients times the cotangent of the loss or of row losses."""
    cotangent = cotangent if how[1] is None else cotangent[0]
    arrays, grads = saved
    call = _described(arrays, how[0])
    if isinstance(cotangent, jax.custom_derivatives.SymbolicZero):
        grads = {}
    elif how[0].options.reduction == "none":
        grads = of_rows(partial(run, call), tuple(grads), cotangent)
    else:
        grads = {name: g * cotangent for name, g in grads.items()}
    none = Arrays(Operands(None), None, None, None)
    return (none.replaced(dict.fromkeys(NAMES) | rounded(call, grads)),)


_followed.defvjp(_forward, _backward, symbolic_zeros=True)
