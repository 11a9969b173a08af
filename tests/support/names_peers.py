"""The libraries of docs/names.toml: how each is imported, its arrays made, its names listed.

    python tests/support/names_peers.py PEER

runs the table of one of them in a process of its own (double precision is a switch of the whole
process in JAX and Keras) and prints the problems found, a JSON list.
"""

from __future__ import annotations

import importlib
import importlib.util
import json
import os
import re
import sys
import warnings
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np

import names_check
import names_table

FAMILY = r"(?i)loss|entropy|(^|_)kl_|kldiv|softmax|softmin|logsumexp|one_hot|(^|_)entr$"


@dataclass(frozen=True)
class Peer:
    """A library as docs/names.md speaks of it."""

    section: str  # heading in the document
    modules: dict[str, str]  # the name in the tables -> the module; the first decides on skipping
    array: Callable[[Any], Any] = np.asarray  # from NumPy to what the peer takes
    own: bool = True  # xloss takes the peer's arrays; else NumPy's
    # Which names the tables must hold: of these modules, those that match.
    listed: dict[str, str] = field(default_factory=dict)
    also: tuple[str, ...] = ()  # modules whose members are not listed a second time
    variant: str = ""  # "torch" in "dtype on torch"
    start: Callable[[], None] | None = None  # what switches the whole process


def _torch(x: Any) -> Any:
    import torch

    return torch.from_numpy(np.array(x))


def _jax(x: Any) -> Any:
    import jax.numpy as jnp

    return jnp.asarray(x)


def _tensorflow(x: Any) -> Any:
    import tensorflow as tf

    return tf.constant(x)


def _double_jax() -> None:
    import jax

    jax.config.update("jax_enable_x64", True)
    jax.config.update("jax_platforms", "cpu")


def _keras(backend: str) -> Callable[[], None]:
    def start() -> None:
        os.environ["KERAS_BACKEND"] = backend
        if backend == "jax":
            _double_jax()
        import keras

        keras.config.set_floatx("float64")

    return start


def _keras_peer(backend: str, array: Callable[[Any], Any], *, own: bool = True) -> Peer:
    modules = {"keras": "keras", "backend": backend}
    listed = {"keras.losses": ".", "keras.ops": FAMILY + "|ctc", "keras.metrics": r"(?i)entropy|kl"}
    return Peer("Keras", modules, array, own, listed, variant=backend, start=_keras(backend))


_TORCH = {
    "torch": "torch",
    "F": "torch.nn.functional",
    "nn": "torch.nn",
    "D": "torch.distributions",
}
_TENSORFLOW = {"tf": "tensorflow", "v1": "tensorflow.compat.v1", "keras": "keras"}
_SKLEARN = {
    "metrics": "sklearn.metrics",
    "LinearModelLoss": "sklearn.linear_model._linear_loss:LinearModelLoss",
    "HalfMultinomialLoss": "sklearn._loss:HalfMultinomialLoss",
    "HalfBinomialLoss": "sklearn._loss:HalfBinomialLoss",
}


def _family(*modules: str, whole: str = "") -> dict[str, str]:
    """List the family's names in these modules, and every name of `whole`."""
    return {**dict.fromkeys(whole.split(), "."), **dict.fromkeys(modules, FAMILY)}


PEERS = {
    "torch": Peer("PyTorch", _TORCH, _torch, listed=_family("F", "nn", "torch.special")),
    "torchvision": Peer(
        "torchvision",
        {"torchvision": "torchvision", "torch": "torch"},
        _torch,
        listed=_family("torchvision.ops"),
    ),
    "keras-torch": _keras_peer("torch", _torch),
    "keras-jax": _keras_peer("jax", _jax),
    "keras-tensorflow": _keras_peer("tensorflow", _tensorflow, own=False),
    "tensorflow": Peer(
        "TensorFlow",
        _TENSORFLOW,
        _tensorflow,
        listed=_family(
            "tf",
            "tf.nn",
            "tf.math",
            "tf.keras.backend",
            "v1.nn",
            whole="tf.keras.losses v1.losses",
        ),
        also=("keras.losses",),
        start=_keras("tensorflow"),
    ),
    "optax": Peer(
        "JAX and optax",
        {"optax": "optax", "jax": "jax"},
        _jax,
        listed=_family("optax", "jax.nn", "jax.scipy.special", whole="optax.losses"),
        start=_double_jax,
    ),
    "sklearn": Peer("scikit-learn", _SKLEARN, listed=_family("metrics")),
    "scipy": Peer(
        "SciPy",
        {"special": "scipy.special", "stats": "scipy.stats"},
        listed=_family("special", "stats"),
    ),
}


def missing(peer: Peer) -> list[str]:
    """Return the top-level packages of a peer that are not installed."""
    packages = {re.split("[.:]", name)[0] for name in peer.modules.values()}
    return sorted(p for p in packages if importlib.util.find_spec(p) is None)


def load(peer: Peer) -> dict[str, Any]:
    """Import the peer's modules by the names that the tables use."""
    if peer.start is not None:
        peer.start()
    found = {}
    for name, path in peer.modules.items():
        module, _, member = path.partition(":")
        found[name] = importlib.import_module(module)
        if member:
            found[name] = getattr(found[name], member)
    return found


def resolve(name: str, modules: dict[str, Any]) -> Any:
    """Return the object of a dotted name; AttributeError or KeyError where there is none."""
    first, *rest = name.split(".")
    found = modules[first]
    for part in rest:
        found = getattr(found, part)
    return found


def members(peer: Peer, modules: dict[str, Any]) -> set[str]:
    """Return the peer's names that the table must hold: of one object the first name only."""
    found: set[str] = set()
    elsewhere = [v for name in peer.also for v in vars(resolve(name, modules)).values()]
    seen = {id(v) for v in elsewhere if callable(v)}
    for holder, pattern in peer.listed.items():
        module = resolve(holder, modules)
        fitting = [n for n in dir(module) if not n.startswith("_") and re.search(pattern, n)]
        values = {f"{holder}.{n}": getattr(module, n) for n in fitting}
        new = {n: v for n, v in values.items() if callable(v) and id(v) not in seen}
        found |= new.keys()
        seen |= {id(v) for v in new.values()}
    return found


def problems(peer: Peer) -> tuple[list[str], set[str]]:
    """Run what the table says of one peer; return the problems and the names that it must hold."""
    intro, libraries = names_table.read(names_table.TABLE.read_text(encoding="utf-8"))
    library = libraries[peer.section]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # theirs: deprecated names are named in the table
        modules = load(peer)
        listed = members(peer, modules)
    made: dict[str, Any] = {}
    exec(names_table.inputs(intro), made)
    arrays = {k: v for k, v in made.items() if isinstance(v, np.ndarray)}
    run = names_check.Run(
        names_check.namespace(arrays, peer.array, modules),
        names_check.namespace(arrays, peer.array if peer.own else np.asarray, modules),
        peer.variant,
    )
    found = [*names_check.names(library, listed, lambda n: resolve(n, modules))]
    return [
        *found,
        *names_check.calls(library, run),
        *names_check.differences(library, run),
    ], listed


if __name__ == "__main__":
    found, listed = problems(PEERS[sys.argv[1]])
    print(json.dumps({"problems": found, "listed": sorted(listed)}))
