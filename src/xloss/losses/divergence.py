"""Divergence between distributions, and their entropy."""

from __future__ import annotations

from .._typing import Array, Normalizer, Reduction
from ._call import evaluate
from ._prepare import elements_call, logits_call


def kl_div(
    log_probs: Array,
    targets: Array,
    /,
    *,
    axis: int = -1,
    log_target: bool = False,
    sample_weight: Array | None = None,
    where: Array | None = None,
    reduction: Reduction = "mean",
    normalizer: Normalizer | None = None,
) -> Array:
    r"""Kullback-Leibler divergence of the targets from log-probabilities that are given.

    ``row_i = sample_weight_i * sum_j t_ij (log t_ij - log_probs_ij)``, a class with t = 0
    absent: it adds nothing, to the gradients either. "mean" is over rows, as PyTorch's
    "batchmean": ``sum_i row_i / sum_i sample_weight_i``.

    Parameters
    ----------
    log_probs : floating array of shape (*rows, classes)
        The class axis may stand anywhere (see ``axis``).
    targets : floating array of the shape of log_probs
        Probabilities, or their logarithms (see ``log_target``). This and the arrays below may be
        NumPy's beside log_probs of any library.
    axis : int, default -1
        The class axis of log_probs and targets.
    log_target : bool, default False
        True: targets are log-probabilities.
    sample_weight : array that broadcasts to (*rows), optional
        A constant weight for each row, of any integer or floating dtype. A row of weight 0 is
        absent.
    where : array of bool that broadcasts to (*rows), optional
        False makes a row absent: it contributes exactly nothing to loss and gradient, whatever
        stands in it, NaN included.
    reduction : {"mean", "sum", "none"}, default "mean"
        "mean" is the sum of the row losses divided by the sum of the sample weights, and 0 where no
        row counts; "sum" is the sum alone; "none" returns one divergence a row.
    normalizer : float or 0-d array, optional
        Takes the place of the mean's denominator: the count of a whole global batch, for example.
        It needs ``reduction="mean"``.

    Returns
    -------
    Array
        0-d, or one divergence a row, in nats; float64 for float64 log_probs, else float32.

    Raises
    ------
    TypeError
        An argument of the wrong type, dtype or library. The message names it.
    ValueError
        An argument of the wrong shape, value or device. The message names it.

    See Also
    --------
    cross_entropy : differs by the entropy of the targets, which has no gradient to the logits.
    entropy : of softmax(logits).
    log_softmax : makes log-probabilities of logits.

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
    call = elements_call(
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
    return evaluate(call)


def entropy(logits: Array, /, *, axis: int = -1) -> Array:
    r"""Entropy of softmax(logits), one number a row: ``-sum_j p_j log p_j``, in nats.

    Parameters
    ----------
    logits : floating array of shape (*rows, classes)
        The class axis may stand anywhere (see ``axis``). -inf masks a class.
    axis : int, default -1
        The class axis.

    Returns
    -------
    Array
        Of shape (*rows), the logits' without the class axis; float64 for float64 logits, else
        float32.

    Raises
    ------
    TypeError
        An argument of the wrong type, dtype or library. The message names it.
    ValueError
        An argument of the wrong shape, value or device. The message names it.

    See Also
    --------
    kl_div : the divergence of one distribution from another.
    logsumexp, softmax : of the same logits.

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
    call = logits_call("entropy", logits, axis=axis)
    return evaluate(call)
