"""Python objects by name, "package.module:name" or "path/file.py:name", and what is not here."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from difflib import get_close_matches
from importlib import import_module
from importlib.metadata import PackageNotFoundError, version
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from types import ModuleType
from typing import Any

from .model import LoadError, Missing
from .printable import first_line

SHOWN = 12  # names that a message lists
# Package that is imported -> the line that installs it, where that is not pip's of the same name.
INSTALL = {
    "array_api_strict": "pip install array-api-strict",
    "torch": 'pip install "xloss[torch]"',
    "jax": 'pip install "xloss[jax]"',
    "tensorflow": 'pip install "xloss[tensorflow]"',
    "dask": 'pip install "xloss[dask]"',
    "cupy": 'pip install "xloss[cupy]"',
    "keras": 'pip install keras "xloss[jax]"',
    "sklearn": "pip install scikit-learn",
}


def among(what: str, name: Any, known: Iterable[str]) -> str:
    """Return a name that is known; LoadError says which is near, or which there are."""
    names = list(known)
    if not isinstance(name, str) or name not in names:  # a dtype of NumPy's equals its name
        near = get_close_matches(name, names, 1) if isinstance(name, str) else []
        hint = f"did you mean {near[0]}?" if near else f"expected one of {', '.join(names)}"
        raise LoadError(f"{what}: {name!r} is unknown; {hint}")
    return str(name)


def installed(distribution: str) -> str:
    """Return a distribution's version; "unknown" where it runs from a source tree, unpacked."""
    try:
        return version(distribution)
    except PackageNotFoundError:
        return "unknown"


def missing(who: str, error: ModuleNotFoundError, install: str = "") -> Missing:
    """Return what says that a package is not here, and what installs it."""
    package = str(error.name).partition(".")[0]
    line = install or INSTALL.get(package, f"pip install {package}")
    return Missing(f"{who}: {package} is not installed: {line}")


def imported(module: str, who: str, install: str = "") -> ModuleType:
    """Return a module; Missing says why it is not here."""
    try:
        return import_module(module)
    except ModuleNotFoundError as error:
        raise missing(who, error, install) from error
    except Missing:
        raise
    except Exception as error:  # a build for another version of what it stands on
        raise Missing(f"{who}: cannot be imported: {first_line(error)}") from error


@contextmanager
def staying() -> Iterator[None]:
    """Come back to the current folder: a stranger's code may go to another and stay there."""
    try:
        before = os.getcwd()
    except OSError:  # it has been deleted
        yield
        return
    try:
        yield
    finally:
        with suppress(OSError):
            os.chdir(before)


def load_object(spec: str, default: str = "") -> Any:
    """Return what a spec names; of one without a name after the colon, the default name."""
    place, colon, name = spec.rpartition(":")
    if not colon or "/" in name or "\\" in name:  # no name, or the colon of C:\...
        place, name = spec, default
    if not place or not name:
        raise LoadError(f"{spec!r}: expected package.module:function or path/file.py:function")
    file = Path(place) if place.endswith(".py") else None
    # As `python -m` does: a package of the project one stands in. Beside a file, what stands there.
    with staying(), _importing(place, Path.cwd() if file is None else file.resolve().parent):
        module = import_module(place) if file is None else _file(file)
    found: Any = module
    for part in name.split("."):
        if not hasattr(found, part):
            there = [n for n, v in vars(module).items() if callable(v) and not n.startswith("_")]
            listed = ", ".join(there[:SHOWN]) or "nothing that can be called"
            raise LoadError(f"{place} has no {name}; it has {listed}")
        found = getattr(found, part)
    return found


def _file(path: Path) -> ModuleType:
    if not path.is_file():
        raise LoadError(f"{path}: no such file")
    # A name of its own: the file may be called as a library is.
    name = f"xloss_candidate_{abs(hash(str(path.resolve())))}"
    if name in sys.modules:
        return sys.modules[name]
    found = spec_from_file_location(name, path)
    assert found is not None
    assert found.loader is not None
    module = sys.modules[name] = module_from_spec(found)
    try:
        found.loader.exec_module(module)
    except BaseException:
        del sys.modules[name]
        raise
    return module


@contextmanager
def _importing(place: str, folder: Path) -> Iterator[None]:
    """Import what stands in a folder; LoadError says why that fails."""
    path = str(folder)
    sys.path.insert(0, path)
    try:
        yield
    except LoadError:
        raise
    except (Exception, SystemExit) as error:
        lacking = error.name if isinstance(error, ModuleNotFoundError) else None
        if lacking is not None and f"{place}.".startswith(f"{lacking}."):
            raise LoadError(f"{place}: no module {lacking}") from error
        line = f", line {error.lineno}" if isinstance(error, SyntaxError) else ""
        raise LoadError(f"{place} fails to import: {first_line(error)}{line}") from error
    finally:
        with suppress(ValueError):  # the module may have changed the path too
            sys.path.remove(path)
