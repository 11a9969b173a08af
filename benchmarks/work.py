"""What is timed: one call of one loss on arrays of one shape."""

from __future__ import annotations

from dataclasses import dataclass
from math import prod
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]
LABEL_BYTES = 8  # int64, as PyTorch demands them


def numpy_dtype(name: str) -> np.dtype[Any]:
    """Return NumPy's dtype of that name, bfloat16 included."""
    if name == "bfloat16":
        import ml_dtypes

        return np.dtype(str(np.dtype(ml_dtypes.bfloat16)))
    return np.dtype(name)


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
        return {
            "op": self.op,
            "name": self.name,
            "shape": list(self.shape),
            "dtype": self.dtype,
            "axis": self.axis,
            "gradient": self.gradient,
            "features": self.features,
            "classes": self.classes,
            "elements": self.elements,
            "nbytes": self.nbytes,
            "moved": self.moved,
        }


class Data(NamedTuple):
    """Logits and labels; of linear_cross_entropy features, labels and weight."""

    x: Any
    y: Any
    weight: Any = None

    @property
    def arguments(self) -> tuple[Any, ...]:
        """The arguments in the order in which losses take them."""
        return (self.x, self.y) if self.weight is None else (self.x, self.weight, self.y)


def data(work: Work) -> Data:
    """Return the arguments of a call: normal logits of deviation 3, any label."""
    rng = np.random.default_rng(0)

    def normal(shape: tuple[int, ...], scale: float) -> Array:
        made = rng.standard_normal(shape, dtype=np.float32)
        made *= np.float32(scale)
        return made.astype(numpy_dtype(work.dtype), copy=False)

    y = rng.integers(0, work.classes, work.rows)
    if work.features:
        x = normal((*work.rows, work.features), 1.0)
        return Data(x, y, normal((work.classes, work.features), 3.0 * work.features**-0.5))
    return Data(normal(work.shape, 3.0), y)
