"""The backends: what computes a prepared call on the arrays of one library.

Two functions say which backend takes a call: `of_loss` for a loss, `of` for what is computed from
whole logits. A library with autodiff, with lazy arrays or with matrix products of its own has a
package here; all others share `eager`. A package offers up to three modules: `backend` for whole
logits (`dense` in `eager`), `linear` for logits that a matrix makes from features, and `sharded`
for classes that are split over ranks. `eager` takes what a package does not offer.
"""

from __future__ import annotations

import sys
from functools import cache
from importlib import import_module
from typing import Any, Literal, Protocol, TypeAlias

from .._arrays.context import Context
from .._arrays.inspect import OWN_NAMESPACES, Array, Namespace, spread
from ..core.call import LossCall
from ..core.options import Outputs
from ..core.reduce import sum_once
from ..core.token_stats import Tokens

__all__ = ["Backend", "Loss", "Whole", "of", "of_loss", "of_tokens", "square_sum"]

Form: TypeAlias = Literal["dense", "linear", "sharded", "dtensor"]


class Loss(Protocol):
    """A module that computes losses: every `linear` and `sharded`, and every Backend."""

    def value(self, call: LossCall) -> Array:
        """Return the loss."""

    def value_and_grad(
        self, call: LossCall, wanted: tuple[str, ...], cotangent: Any
    ) -> tuple[Array, dict[str, Array]]:
        """Return the loss and the closed-form gradients to the arguments named in `wanted`."""


class Whole(Loss, Protocol):
    """A module that has all classes of a row at once: every `linear`, and every Backend."""

    def tokens(self, call: LossCall, asked: Outputs) -> tuple[Array, Tokens]:
        """Return row losses and the numbers beside them; `asked` has rows, tokens and which."""


class Backend(Whole, Protocol):
    """A module that computes everything that starts from whole logits."""

    def elements(self, call: LossCall) -> Array:
        """Return softmax or log-softmax, elementwise."""

    def weight(self, call: LossCall) -> Array:
        """Return the sum of the row weights, the mean's denominator."""


def of_loss(call: LossCall, cotangent: Any = None) -> Loss:
    """Return the backend that takes a loss, or its gradients for a cotangent."""
    memory = call.memory
    if memory is not None and (cotangent is None or not spread(cotangent)):
        found: Loss = memory.get("backend") or memory.setdefault("backend", of(call))
        return found
    if call.cx.library == "torch":
        _refuse_dtensors(call, cotangent)
    found = _module(call.cx.library, _form(call))
    return found


def of_tokens(call: LossCall) -> Whole:
    """Return the backend that takes the statistics of rows whose classes are all here."""
    if call.cx.library == "torch":
        _refuse_dtensors(call)
    found: Whole = _module(call.cx.library, "dense" if call.linear is None else "linear")
    return found


def of(call: LossCall) -> Backend:
    """Return the backend that takes whole logits of the call's library."""
    found: Backend = _module(call.cx.library, "dense")
    return found


def square_sum(cx: Context, x: Array) -> Array:
    """Sum the squares of all elements."""
    if cx.library == "jax":  # compiled as one function, so that no array of squares is stored
        total: Array = _module("jax", "dense").square_sum(x)
        return total
    return sum_once(cx, x * x)


def _form(call: LossCall) -> Form:
    """Say what the logits of a call are: they decide which module takes it."""
    if call.linear is not None:
        return "linear"
    if call.group is not None:
        return "sharded"
    return "dtensor" if spread(call.operands.x) else "dense"


def _refuse_dtensors(call: LossCall, cotangent: Any = None) -> None:
    """Refuse a DTensor beside a first argument that is none, or beside a group.

    Each rank would combine the whole first argument with its own part of the DTensor, and no
    shape would show the mistake.
    """
    o, linear, first = call.operands, call.linear, call.arguments[0]
    if spread(o.x):
        if call.group is None:
            return
        raise TypeError(
            f"{first}: is a DTensor, but with group= each rank passes its own part; pass its "
            "to_local(), or the DTensor to cross_entropy"
        )
    names = ("targets", "weight" if linear is None else "class_weight", *o._fields[3:])
    beside = ("normalizer", call.normalizer), ("cotangent", cotangent)
    bias = () if linear is None else (("bias", linear.bias),)
    for name, a in (*zip(names, o[1:], strict=True), *beside, *bias):
        if a is not None and spread(a):
            raise TypeError(
                f"{name}: is a DTensor, but {first} is none; pass its full_tensor(), or {first} as "
                "a DTensor"
            )


# What the packages offer, but for PyTorch's. Every other library is taken by `eager`, and so are
# exchanges between ranks where a library has none of its own.
_OFFERED = {
    *("jax.backend", "jax.linear", "jax.sharded", "dask.backend", "dask.linear"),
    *("cupy.backend", "cupy.linear", "tensorflow.backend", "tensorflow.linear"),
}


def _module(library: str, form: Form) -> Any:
    """Return the module that takes logits of a form, imported when the first call needs it.

    xloss imports no array library that its caller does not use.
    """
    if library != "torch":
        return _imported(library, form)
    # By import statements, because torch.compile traces through them.
    if form == "dense":
        from .torch import backend

        return backend
    if form == "dtensor":  # alone: torch.distributed takes long to import
        from .torch import dtensor

        return dtensor
    from .torch import linear, sharded

    return linear if form == "linear" else sharded


@cache
def _imported(library: str, form: Form) -> Any:
    own = f"{library}.{'backend' if form == 'dense' else form}"
    return import_module(f".{own if own in _OFFERED else f'eager.{form}'}", __name__)


def _tensorflow_namespace(x: Any) -> Namespace | None:
    """Return the namespace of a dense tensor or a Variable of TensorFlow, else None."""
    tf = sys.modules.get("tensorflow")  # None: another class of a module of that name
    if tf is None or not isinstance(x, (tf.Tensor, tf.Variable)):
        return None
    from .tensorflow import namespace

    return namespace


OWN_NAMESPACES["tensorflow"] = _tensorflow_namespace
