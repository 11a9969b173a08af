"""JAX on the GPU: optax under jax.jit; JAX has no events, so that the host's clock is read."""

from __future__ import annotations

import time
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

from ..homes import Missing
from . import gpu
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

    def arrays(self, work: Work, given: Data) -> Data:
        x: Any = jnp.asarray(given.x)
        if len(x) < work.shape[0]:
            x = jnp.tile(x, (work.shape[0] // len(x), 1))
        y: Any = jnp.asarray(given.y, jnp.int32)
        return Data(x, y)

    def copy(self, x: Any) -> None:
        """JAX has no copy that is not compiled away; PyTorch's stands beside it."""
        return

    def wait(self) -> None:
        """A turn ends when its last call has."""

    def fresh(self) -> None:
        """Forget what was compiled for another shape."""
        forget: Any = jax.clear_caches
        forget()

    def seconds(self, call: Call, runs: int) -> float:
        """Return the time for a call, by the host's clock, of so many that follow each other."""
        wait: Any = jax.block_until_ready
        wait(call.run())
        start = time.perf_counter()
        for _ in range(runs):
            got = call.run()
        wait(got)
        return (time.perf_counter() - start) / runs


def _call(work: Work, given: Data, threads: int) -> Call:
    rows, x, y = function("optax"), given.x, given.y

    def loss(logits: Any, labels: Any) -> Any:
        return rows(logits, labels).mean()

    if not work.gradient:
        value: Any = jax.jit(loss)
        return Call(lambda: value(x, y))
    both: Any = jax.jit(jax.value_and_grad(loss))
    at = jnp.asarray(gpu.rows_read(work))

    def answer(got: Any) -> tuple[float, Any]:
        return float(got[0]), np.asarray(got[1][at], np.float64)

    return Call(lambda: both(x, y), answer=answer)


CONTENDERS = {"optax": Contender("optax", "jax", f"jax.jit of {SAID}", _call, True)}
