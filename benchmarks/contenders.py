"""Who takes part on the host: xloss by every way through it, and peers as their users call them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cache, partial
from importlib import import_module
from typing import Any

import numpy as np

import xloss
from xloss_conformance.timing import (
    Call,
    NotOffered,
    keras_backend,
    keras_loss,
    on_jax,
    on_numpy,
    on_scipy,
    on_sklearn,
    on_tensorflow,
    on_torch,
    optax_loss,
    tensorflow_loss,
)

from .work import Data, Work, data

COMPILED = "cpu"
INSTALL = {"sklearn": "scikit-learn", "torch": '"xloss[torch]"', "jax": '"xloss[jax]"'}


class Missing(Exception):
    """A library is not here; the message says what installs it."""


class SameValue(NotOffered):
    """Without a gradient it is another contender's call."""


@dataclass(frozen=True)
class Contender:
    """One way to compute the loss: `prepare` makes its call on the arguments of a work."""

    name: str
    library: str  # that is imported
    said: str  # the call, as its user writes it
    prepare: Callable[[Work, Data, int], Call]
    peer: bool = False
    distribution: str = ""  # of a peer on a GPU, imported with its first call

    def told(self) -> dict[str, Any]:
        """Return it as the record has it; Missing says what would install its library."""
        keras_backend()
        try:
            module = import_module(self.library)
        except ModuleNotFoundError as error:
            package = str(error.name).partition(".")[0]
            install = f"pip install {INSTALL.get(package, package)}"
            said = f"{self.name}: {package} is not installed: {install}"
            raise Missing(said) from error
        version = str(module.__version__) if self.peer else xloss.__version__
        told = {"name": self.name, "peer": self.peer, "library": self.library}
        return {**told, "version": version, "call": self.said}


# ---- Arguments, by library ----------------------------------------------------------------------


def tensors(given: Data) -> tuple[Any, ...]:
    """Return the arguments as PyTorch's tensors on the same memory."""
    import torch

    def tensor(a: Any) -> Any:
        if a.dtype.name == "bfloat16":  # which torch does not take from NumPy
            return torch.from_numpy(a.view(np.int16)).view(torch.bfloat16)
        return torch.from_numpy(a)

    return tuple(map(tensor, given.arguments))


def jax_arrays(given: Data) -> tuple[Any, ...]:
    import jax.numpy as jnp

    *floats, labels = given.arguments
    return (*map(jnp.asarray, floats), jnp.asarray(labels, np.int32))


def tensorflow_tensors(given: Data) -> tuple[Any, ...]:
    import tensorflow as tf

    return tuple(map(tf.constant, given.arguments))


def last_axis(work: Work) -> None:
    if work.axis % len(work.shape) != len(work.shape) - 1:
        raise NotOffered("takes classes on the last axis")


def no_linear(work: Work) -> None:
    if work.features:
        raise NotOffered("has no linear_cross_entropy")


# ---- xloss --------------------------------------------------------------------------------------


def ours(work: Work) -> Callable[..., Any]:
    if work.features:
        return xloss.linear_cross_entropy
    return xloss.cross_entropy if work.axis == -1 else partial(xloss.cross_entropy, axis=work.axis)


def _asked(prepare: Callable[..., Call], engine: str) -> Callable[..., Call]:
    """Return the same contender on an engine that is asked for; under a tracer, when it traces."""

    def prepared(work: Work, given: Data, threads: int) -> Call:
        call = prepare(work, given, threads)
        return replace(call, within=partial(xloss.use_engine, engine), engine=engine)

    return prepared


def _numpy(work: Work, given: Data, threads: int) -> Call:
    if work.dtype == "bfloat16":
        raise NotOffered("timed on PyTorch's bfloat16")
    options = {} if work.axis == -1 else {"axis": work.axis}
    loss = xloss.linear_cross_entropy if work.features else xloss.cross_entropy
    return on_numpy(loss, given.arguments, work.leaves, **options)


