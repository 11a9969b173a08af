"""Linear cross-entropy on JAX: differentiated once, its gradients made in the forward pass."""

from __future__ import annotations

from functools import partial
from typing import Any, TypeAlias

import jax
import jax.numpy as jnp

from ..._arrays.inspect import Array
from ...core.call import LossCall
from ...core.options import Operands, Outputs
from ...core.token_stats import Tokens
from ...core.weights import mean_weights
from ...engines import choose, refuse_compiled
from ..eager import dense
from ..eager.linear import NAMES, TWICE, argument, evaluated, rounded
from .backend import bare, denominator, spread_loss
from .ffi import SPLIT
from .linear_blocks import run
from .mesh import automatic, spread_as
from .mesh_axis import varying

Named: TypeAlias = dict[str, Any]  # the arrays that gradients go to, by NAMES
Others: TypeAlias = tuple[Operands, Any]  # the other operands, and the normalizer
How: TypeAlias = tuple[LossCall, Outputs | None]  # the bare call, and the statistics asked for


def value(call: LossCall) -> Array:
    """Return the loss."""
    return _computed(*_arguments(call), None)


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


def _arguments(call: LossCall) -> tuple[Named, Others, LossCall]:
    """Return a call as the arguments of a compiled function."""
    named = {name: argument(call, name) for name in NAMES}
    if call.group is None:
        choose(call)  # an engine that is asked for and cannot take the logits is an error
    else:
        refuse_compiled(call.options, SPLIT)
        if call.group.name not in varying(named["weight"]):
            raise ValueError(
                f"weight: the same along mesh axis {call.group.name!r}, where each device should "
                "hold a slice; shard_map must know of it (check_vma=True)"
            )
    others = call.operands._replace(x=None, targets=None), denominator(call)
    return named, others, bare(call)


def _described(named: Named, others: Others, bare: LossCall) -> LossCall:
    """Return the call that a compiled function's arguments describe."""
    o, n = others
    o = o._replace(x=named["x"], targets=named["targets"])
    classes, group, shard, linear = bare.classes, bare.group, bare.shard, bare.linear
    if shard is not None:
        shard, classes = shard._replace(start=group.rank * shard.size), shard.classes
    o, n = mean_weights(o, bare.options, bare.cx, classes, n, group=group)
    assert linear is not None
    linear = linear._replace(weight=named["weight"], bias=named["bias"])
    return bare._replace(operands=o, normalizer=n, linear=linear, shard=shard)


@partial(jax.jit, static_argnums=(2, 3))
def _computed(named: Named, others: Others, bare: LossCall, asked: Outputs | None) -> Any:
    out = spread_loss(named["x"], bare)
    return automatic(partial(_followed, (bare, asked)), out, named, others)


@partial(jax.jit, static_argnums=(2, 4))
def _value_and_grad(
    named: Named, others: Others, bare: LossCall, cotangent: Any, wanted: tuple[str, ...]
) -> tuple[Array, dict[str, Array]]:
    def both(named: Named, others: Others, cotangent: Any) -> tuple[Array, dict[str, Array]]:
        call = _described(named, others, bare)
        loss, grads = evaluated(call, partial(run, call), wanted, cotangent)
        return loss, rounded(call, grads)

    out = spread_loss(named["x"], bare), {name: spread_as(named[name]) for name in wanted}
    return automatic(both, out, named, others, cotangent)


def _made(how: How, named: Named, others: Others) -> Any:
    """Return the loss; where more is asked for, row losses and the numbers beside them."""
    bare, asked = how
    call = _described(named, others, bare)
    compute = partial(run, call, ())
    return dense.value(call, compute) if asked is None else dense.tokens(call, asked, compute)


_followed = jax.custom_vjp(_made, nondiff_argnums=(0,))


@jax.custom_jvp
def _differentiable_once(x: Array) -> Array:
    """Return an argument of the forward pass; its derivative is a second one of the loss."""
    return x


@_differentiable_once.defjvp
def _second_derivative(primals: Any, tangents: Any) -> Any:
    raise RuntimeError(TWICE)


def _forward(how: How, named: Named, others: Any) -> tuple[Any, tuple[Any, ...]]:
    """Return the same, and what the backward pass starts from: gradients, if it is a scalar."""
    wanted = tuple(
        name
        for name, a in named.items()
        if a is not None and a.perturbed and jnp.issubdtype(a.value.dtype, jnp.floating)
    )
    named, others = jax.tree.map(lambda a: a.value, (named, others))
    named = {n: a if a is None else _differentiable_once(a) for n, a in named.items()}
    if how[0].options.reduction == "none":
        return _made(how, named, others), (named, others, dict.fromkeys(wanted))
    call = _described(named, others, how[0])
    loss, grads = evaluated(call, partial(run, call), wanted, None)
    return loss, (named, others, grads)


def _backward(how: How, saved: Any, cotangent: Any) -> Any:
    """Return the gradients times the cotangent of the loss or of row losses."""
    cotangent = cotangent if how[1] is None else cotangent[0]
    named, others, grads = saved
    call = _described(named, others, how[0])
    if isinstance(cotangent, jax.custom_derivatives.SymbolicZero):
        grads = {}
    elif how[0].options.reduction == "none":
        grads = evaluated(call, partial(run, call), tuple(grads), cotangent, value=False)[1]
    else:
        grads = {name: g * cotangent for name, g in grads.items()}
    return dict.fromkeys(NAMES) | rounded(call, grads), None


_followed.defvjp(_forward, _backward, symbolic_zeros=True)
