"""Labels, probabilities or weights in a .csv file."""

from __future__ import annotations

import csv
import warnings
from typing import Any, TextIO

import numpy as np
import numpy.typing as npt

from .file_problem import FileProblem, chosen_name
from .output import one_line

EXACT = 2**53  # up to here a float64 holds every integer


def read_csv(file: str, name: str | None) -> npt.NDArray[Any]:
    """Return the numbers of comma-separated text.

    The first line may name the columns; otherwise they have numbers. A file with one column, or one
    column chosen by its name, is an array (rows,), of int64 if all its numbers are whole; several
    columns are an array (rows, columns) of float64.
    """
    with _opened(file) as f:
        try:
            names = [field.strip() for field in next(csv.reader(f), [])]
        except csv.Error as error:  # of a field longer than any name: a file of another kind
            raise FileProblem(f"{file}: cannot be read: {one_line(error)}") from None
    header = False
    try:
        list(map(float, names))
    except ValueError:
        header = True
    names = names if header else [str(i) for i in range(len(names))]
    column = None if name is None else names.index(chosen_name(file, name, names, "column"))
    try:
        with _opened(file) as f, warnings.catch_warnings(action="ignore"):  # of no data
            found = np.loadtxt(
                f,
                delimiter=",",
                quotechar='"',
                comments=None,
                skiprows=int(header),
                usecols=column,
                ndmin=2,
            )
    except ValueError as error:
        several = column is None and len(names) > 1
        hint = f"; pick one column by {file}::NAME" if several else ""
        raise FileProblem(f"{file}: {one_line(error).rstrip('.')}{hint}") from None
    if name is None and len(names) > 1:
        return found
    numbers = found.reshape(-1)
    whole = (np.abs(numbers) < EXACT) & (numbers == np.rint(numbers))
    return numbers.astype(np.int64) if whole.all() else numbers


def _opened(file: str) -> TextIO:
    # Other columns may hold text in any encoding; numbers are ASCII in all of them.
    return open(file, encoding="utf-8-sig", errors="replace")
