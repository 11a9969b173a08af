"""A case: one call of one loss, why it is in the catalogue, and what must come of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]

DTYPES = ("float32", "float64", "float16", "bfloat16")
FROM_LOGITS = ("cross_entropy", "focal_loss", "entropy")
CLASS = ("cross_entropy", "focal_loss", "nll_loss", "log_loss")  # these take class indices
BINARY = ("binary_cross_entropy_with_logits", "binary_cross_entropy", "sigmoid_focal_loss")
LOSSES = (*CLASS, *BINARY, "kl_div", "entropy", "linear_cross_entropy", "top_k_cross_entropy")
# How the loss's first argument lies in memory, and targets of its shape ("broadcast": not they).
# "readonly" forbids writing to every argument; "swapped" is of the other byte order, "misaligned"
# at an odd address, "filtered" lazy, of rows whose number is found when they are computed.
LAYOUTS = (
    "C",
    "F",
    "reversed",
    "strided",
    "broadcast",
    "readonly",
    "swapped",
    "misaligned",
    "filtered",
)
# Options that are arrays of the inputs' dtype; `where` is one of bools.
FLOATING = ("weight", "class_weight", "sample_weight", "pos_weight", "normalizer")


@dataclass(frozen=True, eq=False)
class Case:
    """Arguments stand in float64 and are rounded to the subject's dtype; labels keep their own."""

    family: str
    label: str  # what tells it from the others of its family
    reason: str  # what breaks here, and in whom
    x: Array  # logits, log-probabilities or probabilities
    targets: Array | None  # class indices (any integer dtype) or floats; None: entropy
    loss: str = "cross_entropy"
    options: Mapping[str, Any] = field(default_factory=dict)  # xloss's names; arrays in float64
    # What is handed over in place of "x" or "targets": an array of any dtype, or no array at all.
    instead: Mapping[str, Any] = field(default_factory=dict)
    upstream: float | Array = 1.0  # multiplies the gradient: a number, or one a row of "none"
    to_targets: bool = False  # the gradient to soft targets is wanted too
    layout: str = "C"
    dtypes: tuple[str, ...] = DTYPES  # those in which the case says something
    error: type[Exception] | None = None  # the call must raise it ...
    names: str = ""  # ... and say this word: the argument at fault
    split: bool = False  # every row alone must give the bits that it gives in the batch
    value_only: bool = False  # no gradient is asked for
    gap: float | None = None  # abscissa of the plot: how far the true class is ahead
    see: tuple[str, ...] = ()  # links: published bugs
    quick: bool = False
    on_demand: bool = False  # too large for every run
    tile: int = 1  # leading axis of 0 stride: the rows stand there so many times

    @property
    def name(self) -> str:
        return f"{self.family}/{self.label}"

    def __str__(self) -> str:
        return self.name

    @property
    def axis(self) -> int:
        return int(self.options.get("axis", -1))

    @property
    def classes(self) -> int:
        """How many classes there are; of a packed argument (see packed.py), the weight's rows."""
        if self.loss == "linear_cross_entropy" and self.targets is not None:
            return len(self.x) - len(self.targets)
        return int(self.x.shape[self.axis])

    @property
    def index(self) -> bool:
        """Whether the targets are class indices."""
        taken = (*CLASS, "linear_cross_entropy")
        return self.targets is not None and self.loss in taken and self.targets.dtype.kind in "iu"


class Stored(NamedTuple):
    """The arguments as NumPy arrays of one dtype, each the caller's own to lay out and to keep."""

    x: Array
    targets: Array | None
    options: dict[str, Any]  # arrays are NumPy's, the rest as in the case
    upstream: float | Array
    dtype: str


def numpy_dtype(name: str) -> np.dtype[Any]:
    """Return NumPy's dtype of that name, bfloat16 included."""
    if name == "bfloat16":
        import ml_dtypes

        return np.dtype(str(np.dtype(ml_dtypes.bfloat16)))
    return np.dtype(name)


def stored(case: Case, dtype: str) -> Stored:
    """Return the arguments of a case, rounded to a dtype."""
    kind = numpy_dtype(dtype)

    def floats(values: Any) -> Array:
        with np.errstate(over="ignore"):
            return np.asarray(values, np.float64).astype(kind)

    targets = case.targets
    if targets is not None:
        targets = floats(targets) if targets.dtype.kind == "f" else targets.copy()
    options = {
        k: floats(v) if k in FLOATING and isinstance(v, np.ndarray) else v
        for k, v in case.options.items()
    }
    x = floats(case.x)
    if case.tile > 1:
        x = np.broadcast_to(x, (case.tile, *x.shape))
        targets = None if targets is None else np.broadcast_to(targets, (case.tile, *targets.shape))
    return Stored(x, targets, options, case.upstream, dtype)