def _torch(work: Work, given: Data, threads: int) -> Call:
    return on_torch(ours(work), tensors(given), work.leaves)


def _closed_form(work: Work, given: Data, threads: int) -> Call:
    if not work.gradient:
        raise SameValue("xloss torch")
    options = {} if work.axis == -1 else {"axis": work.axis}
    loss = xloss.linear_cross_entropy if work.features else xloss.cross_entropy
    call = on_numpy(loss, tensors(given), work.leaves, **options)
    return replace(call, answer=lambda got: (float(got[0]), _entries(got[1][0])))


def _entries(gradient: Any) -> Any:
    return gradient.reshape(-1)[:1000].double().numpy()


def _torch_compile(work: Work, given: Data, threads: int) -> Call:
    return on_torch(_compiled(ours(work)), tensors(given), work.leaves)


def _compiled(loss: Callable[..., Any]) -> Callable[..., Any]:
    import torch

    torch.compiler.reset()  # beyond some shapes it would run eagerly
    made: Callable[..., Any] = torch.compile(loss, fullgraph=True, dynamic=False)
    return made


def _jax(work: Work, given: Data, threads: int) -> Call:
    return on_jax(ours(work), jax_arrays(given), work.leaves)


def _tensorflow(work: Work, given: Data, threads: int, graph: bool = False) -> Call:
    return on_tensorflow(ours(work), tensorflow_tensors(given), work.leaves, graph)


@cache
def engine_of(one: Contender, dtype: str, axis: int, features: int, gradient: bool) -> str:
    """Return which engine computes a call of xloss: it is the same whatever the size of arrays.

    The compiled one is asked for by name, on arrays that are small, so that tracing costs little.
    """
    shape = (2, 3) if axis == -1 else (2, 3, 2, 2)
    work = Work("", shape, gradient, dtype, axis, 4 if features else 0)
    try:
        with xloss.use_engine(COMPILED):
            call = one.prepare(work, data(work), 1)
            call.before()
            call.run()
    except Exception as reason:
        # torch.compile wraps what its trace raises in an error of its own.
        if "EngineUnavailable" in f"{type(reason).__name__}: {reason}":
            return "generic"
        raise
    return COMPILED


# ---- Peers --------------------------------------------------------------------------------------


def torch_loss(work: Work) -> Callable[..., Any]:
    """Return F.cross_entropy; of a linear layer, as one writes it: all logits at once."""
    import torch

    loss: Callable[..., Any] = torch.nn.functional.cross_entropy
    if work.axis % len(work.shape) != min(1, len(work.shape) - 1):
        raise NotOffered("takes classes on axis 1")
    if not work.features:
        return loss
    linear = torch.nn.functional.linear
    return lambda features, weight, labels: loss(linear(features, weight), labels)


def _peer_torch(work: Work, given: Data, threads: int, compiled: bool = False) -> Call:
    loss = torch_loss(work)
    return on_torch(_compiled(loss) if compiled else loss, tensors(given), work.leaves)


def _torch_linear(work: Work, given: Data, threads: int, chunked: bool = False) -> Call:
    import torch

    own = getattr(torch.nn.functional, "linear_cross_entropy", None)
    if own is None or not work.features:
        raise NotOffered("is for linear_cross_entropy, from PyTorch 2.13 on")
    options: Any = {"options": torch.nn.LinearCrossEntropyOptions()} if chunked else {}
    return on_torch(partial(own, **options), tensors(given), work.leaves)


def _optax(work: Work, given: Data, threads: int) -> Call:
    loss = optax_loss(axis=work.axis)

    def linear(features: Any, weight: Any, labels: Any) -> Any:
        return loss(features @ weight.T, labels)

    return on_jax(linear if work.features else loss, jax_arrays(given), work.leaves)


