"""Cross-entropy of a linear layer's output, which is never held whole."""

from __future__ import annotations

from typing import Any

from .._arrays.inspect import Array
from ..backends import process_groups
from ..core.call import LossCall
from ._call import loss
from ._class_shards import linear_shard_call
from ._prepare import linear_call


@loss
def linear_cross_entropy(
    features: Array,
    weight: Array,
    targets: Array,
    /,
    *,
    bias: Array | None = None,
    class_weight: Array | None = None,
    block_rows: int | str = "auto",
    group: Any = None,
    sample_weight: Array | None = None,
    where: Array | None = None,
    ignore_index: int | None = -100,
    label_smoothing: float = 0.0,
    z_loss: float = 0.0,
    softcap: float | None = None,
    reduction: str = "mean",
    normalizer: Any = None,
    validate: bool | str = "auto",
) -> LossCall:
    r"""Cross-entropy of ``features @ weight.T + bias``, without ever holding all those logits.

    Rows are taken in blocks: their logits, losses and, in the same pass, the gradients ::

        logits     = features @ weight.T + bias
        loss       = cross_entropy(logits, targets)            g = d loss / d logits
        d features = g @ weight       d weight = g.T @ features       d bias = sum_i g_i

    With ``reduction="none"`` the backward pass computes the logits again. 16-bit features and a
    weight of the same dtype multiply as they are, on tensor cores where there are some, and their
    logits are float32: see Notes.

    Parameters
    ----------
    features
        Floating array (*rows, D). Its dtype decides that of the arithmetic.
    weight
        Floating array (classes, D), as of a linear layer.
    targets
        Class indices (*rows), any integer dtype; or probabilities (*rows, classes).
    bias
        Floating array (classes,); -inf masks a class.
    class_weight
        (classes,), a constant weight for each class: :func:`cross_entropy`'s ``weight``.
    block_rows
        How many rows of logits are held at once; "auto" chooses from the shape, so that they take
        160 MiB at most (40 where they are traced; on a GPU 576 together with sums that are wider
        than their gradient).
    group
        Ranks that each hold a slice of the classes: of ``weight``, ``bias`` and ``class_weight``;
        features and targets (global class indices) are the same on each. See
        :func:`vocab_parallel_cross_entropy`, whose two exchanges are done for each block of rows,
        and one of the features' size for their gradient.
    sample_weight, where, ignore_index, label_smoothing, z_loss, softcap
        As in :func:`cross_entropy`. An absent row's features are not read.
    reduction, normalizer, validate
        As in :func:`cross_entropy`.

    Returns
    -------
    Array
        0-d, or one loss a row; float64 for float64 features, else float32.

    Raises
    ------
    TypeError, ValueError, IndexError
        As in :func:`cross_entropy`.
    RuntimeError
        A second derivative is asked for: ``cross_entropy(features @ weight.T + bias)`` has it.

    Notes
    -----
    Under ``torch.func`` and forward-mode autodiff the logits are held. Bits depend on the matrix
    product, and so on the batch. TensorFloat-32 is used where the library's own setting says so.

    PyTorch on CUDA (2.8 and later) and CuPy multiply 16-bit matrices as they are, and PyTorch
    bfloat16 on processors that do, but for the logits; a large weight is converted nowhere whole.
    Sums and logits are float32. Gradients of logits are rounded to the 16 bits for the products
    back, which costs half an ulp of each term: with random signs the weight's gradient is off by
    0.46 · 2^-8 of its size in bfloat16, where the rounding of the result alone is 0.41. On a GPU
    and in those host products, float32 sums are kept where the weight's takes 288 MiB at most and
    the features' 72; a larger bfloat16 sum is kept in bfloat16, and rounded once for each block
    of rows (eight blocks: 0.71 · 2^-8), or once in all where one block holds every row. float16
    gradients are lifted by a power of 2 before they are rounded, and summed in float32 always.

    References
    ----------
    Wijmans et al., "Cut your losses in large-vocabulary language models" (2024).

    Examples
    --------
    >>> import numpy as np
    >>> from xloss import linear_cross_entropy, value_and_grad
    >>> features, weight = np.array([[1.0, 2.0]]), np.array([[0.0, 1.0], [1.0, 0.0]])
    >>> float(linear_cross_entropy(features, weight, np.array([0])))
    0.31326168751822286
    >>> _, (g, h) = value_and_grad(linear_cross_entropy, (0, 1))(features, weight, np.array([0]))
    >>> g.shape, h.shape
    ((1, 2), (2, 2))
    """
    if group is not None:
        return process_groups.uncompiled(
            linear_shard_call,
            features,
            weight,
            targets,
            group=group,
            bias=bias,
            class_weight=class_weight,
            block_rows=block_rows,
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
    return linear_call(
        features,
        weight,
        targets,
        bias=bias,
        class_weight=class_weight,
        block_rows=block_rows,
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
