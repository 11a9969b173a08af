"""Negative log-likelihood: the loss of log-probabilities."""

from __future__ import annotations

from .._typing import Array, Normalizer, Reduction, Validate
from ._call import evaluate
from ._prepare import classes_call


def nll_loss(
    log_probs: Array,
    targets: Array,
    /,
    *,
    axis: int = -1,
    weight: Array | None = None,
    sample_weight: Array | None = None,
    where: Array | None = None,
    ignore_index: int | None = -100,
    label_smoothing: float = 0.0,
    reduction: Reduction = "mean",
    normalizer: Normalizer | None = None,
    validate: Validate = "auto",
) -> Array:
    r"""Negative log-likelihood of log-probabilities that are given.

    Each row gives ::

        row_i = sample_weight_i * sum_j weight_j q_ij (-log_probs_ij)
        q     = (1 - label_smoothing) * t + label_smoothing * (sum_j t_ij) * u
        W_i   = sample_weight_i * sum_j weight_j t_ij          (weights are 1 where absent)

    where t is the target (one-hot for an index) and u is uniform over the classes with
    log_probs > -inf. ``"mean"`` is ``sum_i row_i / sum_i W_i``. The log-probabilities are taken
    as they are, and not normalised again.

    Parameters
    ----------
    log_probs : floating array of shape (*rows, classes)
        The class axis may stand anywhere (see ``axis``). -inf is a probability of 0: no loss
        where the target is 0, +inf where it is not. With class indices and no smoothing only the
        label's entry of a row is read.
    targets : array, integer or floating
        Class indices of any integer dtype and of shape (*rows), which is the shape of log_probs
        without the class axis; or soft targets, which are probabilities of any floating dtype, of
        the shape of log_probs. This and the arrays below may be NumPy's beside log_probs of any
        library.
    axis : int, default -1
        The class axis of log_probs and of soft targets.
    weight : array of shape (classes,), optional
        A constant weight for each class, of any integer or floating dtype. Absent: 1 for each.
    sample_weight : array that broadcasts to (*rows), optional
        A constant weight for each row, of any integer or floating dtype. A row of weight 0 is
        absent.
    where : array of bool that broadcasts to (*rows), optional
        False makes a row absent: it contributes exactly nothing to loss and gradient, whatever
        stands in it, NaN included.
    ignore_index : int or None, default -100
        The label of absent rows; None: no label is special. With soft targets it is unused, and
        an error if it is 0 or more.
    label_smoothing : float in [0, 1], default 0.0
        The share of each target that is spread evenly over the classes of its row with log_probs >
        -inf.
    reduction : {"mean", "sum", "none"}, default "mean"
        "mean" is the sum of the row losses divided by the sum of the row weights W, and 0 where no
        row counts; "sum" is the sum alone; "none" returns one loss a row.
    normalizer : float or 0-d array, optional
        Takes the place of the mean's denominator: the count of a whole global batch, for example.
        It needs ``reduction="mean"``.
    validate : {"auto", True, False}, default "auto"
        "auto" raises for a bad label where the targets are a concrete host array (with NumPy
        targets beside a device: where the other arrays are NumPy's too). Elsewhere loss and
        gradient of that row are NaN. True reads the values wherever they are, at the price of a
        transfer, and rejects negative weights and soft targets too. False never reads.

    Returns
    -------
    Array
        0-d, or one loss a row; float64 for float64 log_probs, else float32.

    Raises
    ------
    TypeError
        An argument of the wrong type, dtype or library. The message names it.
    ValueError
        An argument of the wrong shape, value or device. The message names it.
    IndexError
        A label outside [0, classes) that is not ``ignore_index`` (see ``validate``).

    See Also
    --------
    cross_entropy : the same loss of logits, without a log_softmax before it.
    log_loss : the same loss of probabilities.
    log_softmax : makes log-probabilities of logits.

    References
    ----------
    Bishop, *Pattern Recognition and Machine Learning* (2006), equation 4.108.

    Examples
    --------
    >>> import numpy as np
    >>> from xloss import nll_loss
    >>> float(nll_loss(np.log([[0.5, 0.25, 0.25]]), np.array([1])))
    1.3862943611198906
    """
    call = classes_call(
        "nll_loss",
        log_probs,
        targets,
        first="log_probs",
        axis=axis,
        weight=weight,
        sample_weight=sample_weight,
        where=where,
        ignore_index=ignore_index,
        label_smoothing=label_smoothing,
        reduction=reduction,
        normalizer=normalizer,
        validate=validate,
    )
    return evaluate(call)
