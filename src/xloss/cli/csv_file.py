"""Labels, probabilities or weights in a .csv file."""

from __future__ import annotations

import csv
from array import array
from collections.abc import Iterator
from functools import partial
from itertools import chain
from typing import Any, NoReturn

import numpy as np
import numpy.typing as npt

from .file_problem import FileProblem, chosen_name, shortened
from .output import one_line

LONGEST = 2**20  # characters of a line: a file of another kind may have no line end at all
FIELDS = 20  # characters of a field that a message shows
INT64 = (-(2**63), 2**63 - 1)

Row = list[str]
Number = int | float


def read_csv(file: str, name: str | None) -> npt.NDArray[Any]:
    """Return the numbers of comma-separated text.

    The first line may name the columns. A file with one column, or one column chosen by its name,
    is an array (rows,); several columns are an array (rows, columns). Only integers make an int64
    array, anything else float64.
    """
    rows = _rows(file)
    first = next(rows, None)
    if first is None:
        raise FileProblem(f"{file}: holds no row")
    if _is_data(first[0]):
        names, rows = list(map(str, range(len(first[0])))), chain([first], rows)
    else:
        names = [n.strip() for n in first[0]]
    chosen = _chosen(file, name, names)
    single = name is not None or len(names) == 1
    numbers: array[Any] = array("q")
    for row, line in rows:
        if len(row) != len(names):
            _refuse(file, line, f"expected {len(names)} columns, got {len(row)}")
        for i in chosen:
            try:
                number = _number(row[i])
            except ValueError:
                shown = row[i][:FIELDS] + ("..." if len(row[i]) > FIELDS else "")
                column = f"column '{shortened(names[i])}': " if len(row) > 1 else ""
                listed = ", ".join(map(shortened, names[:8]))
                hint = "" if single else f"; pick one column by {file}::NAME ({listed})"
                _refuse(file, line, f"{column}expected a number, got {shown!r}{hint}")
            if isinstance(number, float) and numbers.typecode == "q":
                numbers = array("d", numbers)
            numbers.append(number)
    return np.asarray(numbers).reshape(-1 if single else (-1, len(chosen)))


def _chosen(file: str, name: str | None, names: Row) -> list[int]:
    """Return the numbers of the columns that are read: all of them, or the one of a name."""
    if name is None:
        return list(range(len(names)))
    chosen_name(file, name, names, "column")
    if names.count(name) > 1:
        raise FileProblem(f"{file}: {names.count(name)} columns are named {name!r}")
    return [names.index(name)]


def _rows(file: str) -> Iterator[tuple[Row, int]]:
    """Yield each row, and the number of its last line; blank lines may only stand at the end."""
    # Other columns may hold text in any encoding; numbers are ASCII in all of them.
    with open(file, encoding="utf-8-sig", errors="replace", newline="") as f:

        def lines() -> Iterator[str]:
            for number, text in enumerate(iter(partial(f.readline, LONGEST), ""), 1):
                if len(text) == LONGEST:
                    _refuse(file, number, f"is longer than {LONGEST:,} characters")
                yield text

        reader = csv.reader(lines(), strict=True)
        blank = 0
        try:
            for row in reader:
                if not row:
                    blank = blank or reader.line_num
                elif blank:
                    _refuse(file, blank, "is blank, and rows follow; every line must hold a row")
                else:
                    yield row, reader.line_num
        except csv.Error as error:
            _refuse(file, reader.line_num, one_line(error))


def _refuse(file: str, line: int, why: str) -> NoReturn:
    raise FileProblem(f"{file}: line {line:,}: {why}")


def _is_data(row: Row) -> bool:
    """Tell whether a first row is data: in a header at least one field is not a number."""
    try:
        for field in row:
            _number(field)
    except ValueError:
        return False
    return True


def _number(field: str) -> Number:
    """Return an int or a float; Python's own parsers also take `1_000` and digits of any script."""
    if "_" in field or not field.isascii():
        raise ValueError
    try:
        whole = int(field)
    except ValueError:
        return float(field)
    if not INT64[0] <= whole <= INT64[1]:
        raise ValueError
    return whole
