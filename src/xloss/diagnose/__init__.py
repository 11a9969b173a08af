"""Why a loss is NaN or infinite: which rows, which rule."""

from __future__ import annotations

import numpy as np

from .._typing import Array, Normalizer, Reduction, Validate
from ..evaluation.rows import at_hand, host, measure, prepared
from ..losses import _check as check
from .report import Finding, Findings, Report
from .rules import conclude, look

__all__ = ["Finding", "Report", "diagnose"]


def diagnose(
    logits: Array,
    targets: Array,
    /,
    *,
    axis: int = -1,
    weight: Array | None = None,
    sample_weight: Array | None = None,
    where: Array | None = None,
    ignore_index: int | None = -100,
    label_smoothing: float = 0.0,
    z_loss: float = 0.0,
    softcap: float | None = None,
    reduction: Reduction = "mean",
    normalizer: Normalizer | None = None,
    validate: Validate = "auto",
) -> Report:
    """Say why the loss of a call of :func:`cross_entropy` is NaN or infinite.

    The report's loss is that of the call, ``sum_i row_i / sum_i W_i``; each finding is a rule that
    the arguments run into, with the number of rows, the first of them, and what the rule says:

    ====================== =========================================================================
    ``label_out_of_range`` a label outside [0, classes) that is not ``ignore_index``: NaN
    ``nan_logit``          a NaN among the row's logits: NaN
    ``no_possible_class``  a row whose logits are all -inf: NaN
    ``masked_target``      weight of the target on a class whose logit is -inf: +inf
    ``infinite_logit``     a logit of +inf, and weight of the target on another class: +inf
    ``bad_sample_weight``  NaN, infinite or negative
    ``bad_target``         a soft target that is NaN, infinite or negative
    ``bad_weight``         likewise; here classes are counted and named, not rows
    ``bad_normalizer``     zero, NaN, infinite or negative
    ``overflow``           nothing of these, but beyond the largest number of the loss's dtype
    ``nothing_counted``    no row is present with a weight: the mean is 0, of nothing
    ====================== =========================================================================

    Absent rows (``ignore_index``, ``where``, ``sample_weight`` 0) are exempt. Values are read, on
    every library and device, in blocks of rows.

    Parameters
    ----------
    logits : floating array of shape (*rows, classes)
        The class axis may stand anywhere (see ``axis``).
    targets : array, integer or floating
        Class indices of any integer dtype and of shape (*rows), which is the shape of logits
        without the class axis; or soft targets, which are probabilities of any floating dtype, of
        the shape of logits. This and the arrays below may be NumPy's beside logits of any
        library.
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
    z_loss : float >= 0, default 0.0
        Factor of the squared log-sum-exp, which keeps the logits near normalisation.
    softcap : float > 0, optional
        Bound of the logits: ``softcap * tanh(logits / softcap)`` takes their place.
    reduction : {"mean", "sum", "none"}, default "mean"
        "mean" is the sum of the row losses divided by the sum of the row weights W, and 0 where no
        row counts; "sum" is the sum alone; "none" returns one loss a row.
    normalizer : float or 0-d array, optional
        Takes the place of the mean's denominator: the count of a whole global batch, for example.
        It needs ``reduction="mean"``.
    validate : {"auto", True, False}, default "auto"
        Taken so that any call of :func:`cross_entropy` can be diagnosed as it stands. A bad label
        is found and never raised.

    Returns
    -------
    Report
        A frozen dataclass: loss, rows, not_finite, findings; ``str(report)`` is for reading.

    Raises
    ------
    TypeError
        An argument of the wrong type, dtype or library. The message names it.
    ValueError
        An argument of the wrong shape, value or device. The message names it.

    See Also
    --------
    cross_entropy : the loss that is diagnosed.
    Evaluation : loss, perplexity and accuracy over many batches.

    Examples
    --------
    >>> import numpy as np
    >>> from xloss import diagnose
    >>> logits = np.array([[0.0, 1.0], [0.0, -np.inf], [np.nan, 0.0]])
    >>> print(diagnose(logits, np.array([0, 1, -100])))
    loss inf: 1 of 3 rows are not finite
    masked_target: 1 row (1)
        the target has weight on a class whose logit is -inf: the loss is +inf
    """
    check.validate_option(validate)
    call = prepared(
        logits,
        targets,
        axis=axis,
        weight=weight,
        sample_weight=sample_weight,
        where=where,
        ignore_index=ignore_index,
        label_smoothing=label_smoothing,
        z_loss=z_loss,
        softcap=softcap,
        validate=False,
    )
    normalizer = at_hand("normalizer", normalizer)
    _, below = check.reduction(reduction, normalizer, call.cx, "logits")
    got, found = measure(call), Findings()
    look(call, got, found, (0,) * got.losses.ndim)
    loss = conclude(call, got, found, reduction, None if below is None else float(host(below)))
    return Report(loss, got.losses.size, int(np.sum(~np.isfinite(got.losses))), found.all())
