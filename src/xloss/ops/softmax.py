"""Log-sum-exp, softmax and its logarithm, each cancelling nothing."""

from __future__ import annotations

from .. import backends
from .._arrays.inspect import Array, namespace
from ..core.call import LossCall
from ..losses._call import loss
from ..losses._prepare import logits_call, without_masked


@loss
def _logsumexp(x: Array, /, *, axis: int = -1) -> LossCall:
    return logits_call("logsumexp", x, axis=axis, first="x")


def logsumexp(x: Array, /, *, axis: int = -1, keepdims: bool = False) -> Array:
    r"""Logarithm of the sum of exponentials along an axis: ``max + log1p(rest)``.

    ``rest`` sums exp(x - max) over all but one maximum, so a row's tail is not lost beside it.

    Parameters
    ----------
    x
        Floating array. Rows of -inf alone, or of no class, give -inf; +inf gives +inf.
    axis
        The axis summed over.
    keepdims
        Keep that axis with length 1.

    Returns
    -------
    Array
        float64 for float64 input, else float32.

    Raises
    ------
    TypeError, ValueError
        An argument of the wrong type, dtype or shape, named.

    References
    ----------
    Blanchard, Higham and Higham, "Accurately computing the log-sum-exp and softmax functions",
    IMA J. Numer. Anal. 41 (2021).

    Examples
    --------
    >>> import numpy as np
    >>> from xloss import logsumexp
    >>> float(logsumexp(np.array([0.0, 0.0])))
    0.6931471805599453
    """
    out = _logsumexp(x, axis=axis)
    if not keepdims:
        return out
    place = axis if axis >= 0 else x.ndim + axis
    # Dask expands no dims of unknown length, and indexes them.
    return namespace(x).asarray(out)[(slice(None),) * place + (None, ...)]


logsumexp.prepare = _logsumexp.prepare  # type: ignore[attr-defined]


def log_softmax(x: Array, /, *, axis: int = -1) -> Array:
    r"""Logarithm of softmax along an axis: ``-(log1p(rest) + (max - x))``.

    Both terms are non-negative, so a log-probability near 0 keeps its digits.

    Parameters
    ----------
    x
        Floating array; -inf masks a class, whose log-probability is -inf.
    axis
        The class axis.

    Returns
    -------
    Array
        Of x's shape; float64 for float64 input, else float32. A row of -inf alone is NaN.

    Raises
    ------
    TypeError, ValueError
        An argument of the wrong type, dtype or shape, named.

    References
    ----------
    Blanchard, Higham and Higham, as for :func:`logsumexp`.

    Examples
    --------
    >>> import numpy as np
    >>> from xloss import log_softmax
    >>> log_softmax(np.array([0.0, 40.0]))
    array([-4.00000000e+01, -4.24835426e-18])
    """
    call = logits_call("log_softmax", x, axis=axis, first="x")
    return without_masked(x, backends.of(call).elements(call), call.axis)


def softmax(x: Array, /, *, axis: int = -1) -> Array:
    r"""Exponentials along an axis, divided by their sum.

    Parameters
    ----------
    x
        Floating array; -inf masks a class, +inf logits share the whole probability.
    axis
        The class axis.

    Returns
    -------
    Array
        Of x's shape; float64 for float64 input, else float32. A row of -inf alone is NaN.

    Raises
    ------
    TypeError, ValueError
        An argument of the wrong type, dtype or shape, named.

    References
    ----------
    Blanchard, Higham and Higham, as for :func:`logsumexp`.

    Examples
    --------
    >>> import numpy as np
    >>> from xloss import softmax
    >>> softmax(np.array([0.0, 0.0, -np.inf]))
    array([0.5, 0.5, 0. ])
    """
    call = logits_call("softmax", x, axis=axis, first="x")
    return without_masked(x, backends.of(call).elements(call), call.axis)
