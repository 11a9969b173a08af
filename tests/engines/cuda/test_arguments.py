"""The structures that CUDA kernels take by value are the same in C++ and in Python."""

import re
from pathlib import Path
from typing import get_type_hints

import pytest

import xloss
from xloss.engines.cuda.arguments import (
    CALL,
    SUMS,
    Column,
    RowArguments,
    SumArguments,
    TargetArguments,
    address_words,
    words,
)
from xloss.engines.row_layout import RowLayout

KERNELS = Path(xloss.__file__).parent / "engines" / "cuda" / "kernels"
NESTED = RowLayout, Column, TargetArguments
FORMATS = {"i64": "q", "u64": "Q", "double": "d"}  # u64: an address
RECORDS = [
    ("memory.cuh", "Call", RowArguments, CALL),
    ("totals.cuh", "Sums", SumArguments, SUMS),
]


def declared(file: str, struct: str, prefix: str = "") -> dict[str, str]:
    """Return each word of a C++ structure, and its format."""
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


@pytest.mark.parametrize(("file", "struct", "record", "packed"), RECORDS)
def test_the_fields_are_those_of_the_kernels(file, struct, record, packed):
    assert list(words(record).items()) == list(declared(file, struct).items())
    numbers = iter(range(1, 100))

    def filled(record):
        kinds = get_type_hints(record).values()
        return record(*(filled(k) if k in NESTED else next(numbers) for k in kinds))

    # Each is packed where its name is.
    got = packed.unpack(filled(record).packed())
    assert [int(value) for value in got] == list(range(1, len(words(record)) + 1))


def test_addresses_are_found_in_either_order():
    rows, sums = ([kind == "Q" for kind in words(r[2]).values()] for r in RECORDS)
    for second, kinds in ((CALL.size, rows + sums), (SUMS.size, sums + rows), (CALL.size, rows)):
        want = [n for n, address in enumerate(kinds) if address]
        assert list(address_words(8 * len(kinds), second)) == want
