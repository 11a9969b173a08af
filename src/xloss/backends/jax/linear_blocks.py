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
        self.call, self.cx, self.linear = call, call.cx, call.linear
        self.shape = tuple(call.operands.x.shape[:-1])
        self.rows, width = o.x.shape
        self.every_row = jnp.ones((self.rows,), jnp.bool_)
        self.step, self.count, self.slices, self.slice_size = self.rows, 1, 1, call.classes
        # A length that is a symbol (jax.export) cannot be cut into pieces of a known length.
        if all(isinstance(n, int) for n in (self.rows, width, call.classes)):
            self.step = cutting.block_rows(self.rows, call.classes, call.linear, call.cx)
            self.count = -(-self.rows // self.step)
            # How many classes' weights are converted to the dtype of the arithmetic at once.
            self.slice_size = max(1, min(call.classes, cutting.WEIGHT_CHUNK // max(1, width)))
            self.slices = -(-call.classes // self.slice_size)

    def zeros(self, shape: tuple[Any, ...], dtype: Any) -> Array:
        """Return the start of a sum, which may differ from rank to rank."""
        made = jnp.zeros(shape, dtype)
        return made if self.call.group is None else self.call.group.own(made)

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

    def _over_class_slices(self, step: Any, carry: Any) -> Any:
        """Fold a step over class slices of the weight, converted.

        The last slice begins early to be full; `new` marks the classes that no earlier one had.
        """

        def one(j: Any, carry: Any) -> Any:
            at = jnp.minimum(j * self.slice_size, self.call.classes - self.slice_size)
            w = lax.dynamic_slice_in_dim(self.linear.weight, at, self.slice_size)
            new = at + jnp.arange(self.slice_size) >= j * self.slice_size
            return step(carry, at, new, self.cx.cast(w, self.cx.compute_dtype))

        return lax.fori_loop(0, self.slices, one, carry)

    def logits(self, x: Array) -> Array:
        """Return the logits of a block, (rows, classes); x: (rows, features)."""
        linear, dtype = self.linear, self.cx.compute_dtype
        if linear.weight.dtype == dtype:
            z = jnp.matmul(x, linear.weight.T)
        else:
            z = self._over_class_slices(
                lambda z, at, new, w: lax.dynamic_update_slice_in_dim(z, x @ w.T, at, 1),
                self.zeros((self.step, self.call.classes), dtype),
            )
        return z if linear.bias is None else z + self.cx.cast(linear.bias, dtype)

    def products(self, g: Array, x: Array, total: Array | None, to_x: bool) -> Any:
        """Return the two products with the gradient to a block's logits, g: (rows, classes)."""

        def add(sums: Any, at: Any, new: Any, w: Array) -> Any:
            """Add the products with a class slice of g."""
            to_x, total = sums
            part = jnp.where(new, lax.dynamic_slice_in_dim(g, at, self.slice_size, 1), 0.0)
            if to_x is not None:
                to_x = to_x + part @ w
            if total is not None:
                own = lax.dynamic_slice_in_dim(total, at, self.slice_size) + part.T @ x
                total = lax.dynamic_update_slice_in_dim(total, own, at, 0)
            return to_x, total

        if not to_x and total is None:
            return None, None
        start = self.zeros(x.shape, x.dtype) if to_x else None, total
        return self._over_class_slices(add, start)