def _keras(work: Work, given: Data, threads: int) -> Call:
    last_axis(work)
    no_linear(work)
    loss = keras_loss()
    if keras_backend() == "jax":
        return on_jax(loss, jax_arrays(given), work.leaves)
    if keras_backend() == "tensorflow":
        return on_tensorflow(loss, tensorflow_tensors(given), work.leaves, True)
    return on_torch(loss, tensors(given), work.leaves)


def _peer_tensorflow(work: Work, given: Data, threads: int, graph: bool = False) -> Call:
    last_axis(work)
    no_linear(work)
    return on_tensorflow(tensorflow_loss(), tensorflow_tensors(given), work.leaves, graph)


def _sklearn(work: Work, given: Data, threads: int) -> Call:
    no_linear(work)
    if len(work.shape) != 2 or work.dtype not in ("float32", "float64"):
        raise NotOffered("takes two axes of float32 or float64, rows in the first")
    return on_sklearn(given.x, given.y, work.gradient, threads)


def _scipy(work: Work, given: Data, threads: int) -> Call:
    no_linear(work)
    if work.dtype == "bfloat16":
        raise NotOffered("has no bfloat16")
    return on_scipy(given.x, given.y, work.gradient, work.axis)


F = "torch.nn.functional"
TF = "tf.nn.sparse_softmax_cross_entropy_with_logits, tf.reduce_mean; GradientTape"
GENERIC = 'the same under use_engine("generic")'
COMPILE = "the same under torch.compile(dynamic=False)"
XLOSS = {
    c.name: c
    for c in (
        Contender("xloss numpy", "numpy", "cross_entropy; value_and_grad", _numpy),
        Contender("xloss numpy, generic", "numpy", GENERIC, _asked(_numpy, "generic")),
        Contender("xloss torch", "torch", "cross_entropy; .backward()", _torch),
        Contender("xloss torch, closed form", "torch", "value_and_grad", _closed_form),
        Contender("xloss torch.compile", "torch", COMPILE, _torch_compile),
        Contender(
            "xloss torch.compile, generic", "torch", GENERIC, _asked(_torch_compile, "generic")
        ),
        Contender("xloss jax", "jax", "jax.jit; jax.value_and_grad under it", _jax),
        Contender("xloss jax, generic", "jax", GENERIC, _asked(_jax, "generic")),
        Contender("xloss tensorflow", "tensorflow", "eager; GradientTape", _tensorflow),
        Contender(
            "xloss tf.function",
            "tensorflow",
            "the same as one tf.function",
            partial(_tensorflow, graph=True),
        ),
    )
}
PEERS = {
    c.name: replace(c, peer=True)
    for c in (
        Contender("torch", "torch", f"{F}.cross_entropy; .backward()", _peer_torch),
        Contender("torch.compile", "torch", COMPILE, partial(_peer_torch, compiled=True)),
        Contender("torch linear", "torch", f"{F}.linear_cross_entropy", _torch_linear),
        Contender(
            "torch linear, chunked",
            "torch",
            "the same with LinearCrossEntropyOptions()",
            partial(_torch_linear, chunked=True),
        ),
        Contender(
            "optax",
            "optax",
            "jax.jit of optax.softmax_cross_entropy_with_integer_labels(...).mean(); "
            "jax.value_and_grad of it",
            _optax,
        ),
        Contender("keras", "keras", "SparseCategoricalCrossentropy(from_logits=True)", _keras),
        Contender("tensorflow", "tensorflow", TF, _peer_tensorflow),
        Contender(
            "tf.function",
            "tensorflow",
            "the same as one tf.function",
            partial(_peer_tensorflow, graph=True),
        ),
        Contender(
            "sklearn",
            "sklearn",
            "HalfMultinomialLoss (of LogisticRegression); its loss_gradient",
            _sklearn,
        ),
        Contender(
            "scipy",
            "scipy",
            "-scipy.special.log_softmax(z, axis=-1) at the labels, .mean()",
            _scipy,
        ),
    )
}
CONTENDERS = {**XLOSS, **PEERS}
