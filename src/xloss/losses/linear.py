"""Cross-entropy of a linear layer's output, which is never held whole."""

from __future__ import annotations

from typing import Any

from .._typing import Array, BlockRows, Normalizer, Reduction, Validate
from ._call import evaluate
from ._class_shards import prepare_linear
from .top_k import TopKTargets


def linear_cross_entropy(
    features: Array,
    weight: Array,
    targets: Array | TopKTargets,
    /,
    *,
    bias: Array | None = None,
    class_weight: Array | None = None,
    block_rows: BlockRows = "auto",
    group: Any = None,
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
    features : floating array of shape (*rows, D)
        Its dtype decides that of the arithmetic.
    weight : floating array of shape (classes, D)
        As of a linear layer.
    targets : array, integer or floating, or TopKTargets
        Class indices of any integer dtype and of shape (*rows); or soft targets, which are
        probabilities of any floating dtype and of shape (*rows, classes); or
        :class:`TopKTargets`, a few classes a row with what each has. This and the arrays of class
        and row weights below may be NumPy's beside features of any library.
    bias : floating array of shape (classes,), optional
        Added to the logits of each row; -inf masks a class.
    class_weight : array of shape (classes,), optional
        A constant weight for each class, of any integer or floating dtype: the ``weight`` of
        :func:`cross_entropy`. Absent: 1 for each.
    block_rows : int >= 1 or "auto", default "auto"
        How many rows of logits are held at once; "auto" chooses from the shape, so that they take
        160 MiB at most (40 where they are traced; on a GPU 576 together with sums that are wider
        than their gradient).
    group : optional
        Ranks that each hold a slice of the classes: of ``weight``, ``bias`` and ``class_weight``;
        features and targets (global class indices) are the same on each. What a group is, and its
        two exchanges, are those of :func:`vocab_parallel_cross_entropy`; they are done for each
        block of rows, and one more of the features' size for their gradient.
    sample_weight : array that broadcasts to (*rows), optional
        A constant weight for each row, of any integer or floating dtype. A row of weight 0 is
        absent.
    where : array of bool that broadcasts to (*rows), optional
        False makes a row absent: it contributes exactly nothing to loss and gradients, and
        its features are not read.
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
        0-d, or one loss a row; float64 for float64 features, else float32.

    Raises
    ------
    TypeError
        An argument of the wrong type, dtype or library. The message names it.
    ValueError
        An argument of the wrong shape, value or device. The message names it.
    IndexError
        A label outside [0, classes) that is not ``ignore_index`` (see ``validate``).
    RuntimeError
        A second derivative is asked for: ``cross_entropy(features @ weight.T + bias)`` has it.

    See Also
    --------
    cross_entropy : the same loss of logits that are held.
    vocab_parallel_cross_entropy : the loss of logits whose classes are spread over ranks.

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
    call = prepare_linear(
        features,
        weight,
        targets,
        bias=bias,
        class_weight=class_weight,
        block_rows=block_rows,
        group=group,
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
