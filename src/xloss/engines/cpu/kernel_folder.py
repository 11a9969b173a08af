"""The folder on disk that holds the kernels of one version: found without importing Numba."""

from __future__ import annotations

import hashlib
import sys
from importlib.util import find_spec
from pathlib import Path

import numpy as np

from .. import disk_cache

SUFFIX = ".kernel"


def stamp() -> str | None:
    """Return a hash of the kernels' sources and their compiler; None where one is not found.

    Kernels are compiled from these files and from no others.
    """
    here = Path(__file__).parent
    sources = [here / name for name in ("kernel_cache.py", "kept_objects.py", "arguments.py")]
    sources.append(here.parent / "row_layout.py")  # code reads a record's fields by their places
    sources += sorted((here / "kernels").rglob("*.py"))
    parts = [str(sys.implementation.cache_tag), np.__version__]
    for compiler in ("numba", "llvmlite"):
        spec = find_spec(compiler)
        if spec is None or spec.origin is None:
            return None
        sources.append(Path(spec.origin).parent / "_version.py")
    try:
        parts += [hashlib.sha256(source.read_bytes()).hexdigest() for source in sources]
    except OSError:
        return None
    return hashlib.sha256(repr(parts).encode()).hexdigest()[:20]


def folder_of(stamp: str | None) -> Path | None:
    """Return the folder of a stamp's kernels; None where there is no place for it.

    It lies in ``XLOSS_CACHE_DIR``, or else in the user's cache directory, which have one folder for
    each stamp of sources, Python and Numba.
    """
    root = disk_cache.root()
    return None if stamp is None or root is None else root / f"kernels-{stamp}"
