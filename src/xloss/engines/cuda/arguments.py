"""What kernels are given by value: `Call` of memory.cuh and `Sums` of totals.cuh, field by field.

These records are the one table of the fields. tests/engines/cuda/test_arguments.py holds the C++
against them: a field that differed would make a kernel read one address as another, silently.
"""

from __future__ import annotations

import struct
from math import nan
from typing import NamedTuple, get_type_hints

from ..row_layout import RowLayout

NOWHERE = RowLayout(0, 1, 0, 0, 1)  # address 0: an array that is not wanted
WORD = 8  # bytes of every field, of every number in a place or column


class Column(NamedTuple):
    """An array of one number a row, or of one for all rows."""

    address: int = 0  # 0: not given
    type: int = 0  # how its numbers are stored, as memory.cuh counts


NOT_GIVEN = Column()


class TargetArguments(NamedTuple):
    """The fields of `RowArguments` that say what targets and weights a call has."""

    labels: Column
    has_ignore: int
    ignore: int
    where: int
    sample_weight: Column
    class_weight: Column
    soft: Column

    def words(self) -> tuple[int, ...]:
        """Return the fields word by word."""
        return (
            *self.labels,
            self.has_ignore,
            self.ignore,
            self.where,
            *self.sample_weight,
            *self.class_weight,
            *self.soft,
        )


class RowArguments(NamedTuple):
    """`Call` of memory.cuh: a launch that computes rows. Arrays are given by address."""

    rows: int
    classes: int
    x: RowLayout
    gradient: RowLayout
    targets: TargetArguments
    cotangent: Column = NOT_GIVEN
    cotangent_step: int = 0
    row_factor: int = 0
    any_row_counts: int = 0
    cotangent_value: float = 0.0
    label_smoothing: float = 0.0
    z_loss: float = 0.0
    softcap: float = 0.0
    losses: int = 0
    weights: int = 0
    maxima: int = 0
    tail_sums: int = 0
    given_statistics: int = 0
    work: int = 0
    inner_inverse: int = 0

    def packed(self) -> bytes:
        """Return the bytes that the kernel reads."""
        arrays = *self.x, *self.gradient, *self.targets.words(), *self.cotangent
        return CALL.pack(*self[:2], *arrays, *self[6:])


class SumArguments(NamedTuple):
    """`Sums` of totals.cuh: what is added up, and where the results go."""

    rows: int
    losses: int
    weights: int
    partial: int = 0
    adds_partial_sums: int = 0
    finishes: int = 1
    weight: int = 0
    normalizer: Column = NOT_GIVEN
    divisor: float = nan
    is_mean: int = 0
    loss: int = 0
    total: int = 0
    total_weight: int = 0
    row_factor: int = 0
    counter: int = 0
    before_rows: int = 0

    def packed(self) -> bytes:
        """Return the bytes that the kernel reads."""
        return SUMS.pack(*self[:7], *self.normalizer, *self[8:])


def words(record: type, prefix: str = "") -> dict[str, str]:
    """Return the name and the format of each word: "labels.address" is a "q", a 64-bit integer."""
    found: dict[str, str] = {}
    for name, kind in get_type_hints(record).items():
        if kind is TargetArguments:
            found |= words(kind, prefix)
        elif kind in (RowLayout, Column):
            found |= words(kind, f"{prefix}{name}.")
        else:
            found[prefix + name] = "d" if kind is float else "q"
    return found


CALL = struct.Struct("<" + "".join(words(RowArguments).values()))
SUMS = struct.Struct("<" + "".join(words(SumArguments).values()))
_CALL_WORDS, _SUMS_WORDS = tuple(words(RowArguments)), tuple(words(SumArguments))
# The words that hold addresses: of these alone, calls on other arrays of the same shapes differ.
ADDRESSES = frozenset(
    (
        *("x.address", "gradient.address", "labels.address", "cotangent.address", "where"),
        *("sample_weight.address", "class_weight.address", "soft.address", "normalizer.address"),
        *("row_factor", "any_row_counts", "losses", "weights", "maxima", "tail_sums", "work"),
        *("partial", "weight", "loss", "total", "total_weight", "counter"),
    )
)


def addresses(packed: bytes, second: int) -> list[tuple[int, str, int]]:
    """Return where each address that is given lies among a launch's words, its name and itself.

    second: where the second of two structures begins, which tells which of the two it is.
    """
    names = _CALL_WORDS + _SUMS_WORDS if second == CALL.size else _SUMS_WORDS + _CALL_WORDS
    found = struct.unpack(f"<{len(packed) // WORD}Q", packed)
    return [
        (word, name, value)
        for word, (name, value) in enumerate(zip(names, found, strict=False))
        if name in ADDRESSES and value
    ]
