"""What is supported: backend x device x dtype x feature, for tests, README and command line."""

from __future__ import annotations

from typing import NamedTuple

# Feature -> what it means, in the words of the support matrix.
FEATURES = {
    "loss": "every loss and op",
    "value_and_grad": "closed-form gradients, no autodiff",
    "autodiff": "gradients by the library's own autodiff",
    "higher": "double backward, forward mode, hessian",
    "vmap": "vectorised over a mapped axis",
    "compile": "traced by the library's compiler",
    "ranks": "classes sharded over processes or devices",
    "lazy": "a graph is built, nothing computed",
    "label error": "a bad label raises at once (elsewhere its row is NaN)",
}


class Support(NamedTuple):
    """Devices, dtypes and features that are supported for one library."""

    library: str
    devices: tuple[str, ...]
    dtypes: tuple[str, ...]
    features: frozenset[str]
    install: str  # the command that installs it
    tested: tuple[str, ...]  # devices on which the tests run if they find them


class Capability(NamedTuple):
    """One row of the table."""

    library: str
    device: str
    dtype: str
    features: frozenset[str]
    tested: bool


_ALL = ("float16", "bfloat16", "float32", "float64")
_EAGER = frozenset({"loss", "value_and_grad"})

SUPPORT = (
    Support(
        "numpy", ("cpu",), _ALL, _EAGER | {"ranks", "label error"}, "pip install xloss", ("cpu",)
    ),
    Support(
        "torch",
        ("cpu", "cuda"),
        _ALL,
        _EAGER | {"autodiff", "higher", "vmap", "compile", "ranks", "label error"},
        'pip install "xloss[torch]"',
        ("cpu",),
    ),
    Support(
        "jax",
        ("cpu", "gpu", "tpu"),
        _ALL,
        _EAGER | {"autodiff", "higher", "vmap", "compile", "ranks"},
        'pip install "xloss[jax]"',
        ("cpu",),
    ),
    Support(
        "tensorflow",
        ("cpu", "gpu"),
        _ALL,
        _EAGER | {"autodiff", "higher", "vmap", "compile", "label error"},
        'pip install "xloss[tensorflow]"',
        ("cpu",),
    ),
    Support(
        "dask",
        ("cpu",),
        ("float32", "float64"),
        _EAGER | {"lazy"},
        'pip install "xloss[dask]"',
        ("cpu",),
    ),
    Support(
        "cupy",
        ("cuda",),
        ("float16", "float32", "float64"),
        _EAGER | {"ranks"},
        'pip install "xloss[cupy]"',
        (),
    ),
    Support(
        "array_api_strict",
        ("cpu",),
        ("float32", "float64"),
        _EAGER | {"label error"},
        "pip install array-api-strict",
        ("cpu",),
    ),
)


def capabilities() -> tuple[Capability, ...]:
    """List what xloss supports: one row for each library, device and dtype.

    Returns
    -------
    tuple of Capability
        Each with ``library``, ``device``, ``dtype``, ``features`` (names of
        ``xloss.capabilities.FEATURES``) and ``tested``: whether the test suite runs on it.

    Examples
    --------
    >>> import xloss
    >>> sorted({row.library for row in xloss.capabilities() if "autodiff" in row.features})
    ['jax', 'tensorflow', 'torch']
    """
    return tuple(
        Capability(s.library, device, dtype, s.features, device in s.tested)
        for s in SUPPORT
        for device in s.devices
        for dtype in s.dtypes
    )


def matrix() -> str:
    """Write the support matrix of docs/install.md, in Markdown."""
    head = ["", *(s.library for s in SUPPORT)]
    lines = [head, ["---"] * len(head)]
    lines.append(["devices", *(", ".join(s.devices) for s in SUPPORT)])
    lines.append(
        ["dtypes", *(", ".join(d.replace("float", "f") for d in s.dtypes) for s in SUPPORT)]
    )
    for name, meaning in FEATURES.items():
        lines.append([meaning, *("yes" if name in s.features else "–" for s in SUPPORT)])
    lines.append(["run by the test suite on", *(", ".join(s.tested) or "nothing" for s in SUPPORT)])
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)
