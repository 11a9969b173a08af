"""Who takes part on the host: xloss by every way through it, and peers as their users call them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cache, partial
from importlib import import_module
from typing import Any

import numpy as np

import xloss
from xloss_conformance.timing import (
    SOME,
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

Prepare = Callable[[Work, Data, int], Call]
LossOf = Callable[[Work], Callable[..., Any]]
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
    prepare: Prepare
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


# ---- Calls, by library --------------------------------------------------------------------------


def tensors(given: Data) -> tuple[Any, ...]:
    """Return the arguments as PyTorch's tensors on the same memory."""
    import torch

    def tensor(a: Any) -> Any:
        if a.dtype.name == "bfloat16":  # which torch does not take from NumPy
            return torch.from_numpy(a.view(np.int16)).view(torch.bfloat16)
        return torch.from_numpy(a)

    return tuple(map(tensor, given.arguments))


def _jax_arrays(given: Data) -> tuple[Any, ...]:
    import jax.numpy as jnp

    *floats, labels = given.arguments
    return (*map(jnp.asarray, floats), jnp.asarray(labels, np.int32))


def _tensorflow_tensors(given: Data) -> tuple[Any, ...]:
    import tensorflow as tf

    return tuple(map(tf.constant, given.arguments))


CALLS: dict[str, Any] = {"torch": on_torch, "jax": on_jax, "tensorflow": on_tensorflow}
ARGUMENTS = {"torch": tensors, "jax": _jax_arrays, "tensorflow": _tensorflow_tensors}


def calling(library: str, loss: LossOf, engine: str = "", **how: Any) -> Prepare:
    """Return what makes the call of a loss, on an engine that is asked for if one is.

    Under a tracer the engine is settled by the first call, which traces.
    """

    def prepare(work: Work, given: Data, threads: int) -> Call:
        whose = library or keras_backend()
        call: Call = CALLS[whose](loss(work), ARGUMENTS[whose](given), work.leaves, **how)
        if engine:
            call = replace(call, within=partial(xloss.use_engine, engine), engine=engine)
        return call

    return prepare


def compiled(loss: LossOf) -> LossOf:
    """Return the same under torch.compile."""

    def made(work: Work) -> Callable[..., Any]:
        import torch

        torch.compiler.reset()  # beyond some shapes it would run eagerly
        found: Callable[..., Any] = torch.compile(loss(work), fullgraph=True, dynamic=False)
        return found

    return made


# ---- xloss --------------------------------------------------------------------------------------


def ours(work: Work) -> Callable[..., Any]:
    """Return the loss of xloss that a work is of."""
    if work.features:
        return xloss.linear_cross_entropy
    return xloss.cross_entropy if work.axis == -1 else partial(xloss.cross_entropy, axis=work.axis)


def _closed_form(work: Work, arguments: Sequence[Any]) -> Call:
    options = {} if work.axis == -1 else {"axis": work.axis}
    loss = xloss.linear_cross_entropy if work.features else xloss.cross_entropy
    return on_numpy(loss, arguments, work.leaves, **options)


def _numpy(work: Work, given: Data, threads: int, engine: str = "") -> Call:
    if work.dtype == "bfloat16":
        raise NotOffered("timed on PyTorch's bfloat16")
    call = _closed_form(work, given.arguments)
    if engine:
        call = replace(call, within=partial(xloss.use_engine, engine), engine=engine)
    return call


def _torch_closed_form(work: Work, given: Data, threads: int) -> Call:
    if not work.gradient:
        raise SameValue("xloss torch")

    def answer(got: Any) -> tuple[float, Any]:
        return float(got[0]), got[1][0].reshape(-1)[:SOME].double().numpy()

    return replace(_closed_form(work, tensors(given)), answer=answer)


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
    linear = torch.nn.functional.linear
    return (lambda x, weight, y: loss(linear(x, weight), y)) if work.features else loss


def _torch_linear(work: Work, chunked: bool = False) -> Callable[..., Any]:
    import torch

    own = getattr(torch.nn.functional, "linear_cross_entropy", None)
    if own is None or not work.features:
        raise NotOffered("is for linear_cross_entropy, from PyTorch 2.13 on")
    options: Any = {"options": torch.nn.LinearCrossEntropyOptions()} if chunked else {}
    return partial(own, **options)


