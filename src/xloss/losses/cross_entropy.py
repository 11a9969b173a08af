"""Cross-entropy of logits: the loss that the others are told by."""

from __future__ import annotations

from .._typing import Array, Normalizer, Reduction, Validate
from ._call import evaluate
from ._prepare import classes_call
from .top_k import TopKTargets


def cross_entropy(
    logits: Array,
    targets: Array | TopKTargets,
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
) -> Array:
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
    logits : floating array of shape (*rows, classes)
        The class axis may stand anywhere (see ``axis``). A logit of -inf masks its class; +inf
        logits share the whole probability.
    targets : array, integer or floating, or TopKTargets
        Class indices of any integer dtype and of shape (*rows), which is the shape of logits
        without the class axis; or soft targets, which are probabilities of any floating dtype, of
        the shape of logits; or :class:`TopKTargets`, a few classes a row with what each has. This
        and the arrays below may be NumPy's beside logits of any library.
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
        an error if it is 0 or more. Of :class:`TopKTargets` it is the index of an empty slot.
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
    CrossEntropyLoss : the same loss with its options kept.
    TopKTargets : soft targets of a few classes a row, as a teacher's top K are published.
    nll_loss, log_loss : the same loss of log-probabilities and of probabilities.
    linear_cross_entropy : the same loss of a linear layer, whose logits are never held whole.
    vocab_parallel_cross_entropy : the same loss of classes that are spread over ranks.
    value_and_grad : the loss and its gradient, on every library.

    Notes
    -----
    Differs from PyTorch where PyTorch surprises: the mean over no row is 0 and not NaN, a
    smoothed target spreads over possible classes only, and the weighted mean of soft targets
    divides by the weights. With ``weight=None`` and one-hot targets all agree.

    On PyTorch's CUDA tensors a mean or a sum of logits that require a gradient, in grad mode,
    computes that gradient in the forward pass, which reads the logits once, and holds it, an array
    of the logits' size and dtype, until the first backward or until the graph is freed. That
    backward returns it as it is where the cotangent is 1, and computes it anew, with the
    same bits as ever, where it is not; later ones always do. A forward that no backward follows
    pays for it: call it under ``torch.no_grad()``. Under activation checkpointing and other
    saved-tensor hooks, for ``reduction="none"``, and with a PyTorch before 2.8, the gradient is
    computed in backward alone. The compiled CPU engine does the same for up to 96 classes, where
    one launch for both takes hardly longer than for either.

    Under torch.compile the compiled engines run as operations of the graph, on the host and on the
    GPU, with the bits of an uncompiled call; a bad label's row is NaN. A program that torch.export
    writes holds PyTorch's own operations, so that it runs where xloss is missing.

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
    call = classes_call(
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
    return evaluate(call)
