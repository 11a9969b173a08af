"""The structure that CUDA kernels take by value is the same in C++ and in Python."""

import re
from pathlib import Path
from typing import get_type_hints

import xloss
from xloss.engines.cuda.arguments import FORM, Arguments, Column, words
from xloss.engines.row_layout import RowLayout

KERNELS = Path(xloss.__file__).parent / "engines" / "cuda" / "kernels"
FORMATS = {"i64": "q", "u64": "Q", "double": "d"}  # u64: an address


def declared(struct: str, prefix: str = "") -> dict[str, str]:
    """Return each word of a C++ structure, and its format."""
    source = re.sub(r"//.*", "", (KERNELS / "memory.cuh").read_text())
    body = re.search(rf"struct {struct} \{{(.*?)\}};", source, re.S)
    assert body is not None
    found: dict[str, str] = {}
    for kind, names in re.findall(r"(\w+) ([\w, ]+);", body[1]):
        for name in map(str.strip, names.split(",")):
            if kind in FORMATS:
                found[prefix + name] = FORMATS[kind]
            else:
                found |= declared(kind, f"{prefix}{name}.")
    return found


def test_the_fields_are_those_of_the_kernels():
    assert list(words().items()) == list(declared("Call").items())
    numbers = iter(range(1, 100))

    def filled(record):
        kinds = get_type_hints(record).values()
        return record(*(filled(k) if k in (RowLayout, Column) else next(numbers) for k in kinds))

    # Each is packed where its name is.
    got = FORM.unpack(filled(Arguments).packed())
    assert [int(value) for value in got] == list(range(1, len(words()) + 1))
