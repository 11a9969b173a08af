"""Losses of one probability an element: binary and multi-label targets."""

from __future__ import annotations

from typing import Any

from .._arrays.inspect import Array
from ..core.call import LossCall
from ._call import loss
from ._prepare import elements_call


@loss
def binary_cross_entropy_with_logits(
    logits: Array,
    targets: Array,
    /,
    *,
    pos_weight: Array | None = None,
    sample_weight: Array | None = None,
    where: Array | None = None,
    label_smoothing: float = 0.0,
    reduction: str = "mean",
    normalizer: Any = None,
) -> LossCall:
    r"""Binary cross-entropy between sigmoid(logits) and targets in [0, 1].

    Each element gives, with s its sample weight ::

        s * ((1 - t) * softplus(z) + pos_weight * t * softplus(-z))
        t <- t * (1 - label_smoothing) + label_smoothing / 2

    "mean" divides the sum by the sum of the sample weights: by the number of elements present.

    Parameters
    ----------
    logits
        Floating array of any shape.
    targets
        Of the logits' shape: floating, bool, or integers 0 and 1. Another integer is a
        ValueError on a concrete host array, and NaN for that element elsewhere.
    pos_weight
        Constant weight of the positive term, broadcast to the logits' shape.
    sample_weight
        Constant weight of each element, broadcast to the logits' shape. 0 makes it absent.
    where
        bool, broadcast to the logits' shape; False makes an element absent.
    label_smoothing
        In [0, 1].
    reduction, normalizer
        As in :func:`cross_entropy`.

    Returns
    -------
    Array
        0-d, or of the logits' shape; float64 for float64 logits, else float32.

    Raises
    ------
    TypeError, ValueError
        An argument of the wrong type, dtype, shape, library or device, named.

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
    return elements_call(
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


@loss
def binary_cross_entropy(
    probs: Array,
    targets: Array,
    /,
    *,
    sample_weight: Array | None = None,
    where: Array | None = None,
    label_smoothing: float = 0.0,
    eps: float | None = None,
    reduction: str = "mean",
    normalizer: Any = None,
) -> LossCall:
    r"""Binary cross-entropy between probabilities and targets in [0, 1].

    Each element gives ``s * (-t log p - (1 - t) log(1 - p))``, with s its sample weight, t
    smoothed as in :func:`binary_cross_entropy_with_logits`, and 0 log 0 = 0.

    Parameters
    ----------
    probs
        Floating array of any shape. Outside [0, 1] the result is NaN.
    targets, sample_weight, where, label_smoothing
        As in :func:`binary_cross_entropy_with_logits`.
    eps
        Probabilities are first clipped into [eps, 1 - eps], with gradient 0 where clipped.
        None is exact: certainty of the wrong answer costs +inf (PyTorch stops at 100).
    reduction, normalizer
        As in :func:`cross_entropy`.

    Returns
    -------
    Array
        0-d, or of the input's shape; float64 for float64 input, else float32.

    Raises
    ------
    TypeError, ValueError
        An argument of the wrong type, dtype, shape, library or device, named.

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
    return elements_call(
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


@loss
def sigmoid_focal_loss(
    logits: Array,
    targets: Array,
    /,
    *,
    gamma: float = 2.0,
    alpha: float | None = None,
    sample_weight: Array | None = None,
    where: Array | None = None,
    reduction: str = "mean",
    normalizer: Any = None,
) -> LossCall:
    r"""Binary cross-entropy that turns down the elements already well predicted.

    Each element gives ``s * alpha_t * (1 - p_t)**gamma * ce``, with p = sigmoid(logits),
    ``p_t = t p + (1 - t)(1 - p)``, ``alpha_t = t alpha + (1 - t)(1 - alpha)`` (1 for None) and
    ce the binary cross-entropy.

    Parameters
    ----------
    logits, targets, sample_weight, where
        As in :func:`binary_cross_entropy_with_logits`.
    gamma
        Exponent >= 0 of 1 - p_t.
    alpha
        Weight in [0, 1] of the positive elements, 1 - alpha of the negative ones; or None.
    reduction, normalizer
        As in :func:`cross_entropy`. (torchvision's default is "none".)

    Returns
    -------
    Array
        0-d, or of the logits' shape; float64 for float64 logits, else float32.

    Raises
    ------
    TypeError, ValueError
        An argument of the wrong type, dtype, shape, library or device, named.

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
    return elements_call(
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
