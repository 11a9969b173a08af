"""Runs what docs/names.toml says of a library.

    python tests/support/names_check.py Keras jax

runs the table of one of them, on one backend, in a process of its own (Keras' backend and double
precision are switches of the whole process) and prints the problems found and the names that it
lists, as JSON.
"""

from __future__ import annotations

import ast
import importlib
import importlib.util
import json
import math
import os
import re
import sys
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from decimal import Decimal
from functools import partial
from operator import attrgetter
from pkgutil import resolve_name
from typing import Any

import numpy as np

import names_table
import xloss
from names_table import Library
from xloss_conformance.libraries import array_library

UNITS = 4  # in the last place
FLOAT, DOUBLE = 2.0**-23, 2.0**-52
SINGLE = "single precision"
DTYPES = {"f16": "float16", "f32": "float32", "f64": "float64", "i32": "int32", "i64": "int64"}
FAMILY = r"(?i)loss|entropy|(^|_)kl_|kldiv|softmax|softmin|logsumexp|one_hot|(^|_)entr$"

# An expression's value, of theirs or of ours.
Evaluate = Callable[[str], Any]


def missing(library: Library, backend: str) -> list[str]:
    """Return the top-level packages that are not installed."""
    packages = {re.split("[.:]", name)[0] for name in (*library.modules.values(), backend)}
    return sorted(p for p in packages if importlib.util.find_spec(p) is None)


def problems(text: str, name: str, backend: str) -> tuple[list[str], list[str]]:
    """Run what the table says of a library; return the problems and the names it must hold."""
    intro, libraries = names_table.read(text)
    library = libraries[name]
    made: dict[str, Any] = {}
    exec(names_table.inputs(intro), made)
    arrays = {k: v for k, v in made.items() if isinstance(v, np.ndarray)}
    own = backend if (name, backend) != ("Keras", "tensorflow") else "numpy"
    # Theirs warn: deprecated names are named in the table.
    with warnings.catch_warnings(action="ignore"), double_precision(library, backend):
        modules = {name: resolve_name(path) for name, path in library.modules.items()}
        listed = members(library, modules)
        # Their own warnings are ignored; ours are errors.
        theirs = partial(evaluated, namespace(arrays, backend, modules), "ignore")
        ours = partial(evaluated, namespace(arrays, own, modules), "error")
        found = [
            *names(library, listed, modules),
            *calls(library, theirs, ours, backend),
            *differences(library, theirs, ours, backend),
        ]
    return found, sorted(listed)


@contextmanager
def double_precision(library: Library, backend: str) -> Iterator[None]:
    """Have double precision, on this backend."""
    if "keras" in library.modules:
        os.environ["KERAS_BACKEND"] = backend
        importlib.import_module("keras").config.set_floatx("float64")
    if backend == "jax":
        import jax

        with jax.enable_x64(True), jax.default_device(jax.devices("cpu")[0]):
            yield
    else:
        yield


def resolve(name: str, modules: dict[str, Any]) -> Any:
    """Return the object of a dotted name; AttributeError or KeyError where there is none."""
    first, _, rest = name.partition(".")
    return attrgetter(rest)(modules[first]) if rest else modules[first]


def members(library: Library, modules: dict[str, Any]) -> set[str]:
    """Return the names that the table must hold: of one object the first name only."""
    found: set[str] = set()
    elsewhere = [v for name in library.also for v in vars(resolve(name, modules)).values()]
    seen = {id(v) for v in elsewhere if callable(v)}
    for holder, pattern in library.listed.items():
        module, wanted = resolve(holder, modules), pattern.replace("family", FAMILY)
        fitting = [n for n in dir(module) if not n.startswith("_") and re.search(wanted, n)]
        values = {f"{holder}.{n}": getattr(module, n) for n in fitting}
        new = {n: v for n, v in values.items() if callable(v) and id(v) not in seen}
        found |= new.keys()
        seen |= {id(v) for v in new.values()}
    return found


def namespace(arrays: dict[str, Any], backend: str, modules: dict[str, Any]) -> dict[str, Any]:
    """Return what the expressions of one library may name."""
    make = array_library(backend).array
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


def evaluated(names: dict[str, Any], on_warning: Any, expression: str) -> Any:
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


def applies(situation: str, backend: str) -> bool:
    """Tell whether a difference is this backend's: "dtype on torch" is torch's alone."""
    _, on, backends = situation.partition(" on ")
    return not on or backend in backends.split(" and ")


def names(library: Library, listed: set[str], modules: dict[str, Any]) -> Iterator[str]:
    """Yield where the names in the table are not those that the library lists."""
    yield from (f"{name} is in no line" for name in sorted(listed - library.names))
    for those, _ in (*library.not_offered, *library.outside):
        for name in those:  # a call that runs shows that its names exist
            try:
                resolve(name, modules)
            except (AttributeError, KeyError):
                yield f"the library has no {name}"


def calls(library: Library, theirs: Evaluate, ours: Evaluate, backend: str) -> Iterator[str]:
    """Run every call: shapes equal, and numbers to a few units in the last place.

    Where a library computes in single precision, in float32's last place; the table must need to
    say so.
    """
    known = {situation for situation, *_ in library.differences}
    situations = [re.findall(r"\*([^*]+)\*", differs) for *_, differs in library.calls]
    named = {name for each in situations for name in each}
    yield from (f"no example of the difference {name!r}" for name in named - known)
    yield from (f"no call names the difference {name!r}" for name in known - named)
    for (expressions, own, _), each in zip(library.calls, situations, strict=True):
        single = [n for n in each if n.startswith(SINGLE) and applies(n, backend)]
        mine = ours(own)
        for expression in expressions:
            peer = theirs(expression)
            problem = unequal(peer, mine, FLOAT if single else DOUBLE)
            if single and not problem and not unequal(peer, mine, DOUBLE):
                problem = f"agree in double precision: no need for {single[0]!r}"
            if problem:
                yield f"{expression} and {own}: {problem}"


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


def differences(library: Library, theirs: Evaluate, ours: Evaluate, backend: str) -> Iterator[str]:
    """Run the example of each difference: both results are as stated, and are not the same."""
    for situation, peer, peer_gives, own, own_gives in library.differences:
        if not applies(situation, backend):
            continue
        for expression, gives, got in (
            (peer, peer_gives, theirs(peer)),
            (own, own_gives, ours(own)),
        ):
            if not as_stated(got, gives):
                yield f"{situation}: {expression} gives {got!r}, not {gives}"
        if peer_gives == own_gives:
            yield f"{situation}: no difference"


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


if __name__ == "__main__":
    print(json.dumps(problems(names_table.TABLE.read_text(encoding="utf-8"), *sys.argv[1:])))
