"""Runs the lines of docs/names.md and compares; every function returns the problems it found."""

from __future__ import annotations

import ast
import math
import warnings
from collections.abc import Callable
from typing import Any

import numpy as np

import xloss
from names_table import Difference, Library

UNITS = 4  # in the last place
FLOAT, DOUBLE = 2.0**-23, 2.0**-52
SINGLE = "single precision"
DTYPES = {"f16": "float16", "f32": "float32", "f64": "float64", "i32": "int32", "i64": "int64"}


def namespace(
    arrays: dict[str, Any], make: Callable[[Any], Any], modules: dict[str, Any]
) -> dict[str, Any]:
    """Return what the expressions of one library may name."""
    constructors = {
        short: lambda values, dtype=dtype: make(np.asarray(values, dtype=dtype))
        for short, dtype in DTYPES.items()
    }
    public = {name: getattr(xloss, name) for name in xloss.__all__}
    return {
        **modules,
        **public,
        **constructors,
        **{name: make(x) for name, x in arrays.items()},
        "np": np,
        "inf": math.inf,
        "nan": math.nan,
        "dtype": lambda x: str(getattr(x.dtype, "name", x.dtype)).removeprefix("torch."),
    }


def host(x: Any) -> Any:
    """Return a result as a NumPy array."""
    for leave in ("detach", "numpy"):
        x = getattr(x, leave)() if hasattr(x, leave) else x
    return np.asarray(x)


def run(expression: str, names: dict[str, Any], *, quiet: bool) -> Any:
    """Evaluate; with `quiet` the library's own warnings are ignored, else they are errors."""
    with warnings.catch_warnings(), np.errstate(all="ignore"):
        warnings.simplefilter("ignore" if quiet else "error")
        return eval(expression, dict(names))


def applies(name: str, variant: str) -> bool:
    """Tell whether a difference is this backend's: "dtype on torch" is torch's alone."""
    _, on, backends = name.partition(" on ")
    return not on or variant in backends.split(" and ")


def lines(
    library: Library, theirs: dict[str, Any], ours: dict[str, Any], variant: str = ""
) -> list[str]:
    """Run every line: shapes equal, and numbers to a few units in the last place.

    Where the line says that the library computes in single precision, in float32's last place; it
    must then be needed.
    """
    found = []
    known = {d.name for d in library.differences}
    for line in library.lines:
        found += [
            f"line {line.at}: no example of the difference {name!r}"
            for name in line.differs
            if name not in known
        ]
        if line.ours is None:
            continue
        try:
            mine = host(run(line.ours, ours, quiet=False))
        except Exception as error:
            found.append(f"line {line.at}: {line.ours}: {type(error).__name__}: {error}")
            continue
        single = [n for n in line.differs if n.startswith(SINGLE) and applies(n, variant)]
        for peer in line.peers:
            try:
                got = host(run(peer, theirs, quiet=True))
            except Exception as error:
                found.append(f"line {line.at}: {peer}: {type(error).__name__}: {error}")
                continue
            problem = unequal(got, mine, FLOAT if single else DOUBLE)
            if single and not problem and not unequal(got, mine, DOUBLE):
                problem = f"agree in double precision: no need for {single[0]!r}"
            if problem:
                found.append(f"line {line.at}: {peer} and {line.ours}: {problem}")
    named = {name for line in library.lines for name in line.differs}
    found += [
        f"line {d.at}: no line names the difference {d.name!r}"
        for d in library.differences
        if d.name not in named
    ]
    return found


def unequal(peer: Any, mine: Any, ulp: float) -> str:
    """Say in what two results differ; "" where they agree.

    All inputs are of order 1 and at most 12 numbers are summed. Units are those of 1, or of the
    result where it is larger; every line has been seen to agree within one of them.
    """
    if peer.shape != mine.shape:
        return f"shapes {peer.shape} and {mine.shape}"
    if peer.dtype != mine.dtype and not (ulp > DOUBLE and mine.dtype == np.float64):
        return f"dtypes {peer.dtype} and {mine.dtype}"
    with np.errstate(all="ignore"):
        close = np.abs(peer - mine) <= UNITS * ulp * np.maximum(1.0, np.abs(peer))
    return "" if np.all(close) else f"{peer.tolist()} and {mine.tolist()}"


def differences(
    library: Library, theirs: dict[str, Any], ours: dict[str, Any], variant: str = ""
) -> list[str]:
    """Run the example of each difference: both results are as stated, and are not the same."""
    found = []
    for d in library.differences:
        if not applies(d.name, variant):
            continue
        found += _stated(d, d.peer, d.peer_gives, theirs, quiet=True)
        found += _stated(d, d.ours, d.ours_gives, ours, quiet=False)
        if d.peer_gives == d.ours_gives:
            found.append(f"line {d.at}: {d.name}: no difference")
    return found


def _stated(
    d: Difference, expression: str, gives: str, names: dict[str, Any], *, quiet: bool
) -> list[str]:
    try:
        got = run(expression, names, quiet=quiet)
        got = got if isinstance(got, str) else float(host(got))
    except Exception as error:
        got = error
    if as_stated(got, gives):
        return []
    return [f"line {d.at}: {d.name}: {expression} gives {got!r}, not {gives}"]


def as_stated(got: Any, gives: str) -> bool:
    """Tell whether a result is the stated one: to the digits written, 0, inf and nan exactly.

    An exception is stated by its type, a text in quotes.
    """
    if isinstance(got, Exception):
        return type(got).__name__ == gives
    if isinstance(got, str):
        return gives[0] in "\"'" and ast.literal_eval(gives) == got
    try:
        stated = float(gives)
    except ValueError:
        return False
    if math.isnan(stated) or math.isinf(stated) or stated == 0:
        return got == stated or (math.isnan(got) and math.isnan(stated))
    digits = len(gives.lstrip("-").split("e")[0].replace(".", "").lstrip("0"))
    # The last digit is rounded from float32 on one machine: one unit of it either way.
    return math.isfinite(got) and abs(got - stated) <= 1.0001 * 10.0 ** (
        math.floor(math.log10(abs(stated))) - digits + 1
    )


def names(library: Library, listed: dict[str, Any], resolve: Callable[[str], Any]) -> list[str]:
    """Compare the names in the tables with those that the library lists."""
    mentioned = library.names()
    found = [f"{name} is in no line" for name in sorted(listed.keys() - mentioned)]
    for line in (*library.lines, *library.outside):
        if line.ours is not None:
            continue  # a line that runs shows that its names exist
        for name in line.peers:
            try:
                resolve(name)
            except (AttributeError, KeyError):
                found.append(f"line {line.at}: the library has no {name}")
    return found
