"""The backends: what computes a prepared call on the arrays of one library.

Two functions say which backend takes a call: `of_loss` for a loss, `of` for what is computed from
whole logits. A library with autodiff, with lazy arrays or with matrix products of its own has a
package here; all others share `eager`. A package offers up to three modules: `backend` for whole
logits (`dense` in `eager`), `linear` for logits that a matrix makes from features, and `sharded`
for classes that are split over ranks. `eager` takes what a package does not offer.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any, Literal, Protocol, TypeAlias

from .._arrays.context import Context
from .._arrays.inspect import OWN_NAMESPACES, Array, Namespace, spread
from ..core.call import LossCall
from ..core.options import Outputs
from ..core.reduce import sum_once
from ..core.token_stats import Tokens
from .eager import dense

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
    if call.memory is not None and (cotangent is None or not spread(cotangent)):
        return _remembered(call)
    if call.cx.library == "torch":
        _refuse_dtensors(call, cotangent)
    form = _form(call)
    if form == "dense":
        return of(call)
    packages = _EXCHANGING if form == "sharded" else _PACKAGES
    found: Loss = packages.get(call.cx.library, _eager)(form)
    return found


def of_tokens(call: LossCall) -> Whole:
    """Return the backend that takes the statistics of rows whose classes are all here."""
    if call.cx.library == "torch":
        _refuse_dtensors(call)
    if call.linear is None:
        return of(call)
    found: Whole = _PACKAGES.get(call.cx.library, _eager)("linear")
    return found


def of(call: LossCall) -> Backend:
    """Return the backend that takes whole logits of the call's library."""
    package = _PACKAGES.get(call.cx.library)
    return dense if package is None else package("dense")


def square_sum(cx: Context, x: Array) -> Array:
    """Sum the squares of all elements."""
    if cx.library == "jax":  # compiled as one function, so that no array of squares is stored
        total: Array = _jax("dense").square_sum(x)
        return total
    return sum_once(cx, x * x)


def _form(call: LossCall) -> Form:
    """Say what the logits of a call are: they decide which module takes it."""
    if call.linear is not None:
        return "linear"
    if call.group is not None:
        return "sharded"
    return "dtensor" if spread(call.operands.x) else "dense"


def _remembered(call: LossCall) -> Backend:
    """Return the backend of a call that is remembered with others of the same fingerprint."""
    assert call.memory is not None
    found: Backend | None = call.memory.get("backend")
    if found is None:
        found = call.memory["backend"] = of(call)
    return found


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


# One function a package, which imports a module when the first call needs it: xloss imports no
# array library that its caller does not use. They are import statements, not calls of
# importlib.import_module, because torch.compile traces through them.


def _torch(form: Form) -> Any:
    if form == "dense":
        from .torch import backend

        return backend
    if form == "dtensor":  # alone: torch.distributed takes long to import
        from .torch import dtensor

        return dtensor
    from .torch import linear, sharded

    return linear if form == "linear" else sharded


def _jax(form: Form) -> Any:
    from .jax import backend, linear, sharded

    return {"dense": backend, "linear": linear, "sharded": sharded}[form]


def _dask(form: Form) -> Any:
    from .dask import backend, linear

    return linear if form == "linear" else backend


def _cupy(form: Form) -> Any:
    from .cupy import backend, linear

    return linear if form == "linear" else backend


def _tensorflow(form: Form) -> Any:
    from .tensorflow import backend, linear

    return linear if form == "linear" else backend


def _eager(form: Form) -> Any:
    from .eager import linear, sharded

    return {"dense": dense, "linear": linear, "sharded": sharded}[form]


# The registry: a library's name, and its package. Every other library is taken by `eager`, and so
# are exchanges between ranks where a library has none of its own.
_EXCHANGING: dict[str, Callable[[Form], Any]] = {"torch": _torch, "jax": _jax}
_PACKAGES = {**_EXCHANGING, "dask": _dask, "cupy": _cupy, "tensorflow": _tensorflow}


def _tensorflow_namespace(x: Any) -> Namespace | None:
    """Return the namespace of a dense tensor or a Variable of TensorFlow, else None."""
    tf = sys.modules.get("tensorflow")  # None: another class of a module of that name
    if tf is None or not isinstance(x, (tf.Tensor, tf.Variable)):
        return None
    from .tensorflow import namespace

    return namespace


OWN_NAMESPACES["tensorflow"] = _tensorflow_namespace
