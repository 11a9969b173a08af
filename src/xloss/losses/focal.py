"""Focal loss along a class axis."""

from __future__ import annotations

from .._typing import Array, Normalizer, Reduction, Validate
from ._call import evaluate
from ._prepare import classes_call


def focal_loss(
    logits: Array,
    targets: Array,
    /,
    *,
    gamma: float = 2.0,
    axis: int = -1,
    weight: Array | None = None,
    sample_weight: Array | None = None,
    where: Array | None = None,
    ignore_index: int | None = -100,
    label_smoothing: float = 0.0,
    softcap: float | None = None,
    reduction: Reduction = "mean",
    normalizer: Normalizer | None = None,
    validate: Validate = "auto",
) -> Array:
    r"""Cross-entropy that turns down the classes already well predicted.

    With p = softmax(z), z = logits (or ``softcap * tanh(logits / softcap)``), each row gives ::

        row_i = sample_weight_i * sum_j weight_j q_ij (1 - p_ij)**gamma (-log p_ij)
        q     = (1 - label_smoothing) * t + label_smoothing * (sum_j t_ij) * u
        W_i   = sample_weight_i * sum_j weight_j t_ij          (weights are 1 where absent)

    where t is the target (one-hot for an index) and u is uniform over the classes possible in
    that row (logit > -inf). ``"mean"`` is ``sum_i row_i / sum_i W_i``. gamma = 0 is
    cross_entropy itself.

    Parameters
    ----------
    logits : floating array of shape (*rows, classes)
        The class axis may stand anywhere (see ``axis``). A logit of -inf masks its class; +inf
        logits share the whole probability.
    targets : array, integer or floating
        Class indices of any integer dtype and of shape (*rows), which is the shape of logits
        without the class axis; or soft targets, which are probabilities of any floating dtype, of
        the shape of logits. This and the arrays below may be NumPy's beside logits of any
        library.
    gamma : float >= 0, default 2.0
        Exponent of 1 - p.
    axis : int, default -1
        The class axis of logits and of soft targets.
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
        The share of each target that is spread evenly over the possible classes of its row.
    softcap : float > 0, optional
        Bound of the logits: ``softcap * tanh(logits / softcap)`` takes their place.
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
        0-d, or one loss a row; float64 for float64 logits, else float32.

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
    cross_entropy : the loss without the factor.
    sigmoid_focal_loss : the focal loss of one probability an element.

    References
    ----------
    Lin et al., "Focal loss for dense object detection" (2017), equation 4.

    Examples
    --------
    >>> import numpy as np
    >>> from xloss import focal_loss
    >>> float(focal_loss(np.zeros((1, 2)), np.array([0]), gamma=2.0))
    0.17328679513998632
    """
    call = classes_call(
        "focal_loss",
        logits,
        targets,
        gamma=gamma,
        axis=axis,
        weight=weight,
        sample_weight=sample_weight,
        where=where,
        ignore_index=ignore_index,
        label_smoothing=label_smoothing,
        softcap=softcap,
        reduction=reduction,
        normalizer=normalizer,
        validate=validate,
    )
    return evaluate(call)
