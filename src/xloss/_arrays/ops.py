"""The operations that an array library has its own best way to do, a subclass a library."""

from __future__ import annotations

import sys
from typing import Any

import numpy as np
import numpy.typing as npt

from .inspect import Array, dtype_name, has_memory, torch_module
from .standard import Context


class IndexingContext(Context):
    """A library whose x[i, j] reads and writes a few entries without a pass over all of x."""

    __slots__ = ()

    def gather(self, x: Array, labels: Array) -> Array:
        """Return x[..., labels] by integer indices."""
        if x.ndim == 2 and self.inplace_ok:
            return x[self.arange(x.shape[0]), labels]
        return Context.gather(self, x, labels)

    def scatter(self, x: Array, labels: Array, values: Array) -> Array:
        """Put values at x[..., labels] by integer indices."""
        if x.ndim == 2 and self.inplace_ok:
            x[self.arange(x.shape[0]), labels] = self.xp.astype(values, x.dtype, copy=False)
            return x
        return Context.scatter(self, x, labels, values)

    def scatter_many(
        self, x: Array, indices: Array, values: Array, first: Array | None = None
    ) -> Array:
        """Put values at x[..., indices] by integer indices."""
        if not self.inplace_ok:
            return Context.scatter_many(self, x, indices, values, first)
        x[self.slots(indices)] = values
        return x

    def take(self, x: Array, labels: Array) -> Array:
        """Return x[labels] by integer indices."""
        return x[labels] if self.inplace_ok else Context.take(self, x, labels)

    def cast_into(self, x: Array, out: Array) -> None:
        """Convert in the assignment itself, without a third array."""
        out[...] = x


class NumpyContext(IndexingContext):
    """NumPy: its ufuncs and methods, which cost less a call than the namespace's functions."""

    __slots__ = ()

    def cast(self, x: Array, dtype: Any) -> Array:
        """Convert by the method, without a call in between."""
        return x if x.dtype == dtype else x.astype(dtype, copy=False)

    def astype(self, x: Array, dtype: Any) -> Array:
        """Convert by the method: np.astype is a Python function around it."""
        return x.astype(dtype, copy=False)

    def plain(self, x: Array) -> Array:
        """Return a 0-d array as the scalar that NumPy's own functions return."""
        return x[()] if x.ndim == 0 else x

    def fill(self, x: Array, mask: Array, value: float) -> Array:
        """Put `value` where `mask`, in place."""
        if not self.inplace_ok:
            return np.where(mask, value, x)
        np.copyto(x, value, where=mask)
        return x

    def label_bounds(self, labels: Array) -> tuple[int, int]:
        """Return the smallest and the largest label by the array's methods."""
        return int(labels.min()), int(labels.max())

    def sum_last(self, x: Array) -> Array:
        """Sum along the last axis by the ufunc's own reduction."""
        return np.add.reduce(x, axis=-1, dtype=self.sum_dtype)

    def max_last(self, x: Array) -> Array:
        """Return the maxima along the last axis by the ufunc's own reduction."""
        return np.maximum.reduce(x, axis=-1, keepdims=True)

    def matmul_into(self, a: Array, b: Array, out: Array) -> None:
        """Put a @ b into `out`, by whichever of it and its transpose is faster."""
        if a.shape[1] > b.shape[1]:
            # A long sum for few rows takes OpenBLAS up to twice as long as its transpose.
            out[...] = np.matmul(b.T, a.T).T
        else:
            np.matmul(a, b, out=out)

    def matmul_add(self, total: Array, a: Array, b: Array, block_rows: int) -> None:
        """Add a @ b in blocks of rows, each product made in the same memory."""
        room = np.empty((block_rows, b.shape[1]), total.dtype)
        for start in range(0, total.shape[0], block_rows):
            block = total[start : start + block_rows]
            block += np.matmul(a[start : start + block_rows], b, out=room[: block.shape[0]])


