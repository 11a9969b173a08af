"""Losses of one probability an element: binary and multi-label targets."""

from __future__ import annotations

from .._typing import Array, Normalizer, Reduction
from ._call import evaluate
from ._prepare import elements_call


def binary_cross_entropy_with_logits(
    logits: Array,
    targets: Array,
    /,
    *,
    pos_weight: Array | None = None,
    sample_weight: Array | None = None,
    where: Array | None = None,
    label_smoothing: float = 0.0,
    reduction: Reduction = "mean",
    normalizer: Normalizer | None = None,
) -> Array:
    r"""Binary cross-entropy between sigmoid(logits) and targets in [0, 1].

    Each element gives, with s its sample weight ::

        s * ((1 - t) * softplus(z) + pos_weight * t * softplus(-z))
        t <- t * (1 - label_smoothing) + label_smoothing / 2

    "mean" divides the sum by the sum of the sample weights: by the number of elements present.

    Parameters
    ----------
    logits : floating array of any shape
        Logits of -inf and +inf are probabilities of 0 and 1.
    targets : array of the shape of logits
        Floating, in [0, 1]; or bool; or integers 0 and 1. Another integer is a ValueError on a
        concrete host array, and NaN for that element elsewhere. This and the arrays below may be
        NumPy's beside logits of any library.
    pos_weight : array that broadcasts to the shape of logits, optional
        A constant weight of the positive term, of any integer or floating dtype.
    sample_weight : array that broadcasts to the shape of logits, optional
        A constant weight for each element, of any integer or floating dtype. An element of weight
        0 is absent.
    where : array of bool that broadcasts to the shape of logits, optional
        False makes an element absent: it contributes exactly nothing to loss and gradient,
        whatever stands in it, NaN included.
    label_smoothing : float in [0, 1], default 0.0
        Targets become ``t * (1 - label_smoothing) + label_smoothing / 2``.
    reduction : {"mean", "sum", "none"}, default "mean"
        "mean" is the sum of the elements' losses divided by the sum of their sample weights, and 0
        where no element counts; "sum" is the sum alone; "none" returns one loss an element.
    normalizer : float or 0-d array, optional
        Takes the place of the mean's denominator: the count of a whole global batch, for example.
        It needs ``reduction="mean"``.

    Returns
    -------
    Array
        0-d, or of the shape of logits; float64 for float64 logits, else float32.

    Raises
    ------
    TypeError
        An argument of the wrong type, dtype or library. The message names it.
    ValueError
        An argument of the wrong shape, value or device. The message names it.

    See Also
    --------
    binary_cross_entropy : the same loss of probabilities.
    sigmoid_focal_loss : the same loss with the easy elements turned down.
    cross_entropy : the loss of classes that exclude each other.

    References
    ----------
    Bishop, *Pattern Recognition and Machine Learning* (2006), equation 4.90.

    Examples
    --------
    >>> import numpy as np
    >>> from xloss import binary_cross_entropy_with_logits
    >>> float(binary_cross_entropy_with_logits(np.array([0.0, 40.0]), np.array([1, 1])))
    0.34657359027997264
    """
    call = elements_call(
        "binary_cross_entropy_with_logits",
        logits,
        targets,
        pos_weight=pos_weight,
        sample_weight=sample_weight,
        where=where,
        label_smoothing=label_smoothing,
        reduction=reduction,
        normalizer=normalizer,
    )
    return evaluate(call)


