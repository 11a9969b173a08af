"""Labels, probabilities or weights in a .csv file."""

from __future__ import annotations

import csv
from array import array
from collections.abc import Iterator
from functools import partial
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
    columns: _Columns | None = None
    numbers: array[Any] = array("q")
    blank = 0  # the line of the first blank one, which may only be followed by others
    for row, line in _rows(file):
        if not row:
            blank = blank or line
            continue
        if blank:
            _refuse(file, blank, "is blank, and rows follow; every line must hold a row")
        if columns is None:
            data = _is_data(row)
            columns = _Columns(file, list(map(str, range(len(row)))) if data else row, name)
            if not data:
                continue
        values = columns.numbers(row, line)
        if numbers.typecode == "q" and not all(isinstance(n, int) for n in values):
            numbers = array("d", numbers)
        numbers.extend(values)
    if columns is None:
        raise FileProblem(f"{file}: holds no row")
    return np.asarray(numbers).reshape(-1 if columns.single else (-1, len(columns.chosen)))


class _Columns:
    """The columns of a file that are read."""

    def __init__(self, file: str, names: Row, name: str | None) -> None:
        self.file, self.names = file, [n.strip() for n in names]
        self.single = name is not None or len(names) == 1
        self.chosen = list(range(len(names)))
        if name is not None:
            chosen_name(file, name, self.names, "column")
            self.chosen = [i for i in self.chosen if self.names[i] == name]
            if len(self.chosen) > 1:
                raise FileProblem(f"{file}: {len(self.chosen)} columns are named {name!r}")

    def numbers(self, row: Row, line: int) -> list[Number]:
        """Return what a row holds in these columns."""
        if len(row) != len(self.names):
            _refuse(self.file, line, f"expected {len(self.names)} columns, got {len(row)}")
        values = []
        for i in self.chosen:
            try:
                values.append(_number(row[i]))
            except ValueError:
                shown = row[i][:FIELDS] + ("..." if len(row[i]) > FIELDS else "")
                column = f"column '{shortened(self.names[i])}': " if len(row) > 1 else ""
                hint = ""
                if not self.single:
                    listed = ", ".join(map(shortened, self.names[:8]))
                    hint = f"; pick one column by {self.file}::NAME ({listed})"
                _refuse(self.file, line, f"{column}expected a number, got {shown!r}{hint}")
        return values


def _rows(file: str) -> Iterator[tuple[Row, int]]:
    """Yield each row, and the number of its last line."""
    # Other columns may hold text in any encoding; numbers are ASCII in all of them.
    with open(file, encoding="utf-8-sig", errors="replace", newline="") as f:

        def lines() -> Iterator[str]:
            for number, text in enumerate(iter(partial(f.readline, LONGEST), ""), 1):
                if len(text) == LONGEST:
                    _refuse(file, number, f"is longer than {LONGEST:,} characters")
                yield text

        reader = csv.reader(lines(), strict=True)
        try:
            for row in reader:
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
