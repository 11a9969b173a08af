"""JAX: row losses of a linear layer's output together with what a training log needs beside.

`linear` has the loss and every gradient; this adds the pass that returns more.
"""

from __future__ import annotations

from functools import partial
from typing import Any

import jax

from ..._arrays.inspect import Array
from ...core.call import LossCall
from ...core.options import Outputs
from ...core.token_stats import Tokens
from ..eager import dense
from . import linear
from .linear import Arrays, Constants, Static, value, value_and_grad
from .linear_blocks import run
from .mesh import automatic, spread_as

__all__ = ["tokens", "value", "value_and_grad"]


def tokens(call: LossCall, asked: Outputs) -> tuple[Array, Tokens]:
    """Return row losses and the numbers beside them, which are constants to autodiff."""
    linear.refuse_engine(call)
    made: tuple[Array, Tokens] = _tokens(*linear.arguments(call), asked)
    return made


@partial(jax.jit, static_argnums=(2, 3))
def _tokens(
    arrays: Arrays, constants: Constants, static: Static, asked: Outputs
) -> tuple[Array, Tokens]:
    made: tuple[Array, Tokens] = automatic(
        partial(_rows_and_tokens, (static, asked)), spread_as(arrays[0], 1), arrays, constants
    )
    return made


@partial(jax.custom_vjp, nondiff_argnums=(0,))
def _rows_and_tokens(
    how: tuple[Static, Outputs], arrays: Arrays, constants: Constants
) -> tuple[Array, Tokens]:
    call = linear.described(arrays, constants, how[0])
    return dense.tokens(call, how[1], partial(run, call, ()))


def _forward(how: tuple[Static, Outputs], arrays: Any, constants: Any) -> Any:
    # XLA drops the rows that this computes: they come below, together with the numbers.
    saved = linear.forward(how[0], arrays, constants)[1]
    return _rows_and_tokens(how, *saved[:2]), saved


def _backward(how: tuple[Static, Outputs], saved: Any, cotangents: Any) -> Any:
    return linear.backward(how[0], saved, cotangents[0])


_rows_and_tokens.defvjp(_forward, _backward, symbolic_zeros=True)
