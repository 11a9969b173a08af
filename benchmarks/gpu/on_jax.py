"""JAX on the GPU: xloss and optax under jax.jit; JAX has no events: the host's clock is read."""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

import xloss
from xloss_conformance.timing import Call, optax_loss

from ..contenders import PEERS, Contender, Missing
from ..work import Data, Work
from . import check, plan


class Device:
    """JAX's first GPU, or the host in a rehearsal."""

    library = "jax"
    most = 8  # calls in one turn: each that is queued up holds a gradient of its own

    def __init__(self, device: str) -> None:
        if device == "cuda" and jax.default_backend() != "gpu":
            raise Missing("optax: JAX finds no GPU: a machine with one, and jax's CUDA plugin")
        self.versions = {"optax": f"{optax.__version__}, jax {jax.__version__}"}

    def given(self, work: Work) -> tuple[Data, check.Right]:
        """Return the arguments of a call on the GPU, and what must come out."""
        drawn = plan.data(work.op, work.shape, work.dtype, work.axis)
        x: Any = jnp.asarray(drawn.x)
        y: Any = jnp.asarray(drawn.y, jnp.int32)
        return Data(x[jnp.arange(len(y)) % len(x)], y), check.right(work)

    def bound(self, work: Work, given: Data) -> None:
        """JAX has no copy that is not compiled away; PyTorch's stands beside it."""

    def wait(self) -> None:
        """A turn ends when its last call has."""

    def fresh(self) -> None:
        """Forget what was compiled for another shape."""
        forget: Any = jax.clear_caches
        forget()

    def peak(self, call: Call) -> None:
        """Nothing is read of JAX's memory."""

    def seconds(self, call: Call, runs: int) -> float:
        """Return the time for a call, by the host's clock, of so many that follow each other."""
        wait: Any = jax.block_until_ready
        wait(call.run())
        start = time.perf_counter()
        for _ in range(runs):
            got = call.run()
        wait(got)
        return (time.perf_counter() - start) / runs


def _call(make: Callable[[], Any], work: Work, given: Data, threads: int) -> Call:
    loss, x, y = make(), given.x, given.y
    if not work.gradient:
        value: Any = jax.jit(loss)
        return Call(lambda: value(x, y), engine="generic, traced")
    both: Any = jax.jit(jax.value_and_grad(loss))
    at = jnp.asarray(check.rows_read(work))

    def answer(got: Any) -> tuple[float, Any]:
        return float(got[0]), np.asarray(got[1][at], np.float64)

    return Call(lambda: both(x, y), answer=answer, engine="generic, traced")


CONTENDERS = {
    c.name: c
    for c in (
        Contender(
            "xloss jax",
            "jax",
            "jax.jit; jax.value_and_grad under it",
            partial(_call, lambda: xloss.cross_entropy),
        ),
        Contender("optax", "jax", PEERS["optax"].said, partial(_call, optax_loss), True),
    )
}
