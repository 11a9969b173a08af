"""JAX arrays; float64 under `enable_x64`."""

from __future__ import annotations

from contextlib import AbstractContextManager
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from ..model import Array
from .base import ArrayLibrary, Arrays, Differentiated, Function

X64: Any = jax.config  # its attributes are made when it is imported


class Jax(ArrayLibrary):
    name = "jax"
    module = jax
    types = jax.Array
    gradients = "jax.vjp"
    reads = False
    flushes = ("float16", "bfloat16", "float32", "float64")
    compiles = True
    same_bits = False  # XLA fuses and orders as the whole batch's shape suggests
    long = False
    layouts = ("C",)  # XLA lays its arrays out itself

    def array(self, values: Array, layout: str = "C") -> Any:
        if values.dtype.name in ("int64", "uint64") and not X64.jax_enable_x64:
            values = values.astype(np.int32)
        return jnp.asarray(values)

    def setting(self, dtype: str) -> AbstractContextManager[Any]:
        context: AbstractContextManager[Any] = jax.enable_x64(dtype == "float64")
        return context

    def forget(self) -> None:
        # A few MB for every call that was compiled.
        jax.clear_caches()  # type: ignore[no-untyped-call]

    def differentiate(self, function: Function, arguments: Arrays, upstream: Any) -> Differentiated:
        value, back = jax.vjp(function, *arguments)
        cotangent = jnp.broadcast_to(jnp.asarray(upstream, value.dtype), value.shape)
        return value, tuple(back(cotangent))
