"""Numbers made of numbers: the L2 penalty, and perplexity."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from functools import partial
from numbers import Real
from typing import Any, overload

import numpy as np

from .. import backends
from .._arrays.context import Context
from .._arrays.inspect import as_written, dtype_name, is_real_float, namespace
from .._typing import Array
from ..losses import _check as check


@overload
def perplexity(loss: float, /) -> float: ...


@overload
def perplexity(loss: Array, /) -> Array: ...


def perplexity(loss: Array | float, /) -> Array | float:
    r"""Perplexity of a mean cross-entropy in nats: ``exp(loss)``.

    Parameters
    ----------
    loss : floating array of any shape, or float
        A mean cross-entropy, or one for each row.

    Returns
    -------
    Array or float
        A float for a float. For an array, one of its shape: float64 for float64, else float32.
        inf where the exponential overflows.

    Raises
    ------
    TypeError
        Anything else. The message says what came.

    See Also
    --------
    cross_entropy : the loss.
    Evaluation : loss and perplexity over many batches.

    References
    ----------
    Jelinek et al., "Perplexity: a measure of the difficulty of speech recognition tasks" (1977).

    Examples
    --------
    >>> from xloss import perplexity
    >>> perplexity(0.0)
    1.0
    """
    if isinstance(loss, (int, float)) and not isinstance(loss, (bool, np.generic)):
        try:
            return math.exp(loss)
        except OverflowError:
            return math.inf
    x, cx = check.logits("loss", loss)
    with cx.quiet():
        result: Array = cx.plain(cx.xp.exp(cx.cast(x, cx.compute_dtype)))
    return result


def l2_penalty(params: Array | Iterable[Array], /, *, strength: float) -> Array:
    r"""Half the squared Euclidean norm of the parameters: ``strength / 2 * sum ||p||**2``.

    Parameters
    ----------
    params : floating array, or iterable of floating arrays
        Of any shapes and dtypes, and of one library.
    strength : float >= 0
        Factor of the penalty. With a mean loss over n rows, scikit-learn's C is
        1 / (n * strength).

    Returns
    -------
    Array
        0-d; float64 where a parameter is, else float32. ``value_and_grad(l2_penalty)`` gives
        the gradient ``strength * p``, of each array in a tuple for an iterable.

    Raises
    ------
    TypeError
        An argument of the wrong type, dtype or library. The message names it.
    ValueError
        An argument of the wrong shape, value or device. The message names it.

    See Also
    --------
    value_and_grad : the penalty and its gradient.
    cross_entropy : the loss that it is added to.

    References
    ----------
    Hoerl and Kennard, "Ridge regression", Technometrics 12 (1970).

    Examples
    --------
    >>> import numpy as np
    >>> from xloss import l2_penalty
    >>> float(l2_penalty([np.ones(3), np.ones((2, 2))], strength=2.0))
    7.0
    """
    arrays, contexts, factor, _ = _params(params, strength)
    return _half_squares(arrays, contexts, factor)


def _half_squares(arrays: list[Array], contexts: list[Context], factor: float) -> Array:
    cx = contexts[0]
    total: Any = None
    for x, own in zip(arrays, contexts, strict=True):
        x = own.cast(x, own.compute_dtype)
        part = own.cast(backends.square_sum(own, x), cx.sum_dtype)
        total = part if total is None else total + part
    wide = any(dtype_name(own.compute_dtype) == "float64" for own in contexts)
    half: Array = cx.plain(
        cx.cast(0.5 * factor * total, cx.xp.float64 if wide else cx.compute_dtype)
    )
    return half


def l2_value_and_grad(argnums: Any) -> Callable[..., tuple[Array, Any]]:
    """Return what computes the penalty and its gradient, for `value_and_grad`."""
    several = isinstance(argnums, tuple)
    for argument in argnums if several else (argnums,):
        if isinstance(argument, (bool, np.bool_)) or argument not in (0, "params"):
            raise ValueError(f"argnums: l2_penalty has a gradient to params only, got {argument!r}")
    # No closure: a partial of a function of this module can be pickled.
    return partial(_l2_run, several)


@as_written
def _l2_run(
    several: bool, params: Any, /, *, strength: float, cotangent: Any = 1.0
) -> tuple[Array, Any]:
    arrays, contexts, factor, single = _params(params, strength)
    if isinstance(cotangent, Real) and not isinstance(cotangent, bool):
        cot: Any = float(cotangent)
    else:
        expected = "a number or a 0-d array"
        cot = check.beside("cotangent", cotangent, contexts[0], "params", expected)
        if not is_real_float(cot.dtype):
            raise TypeError(f"cotangent: expected {expected}, got {check.described(cotangent)}")
        if tuple(cot.shape) != ():
            raise ValueError(f"cotangent: expected shape (), got {tuple(cot.shape)}")
    grads = tuple(
        c.cast(c.cast(x, c.compute_dtype) * _number(factor * cot, c), x.dtype)
        for x, c in zip(arrays, contexts, strict=True)
    )
    gradient = grads[0] if single else grads
    return _half_squares(arrays, contexts, factor), (gradient,) if several else gradient


def _number(value: Any, cx: Context) -> Any:
    return cx.cast(value, cx.compute_dtype) if hasattr(value, "dtype") else value


def _params(params: Any, strength: Any) -> tuple[list[Array], list[Context], float, bool]:
    """Check parameters: one array, or several of one library."""
    factor = check.number("strength", strength, 0.0)
    single = namespace(params) is not None
    if not single and (not isinstance(params, Iterable) or hasattr(params, "shape")):
        check.taken("params", params, "an array or an iterable of arrays")  # raises
    pairs = [check.logits("params", x) for x in ([params] if single else params)]
    if not pairs:
        raise ValueError("params: expected at least one array")
    for x, _ in pairs[1:]:
        check.same_home("params", x, pairs[0][1], "the first of params", "an array")
    return [x for x, _ in pairs], [cx for _, cx in pairs], factor, single
