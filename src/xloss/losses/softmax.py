"""Losses along a class axis: from logits, log-probabilities or probabilities."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Any

from .._xp import Array
from ..backends.call import Call
from ._call import loss
from ._prepare import classes_call


@loss
def cross_entropy(
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
    reduction: str = "mean",
    normalizer: Any = None,
    validate: bool | str = "auto",
) -> Call:
    r"""Cross-entropy between softmax(logits) and class indices or probabilities.

    With p = softmax(z), z = logits (or ``softcap * tanh(logits / softcap)``), each row gives ::

        row_i = sample_weight_i * sum_j weight_j q_ij (-log p_ij) + z_loss * W_i * lse_i**2
        q     = (1 - label_smoothing) * t + label_smoothing * (sum_j t_ij) * u
        W_i   = sample_weight_i * sum_j weight_j t_ij          (weights are 1 where absent)

    where t is the target (one-hot for an index) and u is uniform over the classes possible in
    that row (logit > -inf). ``"mean"`` is ``sum_i row_i / sum_i W_i``. A confident row loses no
    digits: 4.1e-8 is 4.1e-8 in float32, not 0.

    Parameters
    ----------
    logits
        Floating array (*rows, classes), the class axis anywhere. A logit of -inf masks its class;
        +inf logits share the whole probability.
    targets
        Class indices, any integer dtype, of the logits' shape without the class axis; or
        probabilities, any floating dtype, of the logits' shape. NumPy arrays too, here and in the
        arguments below, whatever library the logits are of.
    axis
        The class axis of logits and of soft targets.
    weight
        (classes,), a constant weight for each class.
    sample_weight
        A constant weight for each row, broadcast to the rows. 0 makes a row absent.
    where
        bool, broadcast to the rows; False makes a row absent: it contributes exactly nothing,
        whatever stands in it.
    ignore_index
        The label of absent rows, or None. With soft targets unused, and an error if >= 0.
    label_smoothing
        Share in [0, 1] of each target that is spread over the possible classes.
    z_loss
        Factor >= 0 of the squared log-sum-exp, which keeps logits near normalisation.
    softcap
        Bound > 0 of the logits by tanh, or None.
    reduction
        "mean", "sum" or "none" (one loss a row).
    normalizer
        A number or 0-d array in place of the mean's denominator: the count of a global batch.
    validate
        "auto" raises for a bad label where the targets are a concrete host array (with NumPy
        targets beside a device: where the other arrays are NumPy's too), and gives
        that row NaN elsewhere; True reads the values wherever they are, and rejects negative
        weights and targets too; False never reads.

    Returns
    -------
    Array
        0-d, or one loss a row; float64 for float64 logits, else float32.

    Raises
    ------
    TypeError, ValueError
        An argument of the wrong type, dtype, shape, library or device, named.
    IndexError
        A label outside [0, classes) that is not ignored (see ``validate``).

    Notes
    -----
    Differs from PyTorch where PyTorch surprises: the mean over no row is 0 and not NaN, a
    smoothed target spreads over possible classes only, and the weighted mean of soft targets
    divides by the weights. With ``weight=None`` and one-hot targets all agree.

    On PyTorch's CUDA tensors a mean or a sum of logits that require a gradient, in grad mode,
    computes that gradient in the forward pass, which reads the logits once, and holds it, an array
    of the logits' size and dtype, until the first backward or until the graph is freed. That
    backward returns it as it is where the upstream gradient is 1, and computes it anew, with the
    same bits as ever, where it is not; later ones always do. A forward that no backward follows
    pays for it: call it under ``torch.no_grad()``. Under activation checkpointing and other
    saved-tensor hooks, for ``reduction="none"``, and with a PyTorch before 2.8, the gradient is
    computed in backward alone. The compiled CPU engine does the same for up to 96 classes, where
    one launch for both takes hardly longer than for either.

    Under torch.compile the compiled engines run as operations of the graph, on the host and on the
    GPU, with the bits of an uncompiled call; a bad label's row is NaN. What torch.export writes
    holds PyTorch's own operations, so that a program runs where xloss is missing.

    References
    ----------
    Goodfellow, Bengio and Courville, *Deep Learning* (2016), section 6.2; Szegedy et al.,
    "Rethinking the Inception architecture" (2016) for smoothing; Chowdhery et al., "PaLM"
    (2022) for the z-loss.

    Examples
    --------
    >>> import numpy as np
    >>> from xloss import cross_entropy
    >>> logits = np.array([[2.0, 1.0, 0.0], [0.0, 17.5, 0.0]], dtype=np.float32)
    >>> [f"{row:.4g}" for row in cross_entropy(logits, np.array([0, 1]), reduction="none")]
    ['0.4076', '5.022e-08']
    """
    return classes_call(
        "cross_entropy",
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
        reduction=reduction,
        normalizer=normalizer,
        validate=validate,
    )


@loss
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
    reduction: str = "mean",
    normalizer: Any = None,
    validate: bool | str = "auto",
) -> Call:
    r"""Negative log-likelihood of log-probabilities that are given.

    ``row_i = sample_weight_i * sum_j weight_j q_ij (-log_probs_ij)``, with q, W and the mean as
    in :func:`cross_entropy`. The log-probabilities are taken as they are, not normalised again.

    Parameters
    ----------
    log_probs
        Floating array (*rows, classes), the class axis anywhere. -inf is a probability of 0:
        no loss where the target is 0, +inf where it is not. With class indices and no
        smoothing only the label's entry of a row is read.
    targets, axis, weight, sample_weight, where, ignore_index, label_smoothing
        As in :func:`cross_entropy`; u is uniform over the classes with log_probs > -inf.
    reduction, normalizer, validate
        As in :func:`cross_entropy`.

    Returns
    -------
    Array
        0-d, or one loss a row; float64 for float64 input, else float32.

    Raises
    ------
    TypeError, ValueError, IndexError
        As in :func:`cross_entropy`.

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
    return classes_call(
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


@loss
def log_loss(
    probs: Array,
    targets: Array,
    /,
    *,
    axis: int = -1,
    weight: Array | None = None,
    sample_weight: Array | None = None,
    where: Array | None = None,
    ignore_index: int | None = -100,
    label_smoothing: float = 0.0,
    reduction: str = "mean",
    normalizer: Any = None,
    validate: bool | str = "auto",
    eps: float | None = None,
) -> Call:
    r"""Cross-entropy of probabilities that are given.

    ``row_i = sample_weight_i * sum_j weight_j q_ij (-log probs_ij)``, with q, W and the mean as
    in :func:`cross_entropy`, and 0 log 0 = 0. Rows are not normalised.

    Parameters
    ----------
    probs
        Floating array (*rows, classes), the class axis anywhere. With class indices and no
        smoothing only the label's entry of a row is read.
    targets, axis, weight, sample_weight, where, ignore_index, label_smoothing
        As in :func:`cross_entropy`; u is uniform over the classes with probability > 0.
    reduction, normalizer, validate
        As in :func:`cross_entropy`.
    eps
        Probabilities are first clipped into [eps, 1 - eps], with gradient 0 where clipped.
        None is exact: a target on a probability of 0 costs +inf.

    Returns
    -------
    Array
        0-d, or one loss a row; float64 for float64 input, else float32.

    Raises
    ------
    TypeError, ValueError, IndexError
        As in :func:`cross_entropy`.

    References
    ----------
    Good, "Rational decisions", J. R. Stat. Soc. B 14 (1952).

    Examples
    --------
    >>> import numpy as np
    >>> from xloss import log_loss
    >>> float(log_loss(np.array([[0.5, 0.5, 0.0]]), np.array([[0.5, 0.5, 0.0]])))
    0.6931471805599453
    """
    return classes_call(
        "log_loss",
        probs,
        targets,
        first="probs",
        axis=axis,
        weight=weight,
        sample_weight=sample_weight,
        where=where,
        ignore_index=ignore_index,
        label_smoothing=label_smoothing,
        reduction=reduction,
        normalizer=normalizer,
        validate=validate,
        eps=eps,
    )


@loss
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
    reduction: str = "mean",
    normalizer: Any = None,
    validate: bool | str = "auto",
) -> Call:
    r"""Cross-entropy that turns down the classes already well predicted.

    ``row_i = sample_weight_i * sum_j weight_j q_ij (1 - p_ij)**gamma (-log p_ij)``, with p, q, W
    and the mean as in :func:`cross_entropy`; gamma = 0 is cross_entropy itself.

    Parameters
    ----------
    logits, targets
        As in :func:`cross_entropy`.
    gamma
        Exponent >= 0 of 1 - p.
    axis, weight, sample_weight, where, ignore_index, label_smoothing, softcap
        As in :func:`cross_entropy`.
    reduction, normalizer, validate
        As in :func:`cross_entropy`.

    Returns
    -------
    Array
        0-d, or one loss a row; float64 for float64 logits, else float32.

    Raises
    ------
    TypeError, ValueError, IndexError
        As in :func:`cross_entropy`.

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
    return classes_call(
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


@dataclass(frozen=True, eq=False, kw_only=True)
class CrossEntropyLoss:
    """The options of :func:`cross_entropy`, kept: a callable ``loss(logits, targets)``.

    Parameters
    ----------
    axis, weight, sample_weight, where, ignore_index, label_smoothing, z_loss, softcap
        As in :func:`cross_entropy`.
    reduction, normalizer, validate
        As in :func:`cross_entropy`.

    Examples
    --------
    >>> import numpy as np
    >>> from xloss import CrossEntropyLoss
    >>> smooth = CrossEntropyLoss(label_smoothing=0.1, reduction="sum")
    >>> float(smooth(np.zeros((1, 2)), np.array([0])))
    0.6931471805599453
    """

    axis: int = -1
    weight: Array | None = None
    sample_weight: Array | None = None
    where: Array | None = None
    ignore_index: int | None = -100
    label_smoothing: float = 0.0
    z_loss: float = 0.0
    softcap: float | None = None
    reduction: str = "mean"
    normalizer: Any = None
    validate: bool | str = "auto"

    def _options(self) -> dict[str, Any]:
        return {f.name: getattr(self, f.name) for f in fields(self)}

    def __call__(self, logits: Array, targets: Array, /) -> Array:
        """Return ``cross_entropy(logits, targets, **options)``."""
        return cross_entropy(logits, targets, **self._options())

    def prepare(self, logits: Array, targets: Array, /) -> Call:
        """Prepare the call, for :func:`value_and_grad`."""
        call: Call = cross_entropy.prepare(logits, targets, **self._options())  # type: ignore[attr-defined]
        return call

    prepare.names = ("logits", "targets")  # type: ignore[attr-defined]
