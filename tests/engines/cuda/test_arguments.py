"""The structures that CUDA kernels take by value are the same in C++ and in Python."""

import re
from pathlib import Path
from typing import get_type_hints

import pytest

import xloss
from xloss.engines.cuda.arguments import (
    CALL,
    SUMS,
    WORD,
    Column,
    RowArguments,
    SumArguments,
    TargetArguments,
    row_word,
    words,
)
from xloss.engines.row_layout import RowLayout

KERNELS = Path(xloss.__file__).parent / "engines" / "cuda" / "kernels"
NESTED = RowLayout, Column, TargetArguments
FORMATS = {"i64": "q", "u64": "q", "double": "d"}


def declared(file: str, struct: str, prefix: str = "") -> dict[str, str]:
    """Return each word of a C++ structure, and its format as Python's struct module names it."""
    source = re.sub(r"//.*", "", (KERNELS / file).read_text())
    body = re.search(rf"struct {struct} \{{(.*?)\}};", source, re.S)
    assert body is not None
    found: dict[str, str] = {}
    for kind, names in re.findall(r"(\w+) ([\w, ]+);", body[1]):
        for name in map(str.strip, names.split(",")):
            if kind in FORMATS:
                found[prefix + name] = FORMATS[kind]
            else:
                found |= declared("memory.cuh", kind, f"{prefix}{name}.")
    return found


@pytest.mark.parametrize(
    ("file", "struct", "record", "packed"),
    [("memory.cuh", "Call", RowArguments, CALL), ("totals.cuh", "Sums", SumArguments, SUMS)],
)
def test_the_fields_are_those_of_the_kernels(file, struct, record, packed):
    assert list(words(record).items()) == list(declared(file, struct).items())
    assert packed.size == WORD * len(words(record))


def test_each_field_is_packed_where_its_name_is():
    numbers = iter(range(1, 100))

    def filled(record):
        kinds = get_type_hints(record).values()
        return record(*(filled(k) if k in NESTED else next(numbers) for k in kinds))

    row = filled(RowArguments)
    got = CALL.unpack(row.packed())
    assert [int(value) for value in got] == list(range(1, len(got) + 1))
    assert got[row_word("labels.address")] == row.targets.labels.address
    assert got[row_word("row_factor")] == row.row_factor
    assert got[row_word("tail_sums")] == row.tail_sums
    numbers = iter(range(1, 100))
    sums = filled(SumArguments)
    assert [int(v) for v in SUMS.unpack(sums.packed())] == list(range(1, SUMS.size // WORD + 1))
