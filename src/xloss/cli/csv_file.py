"""Labels, probabilities or weights in a .csv file, checked whole and then read block by block."""

from __future__ import annotations

import csv
from collections.abc import Iterator
from typing import Any, NoReturn

import numpy as np
import numpy.typing as npt

from .file_problem import FileProblem, chosen_name, shortened
from .output import one_line, visible

ROWS_PER_MARK = 2**10  # rows between two places in the file where reading can begin
LONGEST = 2**20  # bytes of a line: a file of another kind may have no line end at all
FIELDS = 20  # characters of a field that a message shows
INT64 = (-(2**63), 2**63 - 1)

Block = npt.NDArray[Any]
Row = list[str]
Number = int | float


class CsvFile:
    """Numbers in comma-separated text.

    The first line may name the columns. A file with one column, or one column chosen by its name,
    is an array (rows,); several columns are an array (rows, columns). Only integers make an int64
    array, anything else float64. Opening the file checks every number, so that a bad one is named
    before anything is computed; reading parses a block again, so that no more than a block is held.
    """

    def __init__(self, file: str, name: str | None) -> None:
        self._file = file
        self._marks: list[
            tuple[int, int]
        ] = []  # (byte, line) where every ROWS_PER_MARK-th row begins
        rows, whole = 0, True
        blank = 0  # the line of the first blank one, which may only be followed by others
        header: Row | None = None
        begin, before = 0, 0  # where the next row begins: bytes, and lines before it
        for row, line, end in self._rows(0, 0):
            if not row:
                blank = blank or line
            elif blank:
                self._fail(blank, "is blank, and rows follow; every line must hold a row")
            elif rows == 0 and header is None and not _is_data(row):
                header = row
                self._choose(row, name)
            else:
                if rows == 0 and header is None:
                    self._choose([str(i) for i in range(len(row))], name)
                if rows % ROWS_PER_MARK == 0:
                    self._marks.append((begin, before))
                whole &= all(isinstance(n, int) for n in self._numbers(row, line))
                rows += 1
            begin, before = end, line
        if not rows and header is None:
            raise FileProblem(f"{file}: holds no row")
        self.shape = (rows,) if self._single else (rows, len(self._columns))
        self.dtype = "int64" if whole else "float64"

    def read(self, index: tuple[slice, ...]) -> Block:
        """Return the part at these slices, one an axis."""
        start, stop = index[0].start, index[0].stop
        size = (stop - start, len(self._columns))
        block = np.empty(size, self.dtype)
        if start < stop:
            at = start // ROWS_PER_MARK
            rows = self._rows(*self._marks[at])
            for number in range(at * ROWS_PER_MARK, stop):
                row, line, _ = next(rows, ([], 0, 0))
                if not row:
                    raise FileProblem(f"{self._file}: has become shorter while it was read")
                if number >= start:
                    values = self._numbers(row, line)
                    if self.dtype == "int64" and not all(isinstance(n, int) for n in values):
                        self._fail(line, "has changed while it was read")
                    block[number - start] = values
        return block[:, 0] if self._single else block[:, index[1]]

    def release(self) -> None:
        """Do nothing: no block is held once it has been returned."""

    def _rows(self, byte: int, line: int) -> Iterator[tuple[Row, int, int]]:
        """Yield each row from a place on, the number of its last line, and the byte after it."""
        with open(self._file, "rb") as f:
            f.seek(byte)

            def lines() -> Iterator[str]:
                nonlocal byte, line
                while raw := f.readline(LONGEST):
                    line += 1
                    if len(raw) == LONGEST:
                        self._fail(line, f"is longer than {LONGEST:,} bytes")
                    # Other columns may hold text in any encoding; numbers are ASCII in all of them.
                    text = raw.decode("utf-8", errors="replace")
                    text = text if byte else text.removeprefix("\ufeff")
                    byte += len(raw)
                    yield text

            reader = csv.reader(lines(), strict=True)
            try:
                for row in reader:
                    yield row, line, byte
            except csv.Error as error:
                self._fail(line, one_line(error))

    def _choose(self, names: Row, name: str | None) -> None:
        """Decide which columns are read, from the names that the first line gives them."""
        self._names = names = [n.strip() for n in names]
        self._single = name is not None or len(names) == 1
        if name is None:
            self._columns = list(range(len(names)))
        else:
            chosen_name(self._file, name, names, "column")
            self._columns = [i for i, n in enumerate(names) if n == name]
            if len(self._columns) > 1:
                raise FileProblem(f"{self._file}: {len(self._columns)} columns are named {name!r}")

    def _numbers(self, row: Row, line: int) -> list[Number]:
        if len(row) != len(self._names):
            self._fail(line, f"expected {len(self._names)} columns, got {len(row)}")
        values = []
        for i in self._columns:
            try:
                values.append(_number(row[i]))
            except ValueError:
                shown = visible(row[i][:FIELDS]) + ("..." if len(row[i]) > FIELDS else "")
                column = f"column {shortened(self._names[i])!r}: " if len(row) > 1 else ""
                hint = ""
                if not self._single:
                    listed = ", ".join(map(shortened, self._names[:8]))
                    hint = f"; pick one column by {self._file}::NAME ({listed})"
                self._fail(line, f"{column}expected a number, got {shown!r}{hint}")
        return values

    def _fail(self, line: int, why: str) -> NoReturn:
        raise FileProblem(f"{self._file}: line {line:,}: {why}")


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
