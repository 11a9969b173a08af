"""The libraries of docs/names.toml: imported, their arrays made, their names listed.

    python tests/support/names_peers.py jax Keras

runs the table of one of them, on one backend, in a process of its own (Keras' backend and double
precision are switches of the whole process) and prints the problems found and the names that it
lists, as JSON.
"""

from __future__ import annotations

import importlib
import importlib.util
import json
import os
import re
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from operator import attrgetter
from pkgutil import resolve_name
from typing import Any

import numpy as np

import names_check
import names_table
from names_table import Library
from xloss_conformance.libraries import array_library

FAMILY = r"(?i)loss|entropy|(^|_)kl_|kldiv|softmax|softmin|logsumexp|one_hot|(^|_)entr$"


def missing(library: Library, backend: str) -> list[str]:
    """Return the top-level packages that are not installed."""
    packages = {re.split("[.:]", name)[0] for name in (*library.modules.values(), backend)}
    return sorted(p for p in packages if importlib.util.find_spec(p) is None)


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


def problems(name: str, backend: str) -> tuple[list[str], list[str]]:
    """Run what the table says of a library; return the problems and the names it must hold."""
    intro, libraries = names_table.read(names_table.TABLE.read_text(encoding="utf-8"))
    library = libraries[name]
    made: dict[str, Any] = {}
    exec(names_table.inputs(intro), made)
    arrays = {k: v for k, v in made.items() if isinstance(v, np.ndarray)}
    own = backend if (name, backend) != ("Keras", "tensorflow") else "numpy"
    # Theirs warn: deprecated names are named in the table.
    with warnings.catch_warnings(action="ignore"), double_precision(library, backend):
        modules = {name: resolve_name(path) for name, path in library.modules.items()}
        listed = members(library, modules)
        run = names_check.Run(
            names_check.namespace(arrays, array_library(backend).array, modules),
            names_check.namespace(arrays, array_library(own).array, modules),
            backend,
        )
        found = [
            *names_check.names(library, listed, lambda n: resolve(n, modules)),
            *names_check.calls(library, run),
            *names_check.differences(library, run),
        ]
    return found, sorted(listed)


if __name__ == "__main__":
    backend, name = sys.argv[1:]
    print(json.dumps(problems(name, backend)))
