"""optax under jax.jit."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from .clock import Call
from .contenders import SOME, Contender, function
from .work import Data, Work


def jitted(loss: Callable[..., Any], work: Work, given: Data) -> Call:
    """Return jax.jit of the loss, or of its jax.value_and_grad, waited for."""
    arguments = tuple(jnp.asarray(a) for a in (given.x, given.weight) if a is not None)
    arguments += (jnp.asarray(given.y, np.int32),)
    if not work.gradient:
        value = jax.jit(loss)
        return Call(lambda: value(*arguments).block_until_ready())
    wait: Any = jax.block_until_ready
    both = jax.jit(jax.value_and_grad(loss, (0, 1) if work.features else 0))

    def answer(got: Any) -> tuple[float, Any]:
        gradient = got[1][0] if work.features else got[1]
        return float(got[0]), np.asarray(gradient.reshape(-1)[:SOME], np.float64)

    return Call(lambda: wait(both(*arguments)), answer=answer)


def _call(work: Work, given: Data, threads: int) -> Call:
    rows = function("optax")

    def loss(logits: Any, labels: Any) -> Any:
        return rows(logits, labels, axis=work.axis).mean()

    def linear(features: Any, weight: Any, labels: Any) -> Any:
        return loss(features @ weight.T, labels)

    return jitted(linear if work.features else loss, work, given)


SAID = "optax.softmax_cross_entropy_with_integer_labels(...).mean(); jax.value_and_grad of it"
CONTENDERS = {"optax": Contender("optax", "jax", f"jax.jit of {SAID}", _call, True)}
