"""The context of one call: what the arithmetic may use, and its operations by the array standard.

`ops.py` has a subclass for each library with a faster or safer way, and `context.py` chooses the
class once a call, so that nothing above compares a library's name.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from math import prod
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from .inspect import Array, Namespace, is_tracer

# Libraries that print no warnings of floating-point errors, or compute nothing when called.
SILENT = frozenset({"torch", "cupy", "dask", "jax", "tensorflow"})

# Where a library has an exact sum of its own, its backend enters it here by the library's name.
OWN_SUMS: dict[str, Callable[[Array], Array]] = {}


class Context(NamedTuple):
    """What the arithmetic of one call may use: its namespace, dtypes, device, and operations.

    Hashable and compared by its fields, so that a compiler can specialise on it. "An array of our
    own" is one that no caller holds and no autodiff follows: only such an array is written to, and
    only where `inplace_ok`.
    """

    xp: Namespace
    library: str  # "numpy", "torch", "jax", "cupy", "dask", "array_api_strict", ...
    device: Any  # None where the library traces
    compute_dtype: Any  # dtype of the arithmetic and the loss: float32 or float64
    sum_dtype: Any  # dtype of the sums: float64 where the device has it, else compute_dtype
    label_dtype: Any  # dtype of safe labels: int64 where the device has it, else int32
    inplace_ok: bool  # arrays of our own may be written in place
    on_host: bool  # values may steer Python: reading one costs no transfer
    values_readable: bool = False  # the targets' values may be read
    labels_verified: bool = False  # they were: every label is in range and none is ignored

    def quiet(self) -> AbstractContextManager[Any]:
        """Silence NumPy's floating-point warnings, for inf - inf and log 0 are selected away.

        Libraries that compute by NumPy would print them.
        """
        return nullcontext() if self.library in SILENT else np.errstate(all="ignore")

    def cast(self, x: Array, dtype: Any) -> Array:
        """Convert without a copy where the dtype is the array's own."""
        return x if x.dtype == dtype else self.astype(x, dtype)

    def astype(self, x: Array, dtype: Any) -> Array:
        """Convert to another dtype."""
        return self.xp.astype(x, dtype, copy=False)

    def cast_into(self, x: Array, out: Array) -> None:
        """Convert into an array of our own, without a third array where the library can."""
        out[...] = self.cast(x, out.dtype)

    def c_order(self, x: Array) -> Array:
        """Copy to C order unless it is: the bits of NumPy's sums depend on memory order."""
        if not self.inplace_ok:
            return x
        copy = getattr(self.xp, "ascontiguousarray", None)
        if copy is not None:
            return copy(x)
        return self.xp.reshape(self.xp.reshape(x, (-1,)), x.shape)  # both are in C order

    def plain(self, x: Array) -> Array:
        """Return a 0-d result as the library's own functions return one: NumPy's are scalars."""
        return x

    def fill(self, x: Array, mask: Array, value: float) -> Array:
        """Put `value` where `mask`: in place where x is an array of our own and the library can."""
        return self.xp.where(mask, value, x)  # x[mask] = value is optional in the standard

    def arange(self, n: int) -> Array:
        """Return 0..n-1 in the labels' dtype on the call's device."""
        return self.xp.arange(n, dtype=self.label_dtype, device=self.device)

    def gather(self, x: Array, labels: Array) -> Array:
        """Return x[..., labels], one entry a row; labels must be safe.

        x is (*rows, classes), labels is (*rows).
        """
        xp = self.xp
        found = xp.take_along_axis(x, xp.expand_dims(labels, axis=-1), axis=-1)
        return xp.squeeze(found, axis=-1)

    def scatter(self, x: Array, labels: Array, values: Array) -> Array:
        """Put one value a row at x[..., labels]: in place where x is an array of our own.

        x is (*rows, classes), labels and values are (*rows).
        """
        xp = self.xp
        values = xp.astype(values, x.dtype, copy=False)
        at_label = self.arange(x.shape[-1]) == xp.expand_dims(labels, axis=-1)
        return xp.where(at_label, xp.expand_dims(values, axis=-1), x)

    def gather_many(self, x: Array, indices: Array) -> Array:
        """Return the entries of x, (*rows, classes), at safe indices, (*rows, K)."""
        return self.xp.take_along_axis(x, indices, axis=-1)

    def scatter_many(
        self, x: Array, indices: Array, values: Array, first: Array | None = None
    ) -> Array:
        """Put values at x[..., indices]: in place where x is an array of our own.

        x is (*rows, classes), the others are (*rows, K). Where an index comes twice in a row, both
        values are the same. To an autodiff only the first of them is one, which `first` marks; None
        says that no index comes twice or that nothing is differentiated.
        """
        # The standard has no such operation: one slot after the other.
        for j in range(indices.shape[-1]):
            x = self.scatter(x, indices[..., j], values[..., j])
        return x

    def slots(self, indices: Array) -> tuple[Array, ...]:
        """Return what reads or writes all x[..., indices] by integer indices of every axis."""
        rows = indices.shape[:-1]
        n = len(rows)
        numbers = (
            self.xp.reshape(self.arange(m), (*(1,) * i, m, *(1,) * (n - i)))
            for i, m in enumerate(rows)
        )
        return (*numbers, indices)

    def take(self, x: Array, labels: Array) -> Array:
        """Return x[labels] for a one-dimensional x; labels must be safe."""
        xp = self.xp
        return xp.reshape(xp.take(x, xp.reshape(labels, (-1,)), axis=0), labels.shape)

    def label_bounds(self, labels: Array) -> tuple[int, int]:
        """Return the smallest and the largest of at least one label, exactly."""
        return int(self.xp.min(labels)), int(self.xp.max(labels))

    def indexable(self, labels: Array) -> Array:
        """Return labels whose memory holds their values, as indexing by them requires."""
        return labels

    def sum_last(self, x: Array) -> Array:
        """Sum along the last axis in the dtype of the sums."""
        return self.xp.sum(x, axis=-1, dtype=self.sum_dtype)

    def sum_all(self, x: Array) -> Array:
        """Sum all elements in the dtype of the sums."""
        return self.xp.sum(x, dtype=self.sum_dtype)

    def own_sum(self, x: Array) -> Array | None:
        """Sum exactly by the library's own way, where its backend has entered one; else None.

        Halves cannot be cut where a length is a symbol or is spread over a mesh of devices.
        """
        own = OWN_SUMS.get(self.library)
        return None if own is None else own(x)

    def bits(self, x: Array, dtype: Any) -> Any:
        """Return an array's bits as a dtype of the same width, None where the library cannot.

        The standard has no such view, and 0-d lazy arrays cannot be viewed.
        """
        return x.view(dtype) if hasattr(x, "view") and not hasattr(x, "compute") else None

    @property
    def fuses_sums(self) -> bool:
        """Tell whether a compiler adds up arithmetic terms without writing them to memory first."""
        return False

    def apart(self, *arrays: Array) -> tuple[Array, ...]:
        """Return the arrays so that a compiler computes with them twice instead of keeping it."""
        return arrays

    def by_processor(self, host: Any, hosts: Any, elsewhere: Any, *arrays: Array) -> Any:
        """Return host(*arrays) in a compiler's program for this machine's processor alone.

        In a program that may be for several such devices, hosts(*arrays); for a GPU or any other
        device, elsewhere(*arrays).
        """
        return elsewhere(*arrays)

    def rarely(self, needed: Array, function: Any, otherwise: Any, *arrays: Array) -> Any:
        """Return function(*arrays) where a compiler's program finds `needed`, else the other's."""
        return self.xp.where(needed, function(*arrays), otherwise(*arrays))

    def max_last(self, x: Array) -> Array:
        """Return the maxima along the last axis, kept with length 1; a NaN wins."""
        return self.xp.max(x, axis=-1, keepdims=True)

    def count_true(self, mask: Array, maxima: Array) -> Array:
        """Count what is true along the last axis of z == maxima.

        mask is (*rows, classes), maxima (*rows, 1).
        """
        xp = self.xp
        # Counting along an axis costs as much as the exponential, counting the whole array next to
        # nothing: one maximum for each row is one in each row, unless a row has none, which is
        # where its maximum is NaN.
        if self.on_host and int(xp.count_nonzero(mask)) == prod(maxima.shape):
            check = float(self.sum_all(maxima))
            if check == check:
                return xp.ones(maxima.shape[:-1], dtype=self.sum_dtype, device=self.device)
        return self.sum_last(xp.astype(mask, self.compute_dtype))

    def matmul_into(self, a: Array, b: Array, out: Array) -> None:
        """Put a @ b into an array of our own: (n, k) @ (k, m) into (n, m)."""
        out[...] = self.xp.matmul(a, b)

    def matmul_add(self, total: Array, a: Array, b: Array, block_rows: int) -> None:
        """Add a @ b to an array of our own: (n, k) @ (k, m) to (n, m).

        Where the product needs memory of its own, it is made `block_rows` rows at a time.
        """
        for start in range(0, total.shape[0], block_rows):
            block = total[start : start + block_rows, ...]
            block += self.xp.matmul(a[start : start + block_rows, ...], b)

    def row_count(self, x: Array, classes: int) -> Any:
        """Return the number of rows of logits; an array where a compiler does not know it yet."""
        return prod(x.shape[:-1] if classes else x.shape)

    def is_tracer(self, x: Array) -> bool:
        """Tell whether the array's values cannot be read at any price: a transformation hides them.

        A compiler or a gradient transformation that is tracing hands out such arrays.
        """
        return is_tracer(x, self.library)

    def from_host(self, values: npt.NDArray[Any]) -> Array:
        """Return a NumPy array, of a dtype that the library has, as an array on the device."""
        return self.xp.asarray(values, device=self.device)
