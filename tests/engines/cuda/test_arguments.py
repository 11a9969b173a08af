"""The structures that CUDA kernels take by value are the same in C++ and in Python."""

import re
from pathlib import Path
from typing import get_type_hints

import pytest

import xloss
from xloss.engines.cuda.arguments import (
    ADDRESSES,
    CALL,
    SUMS,
    WORD,
    Column,
    RowArguments,
    SumArguments,
    TargetArguments,
    addresses,
    words,
)
from xloss.engines.row_layout import RowLayout

KERNELS = Path(xloss.__file__).parent / "engines" / "cuda" / "kernels"
NESTED = RowLayout, Column, TargetArguments
FORMATS = {"i64": "q", "u64": "q", "double": "d"}
RECORDS = ("memory.cuh", "Call"), ("totals.cuh", "Sums")


def declared(file: str, struct: str, prefix: str = "") -> dict[str, str]:
    """Return each word of a C++ structure, and its type."""
    source = re.sub(r"//.*", "", (KERNELS / file).read_text())
    body = re.search(rf"struct {struct} \{{(.*?)\}};", source, re.S)
    assert body is not None
    found: dict[str, str] = {}
    for kind, names in re.findall(r"(\w+) ([\w, ]+);", body[1]):
        for name in map(str.strip, names.split(",")):
            if kind in FORMATS:
                found[prefix + name] = kind
            else:
                found |= declared("memory.cuh", kind, f"{prefix}{name}.")
    return found


@pytest.mark.parametrize(
    ("file", "struct", "record", "packed"),
    [(*RECORDS[0], RowArguments, CALL), (*RECORDS[1], SumArguments, SUMS)],
)
def test_the_fields_are_those_of_the_kernels(file, struct, record, packed):
    formats = {name: FORMATS[kind] for name, kind in declared(file, struct).items()}
    assert list(words(record).items()) == list(formats.items())
    assert packed.size == WORD * len(words(record))


def test_each_field_is_packed_where_its_name_is():
    numbers = iter(range(1, 100))

    def filled(record):
        kinds = get_type_hints(record).values()
        return record(*(filled(k) if k in NESTED else next(numbers) for k in kinds))

    row = filled(RowArguments)
    got = CALL.unpack(row.packed())
    assert [int(value) for value in got] == list(range(1, len(got) + 1))
    numbers = iter(range(1, 100))
    sums = filled(SumArguments)
    assert [int(v) for v in SUMS.unpack(sums.packed())] == list(range(1, SUMS.size // WORD + 1))


def test_all_addresses_are_known():
    unsigned = {n for r in RECORDS for n, kind in declared(*r).items() if kind == "u64"}
    assert unsigned - {"inner_inverse"} == ADDRESSES  # that one is a number


@pytest.mark.parametrize("rows_first", [True, False])
def test_addresses_are_found_in_either_order(rows_first):
    row = RowArguments(
        8, 5, RowLayout(11), RowLayout(0), TargetArguments(Column(13, 3), 1, 5, 0, *3 * [Column()])
    )._replace(losses=17)
    sums = SumArguments(8, 17, 0, counter=19).packed()
    packed, second = row.packed() + sums, CALL.size
    if not rows_first:
        packed, second = sums + row.packed(), SUMS.size
    found = addresses(packed, second)
    given = [("x.address", 11), ("labels.address", 13), ("losses", 17)]
    added = [("losses", 17), ("counter", 19)]
    assert [each[1:] for each in found] == (given + added if rows_first else added + given)
    for word, _, value in found:
        assert packed[WORD * word : WORD * (word + 1)] == value.to_bytes(WORD, "little")
    assert len(addresses(row.packed(), CALL.size)) == 3
