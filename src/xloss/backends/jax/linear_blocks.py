"""Linear cross-entropy on JAX: the scan over blocks of rows, which every transformation starts."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
from jax import lax

from ..._arrays.inspect import Array
from ...core import linear as cutting
from ...core.call import LossCall
from ...core.options import UNIT_COTANGENT, Cotangent, Operands, Outcome, Outputs
from ..eager import linear_scan


def run(
    call: LossCall, parts: tuple[str, ...], outputs: Outputs, cotangent: Cotangent = UNIT_COTANGENT
) -> Outcome:
    """Compute the outputs in a scan over blocks of rows."""
    return linear_scan.run(call, parts, outputs, cotangent, Blocks)


class Blocks:
    """One call's blocks, and their products with slices of the weight's classes."""

    def __init__(self, call: LossCall, o: Operands) -> None:
        assert call.linear is not None
        self.call, cx, linear = call, call.cx, call.linear
        self.weight = cx.cast(linear.weight, cx.compute_dtype)
        self.bias = None if linear.bias is None else cx.cast(linear.bias, cx.compute_dtype)
        self.shape = tuple(call.operands.x.shape[:-1])
        self.rows = o.x.shape[0]
        self.every_row = jnp.ones((self.rows,), jnp.bool_)
        self.step, self.count, self.slices, self.slice_size = self.rows, 1, 1, call.classes
        # A length that is a symbol (jax.export) cannot be cut into pieces of a known length.
        if all(isinstance(n, int) for n in (*o.x.shape, call.classes)):
            self.step = cutting.block_rows(self.rows, call.classes, linear, cx)
            self.count = -(-self.rows // self.step)
            few = cutting.WEIGHT_CHUNK // max(1, o.x.shape[1])
            self.slice_size = max(1, min(call.classes, few))
            self.slices = -(-call.classes // self.slice_size)

    def zeros(self, shape: tuple[Any, ...], dtype: Any) -> Array:
        """Return the start of a sum, which may differ from rank to rank."""
        made, group = jnp.zeros(shape, dtype), self.call.group
        return made if group is None else lax.pcast(made, group.name, to="varying")

    def loop(self, body: Any, sums: Any, arrays: Any, kinds: Any) -> Any:
        """Scan over the blocks; all have the same number of rows, as a scan needs."""

        def cut(a: Array) -> Array:
            """Return an array of (rows, ...) as (blocks, step, ...)."""
            if self.count > 1:
                missing = self.count * self.step - self.rows
                a = jnp.pad(a, [(0, missing), *[(0, 0)] * (a.ndim - 1)])
            return a.reshape(self.count, self.step, *a.shape[1:])

        def joined(a: Array) -> Array:
            a = a.reshape(self.count * self.step, *a.shape[2:])
            a = a[: self.rows] if self.count > 1 else a
            return a.reshape(*self.shape, *a.shape[1:])

        sums, found = lax.scan(body, sums, jax.tree.map(cut, arrays), length=self.count)
        return sums, jax.tree.map(joined, found)

    def logits(self, x: Array) -> Array:
        """Return the logits of a block, (rows, classes); x: (rows, features)."""
        z = x @ self.weight.T
        return z if self.bias is None else z + self.bias

    def products(self, g: Array, x: Array, total: Array | None, to_x: bool) -> Any:
        """Return the two products with the gradient to a block's logits, g: (rows, classes).

        The sum is added to some classes at a time: XLA would hold a whole product beside it.
        """
        size = self.slice_size

        def add(j: Any, total: Array) -> Array:
            """Add the share of a slice; the last begins early, where others' classes count as 0."""
            at = jnp.minimum(j * size, self.call.classes - size)
            new = at + jnp.arange(size) >= j * size
            part = jnp.where(new, lax.dynamic_slice_in_dim(g, at, size, 1), 0.0)
            own = lax.dynamic_slice_in_dim(total, at, size) + part.T @ x
            return lax.dynamic_update_slice_in_dim(total, own, at, 0)

        total = None if total is None else lax.fori_loop(0, self.slices, add, total)
        return g @ self.weight if to_x else None, total