class TorchContext(IndexingContext):
    """PyTorch, eager or traced by torch.compile, which follows every method here."""

    __slots__ = ()

    def c_order(self, x: Array) -> Array:
        """Copy to C order unless it is; what autodiff or a compiler follows stays as it is."""
        return x.contiguous() if self.inplace_ok else x

    def fill(self, x: Array, mask: Array, value: float) -> Array:
        """Put `value` where `mask`, in place where that is allowed."""
        return x.masked_fill_(mask, value) if self.inplace_ok else self.xp.where(mask, value, x)

    def gather(self, x: Array, labels: Array) -> Array:
        """Return x[..., labels] without a broadcast."""
        if x.ndim == 2 and self.inplace_ok:
            return x[self.arange(x.shape[0]), labels]
        # take_along_axis broadcasts, for which torch.compile fixes every size.
        xp = self.xp
        return xp.squeeze(xp.gather(x, -1, xp.expand_dims(labels, axis=-1)), axis=-1)

    def gather_many(self, x: Array, indices: Array) -> Array:
        """Return the entries of x at indices without a broadcast."""
        return self.xp.gather(x, -1, indices)

    def scatter_many(
        self, x: Array, indices: Array, values: Array, first: Array | None = None
    ) -> Array:
        """Put values at x[..., indices]."""
        if self.inplace_ok:
            return x.scatter_(-1, indices, values)
        if first is None:
            return self.xp.scatter(x, -1, indices, values)
        # The derivative of a scatter is right for indices that come once.
        emptied = self.xp.scatter(x, -1, indices, 0.0)
        return self.xp.scatter_add(emptied, -1, indices, self.xp.where(first, values, 0.0))

    def label_bounds(self, labels: Array) -> tuple[int, int]:
        """Return the smallest and the largest label, read as NumPy reads them where it can."""
        if self.on_host and has_memory(labels):
            # PyTorch's own minimum wakes its threads, which then spin while ours compute.
            seen = labels.numpy()
            return int(seen.min()), int(seen.max())
        # PyTorch orders no unsigned dtype but uint8. What the labels' dtype cannot hold turns
        # negative, and is reported as out of any range.
        if dtype_name(labels.dtype).startswith("uint"):
            values = self.cast(labels, self.label_dtype)
            low, high = int(values.min()), int(values.max())
            return (low, high) if low >= 0 else (0, 2**64 - 1)
        return int(labels.min()), int(labels.max())

    def indexable(self, labels: Array) -> Array:
        """Return labels whose memory holds their values."""
        # A negated view holds the values before the sign, and indexing reads those. The zeros that
        # autograd makes have no memory at all, and to index by them ends the process.
        if self.inplace_ok and labels._is_zerotensor():
            return labels.clone()
        return labels.resolve_neg() if labels.is_neg() else labels

    def matmul_into(self, a: Array, b: Array, out: Array) -> None:
        """Put a @ b into `out`."""
        self.xp.matmul(a, b, out=out)

    def matmul_add(self, total: Array, a: Array, b: Array, block_rows: int) -> None:
        """Add a @ b in one call, which needs no memory for the product."""
        total.addmm_(a, b)

    def from_host(self, values: npt.NDArray[Any]) -> Array:
        """Return a NumPy array as a tensor on the device."""
        torch = torch_module()
        # PyTorch warns of memory that it must not write to, and takes no stride that is negative or
        # no multiple of the item's size, which an array of one element may still have.
        size = values.itemsize
        odd = any(step < 0 or step % size for step in values.strides)
        if odd or not values.flags.writeable:
            values = values.copy()
        if dtype_name(values.dtype) == "bfloat16":  # which PyTorch does not know from ml_dtypes
            return torch.as_tensor(values.view(np.int16), device=self.device).view(torch.bfloat16)
        return torch.as_tensor(values, device=self.device)


class JaxContext(Context):
    """JAX: every operation as the standard has it, for XLA to fuse."""

    __slots__ = ()

    def scatter_many(
        self, x: Array, indices: Array, values: Array, first: Array | None = None
    ) -> Array:
        """Put values at x[..., indices]; JAX differentiates an index that comes twice as one."""
        return x.at[self.slots(indices)].set(values)

    @property
    def fuses_sums(self) -> bool:
        """Tell XLA's: it fuses arithmetic terms into their sum."""
        return True

    def apart(self, *arrays: Array) -> tuple[Array, ...]:
        """Return the arrays behind a barrier, at which XLA does not see that they are the same."""
        made: tuple[Array, ...] = sys.modules["jax"].lax.optimization_barrier(arrays)
        return made

    def by_processor(self, host: Any, hosts: Any, elsewhere: Any, *arrays: Array) -> Any:
        """Choose when XLA lowers, for then it says for which device."""
        jax = sys.modules["jax"]
        # Among several devices XLA may spread the classes, and would gather them at a reshape.
        cpu = hosts if jax.device_count() > 1 else host
        return jax.lax.platform_dependent(*arrays, cpu=cpu, default=elsewhere)

    def rarely(self, needed: Array, function: Any, otherwise: Any, *arrays: Array) -> Any:
        """Compute one of the two, unless `needed` is mapped over."""
        return sys.modules["jax"].lax.cond(needed, function, otherwise, *arrays)

    def from_host(self, values: npt.NDArray[Any]) -> Array:
        """Return a NumPy array committed to no device, so that it follows the logits."""
        return self.xp.asarray(values)


class TensorflowContext(Context):
    """TensorFlow: every operation by the backend's namespace of the standard."""

    __slots__ = ()

    def take(self, x: Array, labels: Array) -> Array:
        """Take without a reshape, which two axes of unknown length would not allow."""
        return self.xp.take(x, labels)

    def scatter_many(
        self, x: Array, indices: Array, values: Array, first: Array | None = None
    ) -> Array:
        """Put values at x[..., indices] by the backend's namespace."""
        return self.xp.scatter_many(x, indices, values, first)

    def bits(self, x: Array, dtype: Any) -> Array:
        """Return a tensor's bits as another dtype."""
        return self.xp.bitcast(x, dtype)

    def row_count(self, x: Array, classes: int) -> Any:
        """Return the number of rows, a tensor where tf.function does not know it yet."""
        return self.xp.row_count(x, classes)


CONTEXTS: dict[str, type[Context]] = {
    "numpy": NumpyContext,
    "torch": TorchContext,
    "cupy": IndexingContext,
    "jax": JaxContext,
    "tensorflow": TensorflowContext,
}
