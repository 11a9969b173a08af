"""What a primitive of JAX's does where no program around it is compiled."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax


def alone(primitive: Any, static: str) -> Callable[..., Any]:
    """Return a function that calls a primitive in a program of its own; `static` is its parameter.

    Within `jax.disable_jit` too: without a program the primitive would ask this function again,
    without end.
    """
    program = jax.jit(primitive.bind, static_argnames=static)

    def run(*arrays: Any, **parameter: Any) -> Any:
        with jax.disable_jit(False):
            return program(*arrays, **parameter)

    return run
