"""The folder on disk that holds the kernels of one version: found without importing Numba."""

from __future__ import annotations

import hashlib
import sys
from importlib.util import find_spec
from pathlib import Path

import numpy as np

SUFFIX = ".kernel"


def stamp() -> str | None:
    """Return a hash of the kernels' sources and their compiler; None where one is not found."""
    here = Path(__file__).parent
    sources = [here / "kernel_cache.py", here / "kept_objects.py", here / "object_runtime.py"]
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
