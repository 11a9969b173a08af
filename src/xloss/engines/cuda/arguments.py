"""What kernels are given by value: `Call` of memory.cuh, field by field.

This record is the one table of the fields. tests/engines/cuda/test_arguments.py holds the C++
against it: a field that differed would make a kernel read one address as another, silently.
"""

from __future__ import annotations

import struct
from math import nan
from typing import Annotated, NamedTuple, TypeAlias, get_type_hints

from ..row_layout import RowLayout

# 0 where an array is not given or not wanted. Calls on other arrays of the same shapes differ in
# these alone; until its launch each is a number that call_arrays.py takes apart.
Address: TypeAlias = Annotated[int, "Q"]
NOWHERE = RowLayout(0, 1, 0, 0, 1)


class Column(NamedTuple):
    """An array of one number a row, or of one for all rows."""

    address: Address = 0
    type: int = 0  # how its numbers are stored, as memory.cuh counts


NOT_GIVEN = Column()


class Arguments(NamedTuple):
    """`Call` of memory.cuh. Arrays are given by address."""

    rows: int
    classes: int
    x: RowLayout
    gradient: RowLayout = NOWHERE
    labels: Column = NOT_GIVEN
    has_ignore: int = 0
    ignore: int = 0
    where: Address = 0
    sample_weight: Column = NOT_GIVEN
    class_weight: Column = NOT_GIVEN
    soft: Column = NOT_GIVEN
    cotangent: Column = NOT_GIVEN
    cotangent_step: int = 0
    row_factor: Address = 0
    any_row_counts: Address = 0
    cotangent_value: float = 1.0
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
    partial: Address = 0
    total_weight: Address = 0
    normalizer: Column = NOT_GIVEN
    divisor: float = nan
    is_mean: int = 0
    loss: Address = 0
    counter: Address = 0
    before_rows: int = 0

    def packed(self) -> bytes:
        """Return the bytes that a kernel reads."""
        fields = (f if isinstance(f, tuple) else (f,) for f in self)
        return FORM.pack(*(number for numbers in fields for number in numbers))


def words(record: type = Arguments, prefix: str = "") -> dict[str, str]:
    """Return the name and the format of each word: "labels.address" is a "Q", an address."""
    found: dict[str, str] = {}
    for name, kind in get_type_hints(record, include_extras=True).items():
        if kind in (RowLayout, Column):
            found |= words(kind, f"{name}.")
        else:
            is_address = kind == Address or name == "address"
            found[prefix + name] = "Q" if is_address else "d" if kind is float else "q"
    return found


FORM = struct.Struct("<" + "".join(words().values()))
ADDRESSES = [n for n, form in enumerate(words().values()) if form == "Q"]