def binary_cross_entropy(
    probs: Array,
    targets: Array,
    /,
    *,
    sample_weight: Array | None = None,
    where: Array | None = None,
    label_smoothing: float = 0.0,
    eps: float | None = None,
    reduction: Reduction = "mean",
    normalizer: Normalizer | None = None,
) -> Array:
    r"""Binary cross-entropy between probabilities and targets in [0, 1].

    Each element gives ``s * (-t log p - (1 - t) log(1 - p))``, with s its sample weight and
    0 log 0 = 0, where ``t <- t * (1 - label_smoothing) + label_smoothing / 2``. "mean" divides
    the sum by the sum of the sample weights: by the number of elements present.

    Parameters
    ----------
    probs : floating array of any shape
        Probabilities. Outside [0, 1] the result is NaN.
    targets : array of the shape of probs
        Floating, in [0, 1]; or bool; or integers 0 and 1. Another integer is a ValueError on a
        concrete host array, and NaN for that element elsewhere. This and the arrays below may be
        NumPy's beside probs of any library.
    sample_weight : array that broadcasts to the shape of probs, optional
        A constant weight for each element, of any integer or floating dtype. An element of weight
        0 is absent.
    where : array of bool that broadcasts to the shape of probs, optional
        False makes an element absent: it contributes exactly nothing to loss and gradient,
        whatever stands in it, NaN included.
    label_smoothing : float in [0, 1], default 0.0
        Targets become ``t * (1 - label_smoothing) + label_smoothing / 2``.
    eps : float in [0, 0.5], optional
        Probabilities are first clipped into [eps, 1 - eps], with gradient 0 where they were
        clipped. Absent is exact: certainty of the wrong answer costs +inf (PyTorch stops at 100).
    reduction : {"mean", "sum", "none"}, default "mean"
        "mean" is the sum of the elements' losses divided by the sum of their sample weights, and 0
        where no element counts; "sum" is the sum alone; "none" returns one loss an element.
    normalizer : float or 0-d array, optional
        Takes the place of the mean's denominator: the count of a whole global batch, for example.
        It needs ``reduction="mean"``.

    Returns
    -------
    Array
        0-d, or of the shape of probs; float64 for float64 probs, else float32.

    Raises
    ------
    TypeError
        An argument of the wrong type, dtype or library. The message names it.
    ValueError
        An argument of the wrong shape, value or device. The message names it.

    See Also
    --------
    binary_cross_entropy_with_logits : the same loss of logits, which keeps the digits that a
        sigmoid rounds away.
    log_loss : the loss of probabilities of classes that exclude each other.

    References
    ----------
    Bishop, *Pattern Recognition and Machine Learning* (2006), equation 4.90.

    Examples
    --------
    >>> import numpy as np
    >>> from xloss import binary_cross_entropy
    >>> float(binary_cross_entropy(np.array([0.5, 1.0]), np.array([1.0, 1.0])))
    0.34657359027997264
    """
    call = elements_call(
        "binary_cross_entropy",
        probs,
        targets,
        first="probs",
        sample_weight=sample_weight,
        where=where,
        label_smoothing=label_smoothing,
        eps=eps,
        reduction=reduction,
        normalizer=normalizer,
    )
    return evaluate(call)


def sigmoid_focal_loss(
    logits: Array,
    targets: Array,
    /,
    *,
    gamma: float = 2.0,
    alpha: float | None = None,
    sample_weight: Array | None = None,
    where: Array | None = None,
    reduction: Reduction = "mean",
    normalizer: Normalizer | None = None,
) -> Array:
    r"""Binary cross-entropy that turns down the elements already well predicted.

    Each element gives ``s * alpha_t * (1 - p_t)**gamma * ce``, with p = sigmoid(logits),
    ``p_t = t p + (1 - t)(1 - p)``, ``alpha_t = t alpha + (1 - t)(1 - alpha)`` (1 for None) and
    ce the binary cross-entropy.

    Parameters
    ----------
    logits : floating array of any shape
        Logits of -inf and +inf are probabilities of 0 and 1.
    targets : array of the shape of logits
        Floating, in [0, 1]; or bool; or integers 0 and 1. Another integer is a ValueError on a
        concrete host array, and NaN for that element elsewhere. This and the arrays below may be
        NumPy's beside logits of any library.
    gamma : float >= 0, default 2.0
        Exponent of 1 - p_t.
    alpha : float in [0, 1], optional
        Weight of the positive elements; the negative ones have 1 - alpha. Absent: 1 for both.
    sample_weight : array that broadcasts to the shape of logits, optional
        A constant weight for each element, of any integer or floating dtype. An element of weight
        0 is absent.
    where : array of bool that broadcasts to the shape of logits, optional
        False makes an element absent: it contributes exactly nothing to loss and gradient,
        whatever stands in it, NaN included.
    reduction : {"mean", "sum", "none"}, default "mean"
        "mean" is the sum of the elements' losses divided by the sum of their sample weights, and 0
        where no element counts; "sum" is the sum alone; "none" returns one loss an element.
        (torchvision's default is "none".)
    normalizer : float or 0-d array, optional
        Takes the place of the mean's denominator: the count of a whole global batch, for example.
        It needs ``reduction="mean"``.

    Returns
    -------
    Array
        0-d, or of the shape of logits; float64 for float64 logits, else float32.

    Raises
    ------
    TypeError
        An argument of the wrong type, dtype or library. The message names it.
    ValueError
        An argument of the wrong shape, value or device. The message names it.

    See Also
    --------
    binary_cross_entropy_with_logits : the loss without the factors.
    focal_loss : the focal loss of classes that exclude each other.

    References
    ----------
    Lin et al., "Focal loss for dense object detection" (2017), equation 5.

    Examples
    --------
    >>> import numpy as np
    >>> from xloss import sigmoid_focal_loss
    >>> float(sigmoid_focal_loss(np.zeros(1), np.ones(1), alpha=0.25))
    0.04332169878499658
    """
    call = elements_call(
        "sigmoid_focal_loss",
        logits,
        targets,
        gamma=gamma,
        alpha=alpha,
        sample_weight=sample_weight,
        where=where,
        reduction=reduction,
        normalizer=normalizer,
    )
    return evaluate(call)
