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

from ..model import Missing
from . import gpu, gpu_check
from .by_optax import SAID
from .clock import Call
from .contenders import Contender, function
from .work import Data, Work


class Device:
    """JAX's first GPU, or the host in a rehearsal."""

    library = "jax"
    most = 8  # calls in one turn: each that is queued up holds a gradient of its own

    def __init__(self, device: str) -> None:
        if device == "cuda" and jax.default_backend() != "gpu":
            raise Missing("optax: JAX finds no GPU: a machine with one, and jax's CUDA plugin")
        self.versions = {"optax": f"{optax.__version__}, jax {jax.__version__}"}

    def given(self, work: Work) -> tuple[Data, gpu_check.Right]:
        """Return the arguments of a call on the GPU, and what must come out."""
        drawn = gpu.data(work.op, work.shape, work.dtype, work.axis)
        x: Any = jnp.asarray(drawn.x)
        y: Any = jnp.asarray(drawn.y, jnp.int32)
        return Data(x[jnp.arange(len(y)) % len(x)], y), gpu_check.right(work)

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
    at = jnp.asarray(gpu_check.rows_read(work))

    def answer(got: Any) -> tuple[float, Any]:
        return float(got[0]), np.asarray(got[1][at], np.float64)

    return Call(lambda: both(x, y), answer=answer, engine="generic, traced")


def _optax() -> Any:
    rows = function("optax")
    return lambda logits, labels: rows(logits, labels).mean()


CONTENDERS = {
    c.name: c
    for c in (
        Contender(
            "xloss jax",
            "jax",
            "jax.jit; jax.value_and_grad under it",
            partial(_call, lambda: xloss.cross_entropy),
        ),
        Contender("optax", "jax", f"jax.jit of {SAID}", partial(_call, _optax), True),
    )
}
