"""Closed-form gradients of the losses, on every array library and without autodiff."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import partial
from inspect import Signature, signature
from types import FunctionType
from typing import Any, NamedTuple, Protocol, overload

from . import backends
from ._arrays.foreign import described
from ._arrays.inspect import as_written, dtype_name, is_integer, is_real_float
from ._typing import Argnum, Array
from .core.call import LossCall
from .losses._check import beside
from .losses._class_shards import prepare_linear, prepare_shard
from .losses._lengths import same_shape
from .losses._prepare import classes_call, elements_call, logits_call, without_masked
from .losses.binary import (
    binary_cross_entropy,
    binary_cross_entropy_with_logits,
    sigmoid_focal_loss,
)
from .losses.cross_entropy import cross_entropy
from .losses.cross_entropy_class import CrossEntropyLoss
from .losses.divergence import entropy, kl_div
from .losses.focal import focal_loss
from .losses.linear import linear_cross_entropy
from .losses.log_loss import log_loss
from .losses.nll import nll_loss
from .losses.parallel import vocab_parallel_cross_entropy
from .ops.numbers import l2_penalty, l2_value_and_grad
from .ops.softmax import logsumexp

__all__ = ["value_and_grad"]


class Differentiable(NamedTuple):
    """How the call of a public function is prepared, and what its arguments are named."""

    prepare: Callable[..., LossCall]  # takes all arguments of the function, its defaults filled in
    signature: Signature
    names: tuple[str, ...]  # the names of all arguments, in the order that argnums counts
    positional: int  # how many of them are positional
    defaults: dict[str, Any]  # of the keyword arguments


def _differentiable(
    function: Callable[..., Array], prepare: Callable[..., LossCall], without: tuple[str, ...] = ()
) -> Differentiable:
    """Describe a public function by its signature, without keywords that are not differentiated."""
    taken = [p for p in signature(function).parameters.values() if p.name not in without]
    keywords = [p for p in taken if p.kind is p.KEYWORD_ONLY]
    return Differentiable(
        prepare,
        Signature(taken),
        tuple(p.name for p in taken),
        len(taken) - len(keywords),
        {p.name: p.default for p in keywords if p.default is not p.empty},
    )


def _classes(function: Callable[..., Array], first: str = "logits") -> Differentiable:
    return _differentiable(function, partial(classes_call, function.__name__, first=first))


def _elements(function: Callable[..., Array], first: str = "logits", **kind: Any) -> Differentiable:
    prepare = partial(elements_call, function.__name__, first=first, **kind)
    return _differentiable(function, prepare)


# What has a closed-form gradient. Each `prepare` is what the function's own body calls; signatures
# are read once, here, and not while torch.compile traces a call.
DIFFERENTIABLE: dict[Callable[..., Array], Differentiable] = {
    cross_entropy: _classes(cross_entropy),
    nll_loss: _classes(nll_loss, "log_probs"),
    log_loss: _classes(log_loss, "probs"),
    focal_loss: _classes(focal_loss),
    binary_cross_entropy_with_logits: _elements(binary_cross_entropy_with_logits),
    binary_cross_entropy: _elements(binary_cross_entropy, "probs"),
    sigmoid_focal_loss: _elements(sigmoid_focal_loss),
    kl_div: _elements(kl_div, "log_probs", binary=False),
    linear_cross_entropy: _differentiable(linear_cross_entropy, prepare_linear),
    vocab_parallel_cross_entropy: _differentiable(vocab_parallel_cross_entropy, prepare_shard),
    entropy: _differentiable(entropy, partial(logits_call, "entropy")),
    logsumexp: _differentiable(
        logsumexp, partial(logits_call, "logsumexp", first="x"), without=("keepdims",)
    ),
}


class Penalty(Protocol):
    """The type of :func:`l2_penalty`, whose gradient is a tuple where its parameters are many."""

    def __call__(self, params: Array | Iterable[Array], /, *, strength: float) -> Array: ...


@overload
def value_and_grad(
    loss: Penalty, argnums: Argnum | tuple[Argnum, ...] = 0
) -> Callable[..., tuple[Array, Any]]: ...


@overload
def value_and_grad(
    loss: Callable[..., Array], argnums: Argnum = 0
) -> Callable[..., tuple[Array, Array]]: ...


@overload
def value_and_grad(
    loss: Callable[..., Array], argnums: tuple[Argnum, ...]
) -> Callable[..., tuple[Array, tuple[Array, ...]]]: ...


def value_and_grad(
    loss: Callable[..., Array], argnums: Argnum | tuple[Argnum, ...] = 0
) -> Callable[..., tuple[Array, Any]]:
    r"""Return a function that computes an xloss loss and its gradient in one pass.

    The gradient is the closed form, for a softmax loss ``p_j (A - a_j) - a_j (1 - p_j)`` with
    a_j = weight_j q_j and A their sum, each factor by a form that cancels nothing. No autodiff
    is used or recorded.

    Parameters
    ----------
    loss : function
        A loss of this package, :func:`entropy`, :func:`logsumexp`, :func:`l2_penalty`, or a
        :class:`CrossEntropyLoss`. A function that wraps one of them is refused: what it does
        beside the loss would be left out.
    argnums : int, str, or tuple of int and str, default 0
        What to differentiate: the position or the name of an argument, or a tuple of them. The
        first argument has a gradient, soft targets have one, and so have ``weight`` and ``bias``
        of :func:`linear_cross_entropy`. All other arguments are constants.

    Returns
    -------
    Callable
        ``(*args, cotangent=None, **kwargs) -> (value, gradient)``. The gradient has its
        argument's shape and dtype; a tuple of argnums gives a tuple. ``cotangent``, of the
        value's shape, is what the gradient is multiplied by (1 where absent: with
        reduction="none", the gradient of the sum).

    Raises
    ------
    TypeError
        ``loss`` is not one of xloss, or an argument is of integers.
    ValueError
        No such argument, or a constant one.

    See Also
    --------
    cross_entropy, linear_cross_entropy : losses to begin with; PyTorch's autograd and JAX's
        transformations differentiate them too.

    References
    ----------
    Bishop, *Pattern Recognition and Machine Learning* (2006), equation 4.109.

    Examples
    --------
    >>> import numpy as np
    >>> from xloss import cross_entropy, value_and_grad
    >>> value, gradient = value_and_grad(cross_entropy)(np.zeros((1, 2)), np.array([0]))
    >>> gradient
    array([[-0.5,  0.5]])
    """
    if loss is l2_penalty:  # its gradient needs no prepared call: strength times its parameters
        return l2_value_and_grad(argnums)
    names = ("logits", "targets") if isinstance(loss, CrossEntropyLoss) else _entry(loss).names
    asked = argnums if isinstance(argnums, tuple) else (argnums,)
    wanted = tuple(_name(a, names) for a in asked)
    # No closure: a partial of a function of this module can be pickled, as its loss can.
    return partial(_run, loss, wanted, isinstance(argnums, tuple))


def _entry(loss: Any) -> Differentiable:
    """Return the entry of this very function; a function that wraps it has none."""
    if not isinstance(loss, FunctionType) or loss not in DIFFERENTIABLE:
        raise TypeError(f"loss: expected a loss of xloss, got {loss!r}")
    return DIFFERENTIABLE[loss]


def prepared(loss: Any, /, *args: Any, **kwargs: Any) -> LossCall:
    """Return the call that a loss of xloss evaluates for these arguments."""
    if isinstance(loss, CrossEntropyLoss):
        return loss.prepare(*args, **kwargs)
    entry = _entry(loss)
    options = {**entry.defaults, **kwargs}
    # `prepare` also takes options of other losses, and names itself in Python's own errors. Binding
    # to the function's signature names the function, but takes longer than a small loss.
    if (
        len(args) != entry.positional
        or len(args) + len(options) != len(entry.names)
        or not kwargs.keys() <= set(entry.names)
    ):
        try:
            entry.signature.bind(*args, **kwargs)
        except TypeError as error:
            raise TypeError(f"{loss.__name__}: {error}") from None
    return entry.prepare(*args, **options)


@as_written
def _run(
    loss: Any,
    wanted: tuple[str, ...],
    several: bool,
    /,
    *args: Any,
    cotangent: Any = None,
    **kwargs: Any,
) -> tuple[Array, Any]:
    """Compute a loss and its gradients to the arguments of these names."""
    call = prepared(loss, *args, **kwargs)
    keys = tuple([_operand(name, call) for name in wanted])
    given = None if cotangent is None else _cotangent(cotangent, call)
    value, grads = backends.of_loss(call, given).value_and_grad(call, keys, given)
    out = tuple([grads[key] for key in keys])
    if call.operands.targets is None:  # `logits_call` may have put a class in the place of none
        out = tuple(without_masked(args[0], g, call.axis) for g in out)
    return value, out if several else out[0]


def _name(argument: int | str, names: tuple[str, ...]) -> str:
    """Return the name of an argument given by position or name."""
    if isinstance(argument, bool) or not isinstance(argument, (int, str)):
        raise TypeError(f"argnums: expected ints or names, got {argument!r}")
    if isinstance(argument, str):
        if argument not in names:
            raise ValueError(f"argnums: no argument {argument!r} among {list(names)}")
        return argument
    if not -len(names) <= argument < len(names):
        raise ValueError(f"argnums: no argument at position {argument} of {len(names)}")
    return names[argument]


def _operand(name: str, call: LossCall) -> str:
    """Return which operand an argument is, if it can be differentiated."""
    if name not in call.arguments:
        raise ValueError(
            f"argnums: {name} is a constant of {call.name}; "
            f"gradients go to {' and '.join(call.arguments)}"
        )
    if name == call.arguments[0]:
        return "x"
    if name != "targets":
        if getattr(call.linear, name) is None:
            raise ValueError(f"argnums: {name} is not given")
        return name
    targets = call.operands.targets
    if targets is None or not is_real_float(targets.dtype):
        kind = "nothing" if targets is None else dtype_name(targets.dtype)
        raise TypeError(f"argnums: targets of dtype {kind} have no gradient")
    return "targets"


def _cotangent(cotangent: Any, call: LossCall) -> Array:
    """Check the cotangent against the value's shape."""
    cx, o = call.cx, call.operands
    expected = "a floating array of the value's shape"
    c: Array = beside("cotangent", cotangent, cx, call.arguments[0], expected)
    if not (is_real_float(c.dtype) or is_integer(c.dtype)):
        raise TypeError(f"cotangent: expected {expected}, got {described(cotangent)}")
    rows = tuple(o.x.shape[:-1]) if call.classes else tuple(o.x.shape)
    shape = rows if call.options.reduction == "none" else ()
    if not same_shape(tuple(c.shape), shape):
        raise ValueError(f"cotangent: expected shape {shape}, got {tuple(c.shape)}")
    return c