def _optax(work: Work) -> Callable[..., Any]:
    loss = optax_loss(axis=work.axis)
    return (lambda x, weight, y: loss(x @ weight.T, y)) if work.features else loss


def _last_axis(loss: Callable[[], Callable[..., Any]]) -> LossOf:
    """Return a loss that takes classes on the last axis alone, and no linear layer."""

    def made(work: Work) -> Callable[..., Any]:
        if work.features or work.axis % len(work.shape) != len(work.shape) - 1:
            raise NotOffered("takes logits with the classes on the last axis")
        return loss()

    return made


def _sklearn(work: Work, given: Data, threads: int) -> Call:
    if work.features or len(work.shape) != 2 or work.dtype not in ("float32", "float64"):
        raise NotOffered("takes two axes of float32 or float64, rows in the first")
    return on_sklearn(given.x, given.y, work.gradient, threads)


def _scipy(work: Work, given: Data, threads: int) -> Call:
    if work.features or work.dtype == "bfloat16":
        raise NotOffered("has no linear_cross_entropy, and no bfloat16")
    return on_scipy(given.x, given.y, work.gradient, work.axis)


F = "torch.nn.functional"
TF = "tf.nn.sparse_softmax_cross_entropy_with_logits, tf.reduce_mean; GradientTape"
GENERIC = 'the same under use_engine("generic")'
COMPILE = "the same under torch.compile(dynamic=False)"
GRAPH = "the same as one tf.function"
OPTAX = "jax.jit of optax.softmax_cross_entropy_with_integer_labels(...).mean(), or value_and_grad"
KERAS = "SparseCategoricalCrossentropy(from_logits=True)"
SKLEARN = "HalfMultinomialLoss (of LogisticRegression); its loss_gradient"
OURS = (
    ("xloss numpy", "numpy", "cross_entropy; value_and_grad", _numpy),
    ("xloss numpy, generic", "numpy", GENERIC, partial(_numpy, engine="generic")),
    ("xloss torch", "torch", "cross_entropy; .backward()", calling("torch", ours)),
    ("xloss torch, closed form", "torch", "value_and_grad", _torch_closed_form),
    ("xloss torch.compile", "torch", COMPILE, calling("torch", compiled(ours))),
    (
        "xloss torch.compile, generic",
        "torch",
        GENERIC,
        calling("torch", compiled(ours), "generic"),
    ),
    ("xloss jax", "jax", "jax.jit; jax.value_and_grad under it", calling("jax", ours)),
    ("xloss jax, generic", "jax", GENERIC, calling("jax", ours, "generic")),
    ("xloss tensorflow", "tensorflow", "eager; GradientTape", calling("tensorflow", ours)),
    ("xloss tf.function", "tensorflow", GRAPH, calling("tensorflow", ours, graph=True)),
)
THEIRS = (
    ("torch", "torch", f"{F}.cross_entropy; .backward()", calling("torch", torch_loss)),
    ("torch.compile", "torch", COMPILE, calling("torch", compiled(torch_loss))),
    ("torch linear", "torch", f"{F}.linear_cross_entropy", calling("torch", _torch_linear)),
    (
        "torch linear, chunked",
        "torch",
        "the same with LinearCrossEntropyOptions()",
        calling("torch", partial(_torch_linear, chunked=True)),
    ),
    ("optax", "optax", OPTAX, calling("jax", _optax)),
    ("keras", "keras", KERAS, calling("", _last_axis(keras_loss))),
    ("tensorflow", "tensorflow", TF, calling("tensorflow", _last_axis(tensorflow_loss))),
    (
        "tf.function",
        "tensorflow",
        GRAPH,
        calling("tensorflow", _last_axis(tensorflow_loss), graph=True),
    ),
    ("sklearn", "sklearn", SKLEARN, _sklearn),
    ("scipy", "scipy", "-scipy.special.log_softmax(z, axis=-1) at the labels, .mean()", _scipy),
)
XLOSS = {one[0]: Contender(*one) for one in OURS}
PEERS = {one[0]: Contender(*one, peer=True) for one in THEIRS}
CONTENDERS = {**XLOSS, **PEERS}
