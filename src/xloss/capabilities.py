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

    @property
    def install(self) -> str:
        """The command that installs it."""
        if self.library == "numpy":
            return "pip install xloss"
        strict = self.library == "array_api_strict"
        return "pip install array-api-strict" if strict else f'pip install "xloss[{self.library}]"'

    @property
    def tested(self) -> tuple[str, ...]:
        """Devices on which the tests run by day: the CPU of every library that has it."""
        return self.devices[: "cpu" in self.devices]


class Capability(NamedTuple):
    """One row of the table."""

    library: str
    device: str
    dtype: str
    features: frozenset[str]
    tested: bool


_ALL = ("float16", "bfloat16", "float32", "float64")
_WIDE = _ALL[2:]
_EAGER = frozenset({"loss", "value_and_grad"})
_TRACED = _EAGER | {"autodiff", "higher", "vmap", "compile"}

SUPPORT = (
    Support("numpy", ("cpu",), _ALL, _EAGER | {"ranks", "label error"}),
    Support("torch", ("cpu", "cuda"), _ALL, _TRACED | {"ranks", "label error"}),
    Support("jax", ("cpu", "gpu", "tpu"), _ALL, _TRACED | {"ranks"}),
    Support("tensorflow", ("cpu", "gpu"), _ALL, _TRACED | {"label error"}),
    Support("dask", ("cpu",), _WIDE, _EAGER | {"lazy"}),
    Support("cupy", ("cuda",), ("float16", *_WIDE), _EAGER | {"ranks"}),
    Support("array_api_strict", ("cpu",), _WIDE, _EAGER | {"label error"}),
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
