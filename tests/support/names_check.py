"""Runs what docs/names.toml says of a library; every function yields the problems that it finds."""

from __future__ import annotations

import ast
import math
import warnings
from collections.abc import Callable, Iterator
from decimal import Decimal
from typing import Any, NamedTuple

import numpy as np

import xloss
from names_table import Library

UNITS = 4  # in the last place
FLOAT, DOUBLE = 2.0**-23, 2.0**-52
SINGLE = "single precision"
DTYPES = {"f16": "float16", "f32": "float32", "f64": "float64", "i32": "int32", "i64": "int64"}


class Run(NamedTuple):
    """The names that their expressions and ours may use, and the library's backend."""

    theirs: dict[str, Any]
    ours: dict[str, Any]
    variant: str = ""

    def peer(self, expression: str) -> Any:
        """Evaluate theirs, whose own warnings are ignored."""
        return evaluated(expression, self.theirs, "ignore")

    def mine(self, expression: str) -> Any:
        """Evaluate ours, whose warnings are errors."""
        return evaluated(expression, self.ours, "error")

    def applies(self, situation: str) -> bool:
        """Tell whether a difference is this backend's: "dtype on torch" is torch's alone."""
        _, on, backends = situation.partition(" on ")
        return not on or self.variant in backends.split(" and ")


def namespace(
    arrays: dict[str, Any], make: Callable[[Any], Any], modules: dict[str, Any]
) -> dict[str, Any]:
    """Return what the expressions of one library may name."""
    constructors = {
        short: lambda values, dtype=dtype: make(np.asarray(values, dtype=dtype))
        for short, dtype in DTYPES.items()
    }
    return {
        **modules,
        **{name: getattr(xloss, name) for name in xloss.__all__},
        **constructors,
        **{name: make(x) for name, x in arrays.items()},
        **{"np": np, "inf": math.inf, "nan": math.nan},
        "dtype": lambda x: str(getattr(x.dtype, "name", x.dtype)).removeprefix("torch."),
    }


def evaluated(expression: str, names: dict[str, Any], on_warning: Any) -> Any:
    """Return an array, a text, or the exception that was raised."""
    try:
        with warnings.catch_warnings(), np.errstate(all="ignore"):
            warnings.simplefilter(on_warning)
            x = eval(expression, dict(names))
        for leave in ("detach", "numpy"):
            x = getattr(x, leave)() if hasattr(x, leave) else x
        return x if isinstance(x, str) else np.asarray(x)
    except Exception as error:
        return error


def calls(library: Library, run: Run) -> Iterator[str]:
    """Run every call: shapes equal, and numbers to a few units in the last place.

    Where a library computes in single precision, in float32's last place; the table must need to
    say so.
    """
    known = {d.situation for d in library.differences}
    named = {name for call in library.calls for name in call.situations}
    yield from (f"no example of the difference {name!r}" for name in named - known)
    yield from (f"no call names the difference {name!r}" for name in known - named)
    for call in library.calls:
        single = [n for n in call.situations if n.startswith(SINGLE) and run.applies(n)]
        mine = run.mine(call.ours)
        for expression in call.peers:
            peer = run.peer(expression)
            problem = unequal(peer, mine, FLOAT if single else DOUBLE)
            if single and not problem and not unequal(peer, mine, DOUBLE):
                problem = f"agree in double precision: no need for {single[0]!r}"
            if problem:
                yield f"{expression} and {call.ours}: {problem}"


def unequal(peer: Any, mine: Any, ulp: float) -> str:
    """Say in what two results differ; "" where they agree.

    All inputs are of order 1 and at most 12 numbers are summed. Units are those of 1, or of the
    result where it is larger; every call has been seen to agree within one of them.
    """
    for got in (peer, mine):
        if isinstance(got, Exception):
            return f"{type(got).__name__}: {got}"
    if peer.shape != mine.shape:
        return f"shapes {peer.shape} and {mine.shape}"
    if peer.dtype != mine.dtype and not (ulp > DOUBLE and mine.dtype == np.float64):
        return f"dtypes {peer.dtype} and {mine.dtype}"
    with np.errstate(all="ignore"):
        close = np.abs(peer - mine) <= UNITS * ulp * np.maximum(1.0, np.abs(peer))
    return "" if np.all(close) else f"{peer.tolist()} and {mine.tolist()}"


def differences(library: Library, run: Run) -> Iterator[str]:
    """Run the example of each difference: both results are as stated, and are not the same."""
    for d in filter(lambda d: run.applies(d.situation), library.differences):
        for expression, gives, got in (
            (d.peer, d.peer_gives, run.peer(d.peer)),
            (d.ours, d.ours_gives, run.mine(d.ours)),
        ):
            if not as_stated(got, gives):
                yield f"{d.situation}: {expression} gives {got!r}, not {gives}"
        if d.peer_gives == d.ours_gives:
            yield f"{d.situation}: no difference"


def as_stated(got: Any, gives: str) -> bool:
    """Tell whether a result is the stated one: to the digits written, 0, inf and nan exactly.

    An exception is stated by its type, a text in quotes.
    """
    if isinstance(got, Exception):
        return type(got).__name__ == gives
    if isinstance(got, str):
        return gives[0] in "\"'" and ast.literal_eval(gives) == got
    try:
        got, stated = float(got), Decimal(gives)
    except (ValueError, ArithmeticError):
        return False
    if not stated.is_finite() or stated == 0:
        return got == stated or (math.isnan(got) and stated.is_nan())
    # The last digit is rounded from float32 on one machine: one unit of it either way.
    unit = 10.0 ** int(stated.as_tuple().exponent)
    return math.isfinite(got) and abs(got - float(stated)) <= 1.0001 * unit


def names(library: Library, listed: set[str], resolve: Callable[[str], Any]) -> Iterator[str]:
    """Compare the names in the table with those that the library lists."""
    yield from (f"{name} is in no line" for name in sorted(listed - library.names))
    for row in (*library.not_offered, *library.outside):
        for name in row.names:  # a call that runs shows that its names exist
            try:
                resolve(name)
            except (AttributeError, KeyError):
                yield f"the library has no {name}"
