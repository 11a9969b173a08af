"""What a kernel is called with: addresses and options, in a few records.

The caller passes the records' numbers one by one, ``kernel(like, *rows, *logits, ...)``, and the
kernel puts the records together again by `unpack`. Numba takes named tuples as they are, too, but
finds the type of each in Python code: seven of them add 2 us to a call that costs less than 1.
"""

from __future__ import annotations

from typing import Any, NamedTuple

from ..row_layout import RowLayout


class RowRange(NamedTuple):
    """Which rows a call computes: `rows` of them from row `first` on, of `classes` classes each.

    `first` counts the rows of the logits and of their gradient, which are passed whole. All other
    arrays of rows begin with row `first`.
    """

    first: int
    rows: int
    classes: int


class TargetsIn(NamedTuple):
    """Where the targets and the weights begin, in C order; 0 for an array that is not there.

    Either `soft` or `labels` is there. The label of a row that is absent or has an invalid label is
    any class in range.
    """

    soft: int = 0  # (rows, classes) in the compute dtype
    class_weight: int = 0  # (classes,) in the compute dtype
    labels: int = 0  # (rows,) int64
    row_present: int = 0  # (rows,) bool
    label_invalid: int = 0  # (rows,) bool
    sample_weight: int = 0  # (rows,) float64
    label_weight: int = 0  # (rows,) float64: the class weight at the label


class CotangentIn(NamedTuple):
    """What each row's gradient is multiplied by."""

    each: int = 0  # address of (rows,) float64; 0: the same for all rows
    same: float = 1.0
    no_row_counts: bool = False  # every gradient is 0


class OptionValues(NamedTuple):
    """The options that are numbers; 0 switches each off."""

    label_smoothing: float = 0.0
    z_loss: float = 0.0
    softcap: float = 0.0


class RowsOut(NamedTuple):
    """Where what is computed of a row is written, in C order; 0 for what is not wanted."""

    stats_saved: bool = False  # maxima and tail_sums are read, as an earlier call wrote them
    losses: int = 0  # (rows,) in the compute dtype
    totals: int = 0  # (4,) float64: sum of losses, what rounding lost of it, and so of weights
    maxima: int = 0  # (rows,) in the compute dtype
    tail_sums: int = 0  # (rows,) float64


class ScanIn(NamedTuple):
    """What the second sweep reads of rows and writes, each (rows,) in C order."""

    labels: int = 0  # int64, safe as those of TargetsIn: the classes whose ranks are wanted
    row_present: int = 0  # bool; 0: every row is present
    maxima: int = 0  # in the compute dtype, as RowsOut's
    softcap: float = 0.0
    ranked: bool = False  # False: a rank may be any number but 0 where it is not 0
    gaps: int = 0  # float64, written: Σ exp(z - m) (m - z); 0: not wanted
    ahead: int = 0  # int64, written: the label's rank


# Where each record begins among a kernel's numbers.
_LOGITS = len(RowRange._fields)
_TARGETS = _LOGITS + len(RowLayout._fields)
_COTANGENT = _TARGETS + len(TargetsIn._fields)
_OPTIONS = _COTANGENT + len(CotangentIn._fields)
_OUT = _OPTIONS + len(OptionValues._fields)
_GRADIENT = _OUT + len(RowsOut._fields)


def unpack(numbers: Any) -> Any:
    """Return a kernel's numbers as the records of `_NO_ROWS`; compiled in `algebra`."""
    return (
        RowRange(*numbers[:_LOGITS]),
        RowLayout(*numbers[_LOGITS:_TARGETS]),
        TargetsIn(*numbers[_TARGETS:_COTANGENT]),
        CotangentIn(*numbers[_COTANGENT:_OPTIONS]),
        OptionValues(*numbers[_OPTIONS:_OUT]),
        RowsOut(*numbers[_OUT:_GRADIENT]),
        RowLayout(*numbers[_GRADIENT:]),
    )


# The numbers of a call on no rows: the records of one, in their order.
_NO_ROWS: tuple[Any, ...] = (
    *RowRange(0, 0, 1),
    *RowLayout(),  # of the logits, (all rows, classes) in their storage format
    *TargetsIn(),
    *CotangentIn(),
    *OptionValues(),
    *RowsOut(),
    *RowLayout(),  # of the gradient, stored as the logits are; address 0 where it is not wanted
)
_NO_SCAN: tuple[Any, ...] = (*RowRange(0, 0, 1), *RowLayout(), *ScanIn())
# The kernels by name, each with such numbers.
KERNELS = {
    "rows": _NO_ROWS,
    "columns": _NO_ROWS,
    "scan_rows": _NO_SCAN,
    "scan_columns": _NO_SCAN,
}
