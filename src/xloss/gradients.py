"""The same call, with its closed-form gradient: on every array library, without autodiff."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

from . import backends
from ._arrays.foreign import described
from ._arrays.inspect import Array, dtype_name, is_integer, is_real_float
from .core.call import LossCall
from .losses._check import beside
from .losses._lengths import same_shape
from .losses._prepare import without_masked

__all__ = ["value_and_grad"]


def value_and_grad(
    loss: Callable[..., Array], argnums: int | str | tuple[int | str, ...] = 0
) -> Callable[..., tuple[Array, Any]]:
    r"""Return a function that computes an xloss loss and its gradient in one pass.

    The gradient is the closed form, for a softmax loss ``p_j (A - a_j) - a_j (1 - p_j)`` with
    a_j = weight_j q_j and A their sum, each factor by a form that cancels nothing. No autodiff
    is used or recorded.

    Parameters
    ----------
    loss
        A loss of this package, a :class:`CrossEntropyLoss`, or :func:`l2_penalty`.
    argnums
        What to differentiate: the position or the name of an argument, or a tuple of them. The
        first argument, and targets where they are floating; weights are constants.

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
    special = getattr(loss, "value_and_grad", None)
    if special is not None:
        made: Callable[..., tuple[Array, Any]] = special(argnums)
        return made
    prepare = getattr(loss, "prepare", None)
    if prepare is None:
        raise TypeError(f"loss: expected a loss of xloss, got {loss!r}")
    names: tuple[str, ...] = prepare.names
    asked = argnums if isinstance(argnums, tuple) else (argnums,)
    wanted = tuple(_name(a, names) for a in asked)
    # No closure: a partial of a function of this module can be pickled, as its loss can.
    return partial(_run, loss, wanted, isinstance(argnums, tuple))


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
    call: LossCall = loss.prepare(*args, **kwargs)
    keys = tuple(_operand(name, call) for name in wanted)
    value, grads = backends.of_loss(call).value_and_grad(
        call, keys, None if cotangent is None else _cotangent(cotangent, call)
    )
    out = tuple(grads[key] for key in keys)
    if call.operands.targets is None:  # of logits alone, of which there may be none in a row
        out = tuple(without_masked(args[0], g, call.axis) for g in out)
    return value, out if several else out[0]


def _name(argument: int | str, names: tuple[str, ...]) -> str:
    """Return the name of an argument given by position or name."""
    if isinstance(argument, bool) or not isinstance(argument, int | str):
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
    c = beside("cotangent", cotangent, cx, call.arguments[0], expected)
    if not (is_real_float(c.dtype) or is_integer(c.dtype)):
        raise TypeError(f"cotangent: expected {expected}, got {described(cotangent)}")
    rows = tuple(o.x.shape[:-1]) if call.classes else tuple(o.x.shape)
    shape = rows if call.options.reduction == "none" else ()
    if not same_shape(tuple(c.shape), shape):
        raise ValueError(f"cotangent: expected shape {shape}, got {tuple(c.shape)}")
    return c
