"""Divergence between distributions, and their entropy."""

from __future__ import annotations

from typing import Any

from .._arrays.inspect import Array
from ..core.call import LossCall
from ._call import loss
from ._prepare import elements_call, logits_call


@loss
def kl_div(
    log_probs: Array,
    targets: Array,
    /,
    *,
    axis: int = -1,
    log_target: bool = False,
    sample_weight: Array | None = None,
    where: Array | None = None,
    reduction: str = "mean",
    normalizer: Any = None,
) -> LossCall:
    r"""Kullback-Leibler divergence of the targets from log-probabilities that are given.

    ``row_i = sample_weight_i * sum_j t_ij (log t_ij - log_probs_ij)``, a class with t = 0
    absent: it adds nothing, to the gradients either. "mean" is over rows, as PyTorch's
    "batchmean": ``sum_i row_i / sum_i sample_weight_i``.

    Parameters
    ----------
    log_probs
        Floating array (*rows, classes), the class axis anywhere.
    targets
        Probabilities of the same shape, or their logarithms.
    axis
        The class axis.
    log_target
        True: targets are log-probabilities.
    sample_weight, where
        A constant weight, or a truth value, for each row, as in :func:`cross_entropy`.
    reduction, normalizer
        As in :func:`cross_entropy`.

    Returns
    -------
    Array
        0-d, or one divergence a row, in nats; float64 for float64 input, else float32.

    Raises
    ------
    TypeError, ValueError
        An argument of the wrong type, dtype, shape, library or device, named.

    References
    ----------
    Kullback and Leibler, "On information and sufficiency", Ann. Math. Stat. 22 (1951).

    Examples
    --------
    >>> import numpy as np
    >>> from xloss import kl_div
    >>> float(kl_div(np.log([[0.5, 0.5]]), np.array([[1.0, 0.0]])))
    0.6931471805599453
    """
    return elements_call(
        "kl_div",
        log_probs,
        targets,
        first="log_probs",
        binary=False,
        axis=axis,
        log_target=log_target,
        sample_weight=sample_weight,
        where=where,
        reduction=reduction,
        normalizer=normalizer,
    )


@loss
def entropy(logits: Array, /, *, axis: int = -1) -> LossCall:
    r"""Entropy of softmax(logits), one number a row: ``-sum_j p_j log p_j``, in nats.

    Parameters
    ----------
    logits
        Floating array (*rows, classes), the class axis anywhere; -inf masks a class.
    axis
        The class axis.

    Returns
    -------
    Array
        Of the logits' shape without the class axis; float64 for float64 logits, else float32.

    Raises
    ------
    TypeError, ValueError
        An argument of the wrong type, dtype or shape, named.

    References
    ----------
    Shannon, "A mathematical theory of communication" (1948), section 6.

    Examples
    --------
    >>> import numpy as np
    >>> from xloss import entropy
    >>> entropy(np.array([[0.0, 0.0], [0.0, -np.inf]]))
    array([0.69314718, 0.        ])
    """
    return logits_call("entropy", logits, axis=axis)
