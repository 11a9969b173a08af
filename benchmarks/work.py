"""What is timed: one call of one loss on arrays of one shape."""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from functools import lru_cache
from math import prod
from typing import Any, NamedTuple

import numpy as np
from array_api_compat import array_namespace, device
from numpy.typing import NDArray

from xloss_conformance.rounding import numpy_dtype

Array = NDArray[Any]
LABEL_BYTES = 8  # int64, as PyTorch demands them
DISTINCT = 2**21  # logits that are drawn; the rows of more repeat them


@dataclass(frozen=True)
class Work:
    """A call; `features` > 0 is linear_cross_entropy, whose logits (shape) are never given."""

    op: str
    shape: tuple[int, ...]
    gradient: bool = False
    dtype: str = "float32"
    axis: int = -1
    features: int = 0

    @property
    def data(self) -> Work:
        """The call that stands for all on the same arrays: with a gradient and without."""
        return replace(self, op="", gradient=False)

    @property
    def classes(self) -> int:
        return self.shape[self.axis]

    @property
    def rows(self) -> tuple[int, ...]:
        axis = self.axis % len(self.shape)
        return self.shape[:axis] + self.shape[axis + 1 :]

    @property
    def elements(self) -> int:
        return prod(self.shape)

    @property
    def leaves(self) -> int:
        """How many of the first arguments get a gradient."""
        return (2 if self.features else 1) if self.gradient else 0

    @property
    def nbytes(self) -> int:
        """Bytes of the logits, or of what stands in their place: features and weight."""
        size = numpy_dtype(self.dtype).itemsize
        if self.features:
            return (prod(self.rows) + self.classes) * self.features * size
        return self.elements * size

    @property
    def moved(self) -> int:
        """Bytes that every implementation must move: inputs read once, gradients written once."""
        return self.nbytes * (2 if self.gradient else 1) + prod(self.rows) * LABEL_BYTES

    @property
    def name(self) -> str:
        what = "value and gradient" if self.gradient else "value"
        linear = f", {self.features} features" if self.features else ""
        axis = "" if self.axis == -1 else f", axis {self.axis}"
        return f"{self.dtype} {self.shape}{axis}{linear}, {what}"

    def told(self) -> dict[str, Any]:
        """Return it as the record has it."""
        made = {**asdict(self), "name": self.name, "shape": list(self.shape)}
        sizes = ("classes", "elements", "nbytes", "moved")
        return made | {size: getattr(self, size) for size in sizes}


class Data(NamedTuple):
    """Logits and labels; of linear_cross_entropy features, labels and weight."""

    x: Any
    y: Any
    weight: Any = None

    @property
    def arguments(self) -> tuple[Any, ...]:
        """The arguments in the order in which losses take them."""
        return (self.x, self.y) if self.weight is None else (self.x, self.weight, self.y)


@lru_cache(1)
def _drawn(work: Work) -> Data:
    dtype, features = work.dtype, work.features
    rng = np.random.default_rng(0)
    rows = prod(work.rows)
    y = rng.integers(0, work.classes, work.rows)

    def normal(shape: tuple[int, ...], scale: float) -> Array:
        made = rng.standard_normal(shape, dtype=np.float32)
        made *= np.float32(scale)
        return made.astype(numpy_dtype(dtype), copy=False)

    if features:
        x = normal((*work.rows, features), 1.0)
        return Data(x, y, normal((work.classes, features), 3.0 * features**-0.5))
    x = normal((min(rows, max(1, DISTINCT // work.classes)), work.classes), 3.0)
    x[0] = 0
    x[0, y.flat[0]] = 20
    return Data(x, y)


def drawn(work: Work) -> Data:
    """Return some rows of logits, which the others repeat, and all labels.

    Logits are normal, of deviation 3. The first row's label is 20 ahead of all other classes: its
    loss is what log(p) of a rounded p loses. Of a linear layer: features, labels and weight, whole.
    """
    return _drawn(work.data)


def laid_out(work: Work, some: Data) -> Data:
    """Return all arguments of a call, made of what is drawn, on the device where that is."""
    if work.features:
        return some
    xp: Any = array_namespace(some.x)
    count = prod(work.rows)
    at = xp.arange(count, device=device(some.x)) % some.x.shape[0]
    x = xp.reshape(xp.take(some.x, at, axis=0), (*work.rows, work.classes))
    if work.axis != -1:
        x = xp.moveaxis(x, -1, work.axis)
        x = x.contiguous() if hasattr(x, "contiguous") else xp.asarray(x, order="C")
    return Data(x, some.y)
