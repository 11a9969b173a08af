"""What kernels are given by value: `Call` of memory.cuh and `Sums` of totals.cuh, field by field.

These records are the one table of the fields. tests/engines/cuda/test_arguments.py holds the C++
against them: a field that differed would make a kernel read one address as another, silently.
"""

from __future__ import annotations

import struct
from functools import cache
from math import nan
from typing import Annotated, NamedTuple, TypeAlias, get_type_hints

from ..row_layout import RowLayout

# 0 where an array is not given or not wanted. Calls on other arrays of the same shapes differ in
# these alone; until its launch each is a number that call_arrays.py takes apart.
Address: TypeAlias = Annotated[int, "Q"]
NOWHERE = RowLayout(0, 1, 0, 0, 1)
WORD = 8  # bytes of every field, of every number in a place or column


class Column(NamedTuple):
    """An array of one number a row, or of one for all rows."""

    address: Address = 0
    type: int = 0  # how its numbers are stored, as memory.cuh counts


NOT_GIVEN = Column()


class TargetArguments(NamedTuple):
    """The fields of `RowArguments` that say what targets and weights a call has."""

    labels: Column
    has_ignore: int
    ignore: int
    where: Address
    sample_weight: Column
    class_weight: Column
    soft: Column


class RowArguments(NamedTuple):
    """`Call` of memory.cuh: a launch that computes rows. Arrays are given by address."""

    rows: int
    classes: int
    x: RowLayout
    gradient: RowLayout
    targets: TargetArguments
    cotangent: Column = NOT_GIVEN
    cotangent_step: int = 0
    row_factor: Address = 0
    any_row_counts: Address = 0
    cotangent_value: float = 0.0
    label_smoothing: float = 0.0
    z_loss: float = 0.0
    softcap: float = 0.0
    losses: Address = 0
    weights: Address = 0
    maxima: Address = 0
    tail_sums: Address = 0
    given_statistics: int = 0
    work: Address = 0
    inner_inverse: int = 0

    def packed(self) -> bytes:
        """Return the bytes that the kernel reads."""
        t = self.targets
        targets = *t.labels, *t[1:4], *t.sample_weight, *t.class_weight, *t.soft
        arrays = *self.x, *self.gradient, *targets, *self.cotangent
        return CALL.pack(*self[:2], *arrays, *self[6:])


class SumArguments(NamedTuple):
    """`Sums` of totals.cuh: what is added up, and where the results go."""

    rows: int
    losses: Address
    weights: Address
    partial: Address = 0
    adds_partial_sums: int = 0
    finishes: int = 1
    weight: Address = 0
    normalizer: Column = NOT_GIVEN
    divisor: float = nan
    is_mean: int = 0
    loss: Address = 0
    total: Address = 0
    total_weight: Address = 0
    row_factor: Address = 0
    counter: Address = 0
    before_rows: int = 0

    def packed(self) -> bytes:
        """Return the bytes that the kernel reads."""
        return SUMS.pack(*self[:7], *self.normalizer, *self[8:])


def words(record: type, prefix: str = "") -> dict[str, str]:
    """Return the name and the format of each word: "labels.address" is a "Q", an address."""
    found: dict[str, str] = {}
    for name, kind in get_type_hints(record, include_extras=True).items():
        if kind is TargetArguments:
            found |= words(kind, prefix)
        elif kind in (RowLayout, Column):
            found |= words(kind, f"{prefix}{name}.")
        else:
            is_address = kind == Address or (record is RowLayout and name == "address")
            found[prefix + name] = "Q" if is_address else "d" if kind is float else "q"
    return found


CALL = struct.Struct("<" + "".join(words(RowArguments).values()))
SUMS = struct.Struct("<" + "".join(words(SumArguments).values()))


@cache
def address_words(size: int, second: int) -> tuple[int, ...]:
    """Return which words of a launch's parameters, so many bytes, hold addresses.

    second: where the second of two structures begins, which tells which of the two it is.
    """
    kinds = [record.format[1:] for record in (CALL, SUMS)]
    if second != CALL.size:
        kinds.reverse()
    return tuple(n for n, kind in enumerate("".join(kinds)[: size // WORD]) if kind == "Q")
