"""Log-sum-exp, softmax and its logarithm, each cancelling nothing."""

from __future__ import annotations

from .. import backends
from .._typing import Array
from ..losses._call import evaluate
from ..losses._prepare import logits_call, without_masked


def logsumexp(x: Array, /, *, axis: int = -1, keepdims: bool = False) -> Array:
    r"""Logarithm of the sum of exponentials along an axis: ``max + log1p(rest)``.

    ``rest`` sums exp(x - max) over all but one maximum, so a row's tail is not lost beside it.

    Parameters
    ----------
    x : floating array of at least one axis
        A row of -inf alone, or of no class, gives -inf; +inf gives +inf.
    axis : int, default -1
        The axis that is summed over.
    keepdims : bool, default False
        True keeps that axis in the result, with length 1.

    Returns
    -------
    Array
        Of the shape of x without the axis; float64 for float64 x, else float32.

    Raises
    ------
    TypeError
        An argument of the wrong type or dtype. The message names it.
    ValueError
        An argument of the wrong shape. The message names it.

    See Also
    --------
    softmax, log_softmax : the probabilities that this normalises, and their logarithms.
    cross_entropy : a log-sum-exp minus the logit of the label.

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
    call = logits_call("logsumexp", x, axis=axis, first="x")
    out = evaluate(call)
    if not keepdims:
        return out
    place = axis if axis >= 0 else x.ndim + axis
    # Dask expands no dims of unknown length, and indexes them.
    expanded: Array = out[(slice(None),) * place + (None, ...)]
    return expanded


def log_softmax(x: Array, /, *, axis: int = -1) -> Array:
    r"""Logarithm of softmax along an axis: ``-(log1p(rest) + (max - x))``.

    Both terms are non-negative, so a log-probability near 0 keeps its digits.

    Parameters
    ----------
    x : floating array of at least one axis
        -inf masks a class, whose log-probability is -inf.
    axis : int, default -1
        The class axis.

    Returns
    -------
    Array
        Of the shape of x; float64 for float64 x, else float32. A row of -inf alone is NaN.

    Raises
    ------
    TypeError
        An argument of the wrong type or dtype. The message names it.
    ValueError
        An argument of the wrong shape. The message names it.

    See Also
    --------
    softmax : the probabilities themselves.
    nll_loss : the loss of log-probabilities.

    References
    ----------
    Blanchard, Higham and Higham, "Accurately computing the log-sum-exp and softmax functions",
    IMA J. Numer. Anal. 41 (2021).

    Examples
    --------
    >>> import numpy as np
    >>> from xloss import log_softmax
    >>> log_softmax(np.array([0.0, 40.0]))
    array([-4.00000000e+01, -4.24835426e-18])
    """
    call = logits_call("log_softmax", x, axis=axis, first="x")
    out: Array = without_masked(x, backends.of(call).elements(call), call.axis)
    return out


def softmax(x: Array, /, *, axis: int = -1) -> Array:
    r"""Exponentials along an axis, divided by their sum.

    Parameters
    ----------
    x : floating array of at least one axis
        -inf masks a class, whose probability is 0; +inf logits share the whole probability.
    axis : int, default -1
        The class axis.

    Returns
    -------
    Array
        Of the shape of x; float64 for float64 x, else float32. A row of -inf alone is NaN.

    Raises
    ------
    TypeError
        An argument of the wrong type or dtype. The message names it.
    ValueError
        An argument of the wrong shape. The message names it.

    See Also
    --------
    log_softmax : the logarithms, without rounding the probabilities near 1 first.
    log_loss : the loss of probabilities.

    References
    ----------
    Blanchard, Higham and Higham, "Accurately computing the log-sum-exp and softmax functions",
    IMA J. Numer. Anal. 41 (2021).

    Examples
    --------
    >>> import numpy as np
    >>> from xloss import softmax
    >>> softmax(np.array([0.0, 0.0, -np.inf]))
    array([0.5, 0.5, 0. ])
    """
    call = logits_call("softmax", x, axis=axis, first="x")
    out: Array = without_masked(x, backends.of(call).elements(call), call.axis)
    return out
