"""Cross-entropy of a vocabulary whose classes are spread over many machines."""

from __future__ import annotations

from typing import Any

from .._typing import Array, Normalizer, Reduction, Validate
from ._call import evaluate
from ._class_shards import prepare_shard


def vocab_parallel_cross_entropy(
    logits_shard: Array,
    targets: Array,
    /,
    *,
    group: Any,
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
    r"""Cross-entropy of logits whose classes are spread over the ranks of a group.

    Every rank holds the logits of a contiguous slice of the classes, in rank order; the loss, on
    each rank the same, is that of all of them side by side ::

        loss = cross_entropy(concatenate(logits_shard of rank 0, 1, ...), targets, **options)

    and the gradient goes to the rank's own slice. No rank ever holds more than its slice. Beside
    one exchange of a few numbers (shapes, options, slice sizes: ranks that disagree raise) there
    are two of O(rows) numbers, a maximum and a sum, and none for the gradient; under JAX one number
    more where classes have weights, the exponent of the largest.

    Parameters
    ----------
    logits_shard : floating array of shape (*rows, classes of this rank)
        The class axis is the last. Slices may differ in size, and may be empty.
    targets : array, integer, of shape (*rows)
        Global class indices of any integer dtype, the same on each rank. This and the arrays below
        may be NumPy's beside logits of any library.
    group
        The ranks. PyTorch: a ``torch.distributed`` ProcessGroup (autograd to first order). NumPy
        and CuPy: an mpi4py communicator. JAX: the name of a mesh axis, inside ``shard_map``.
    weight : array of shape (classes of this rank,), optional
        This rank's slice of the class weights, of any integer or floating dtype. Absent: 1 for
        each. Either every rank passes it or none.
    sample_weight : array that broadcasts to (*rows), optional
        A constant weight for each row, of any integer or floating dtype. A row of weight 0 is
        absent. The same on each rank.
    where : array of bool that broadcasts to (*rows), optional
        False makes a row absent: it contributes exactly nothing to loss and gradient, whatever
        stands in it, NaN included. The same on each rank.
    ignore_index : int or None, default -100
        The label of absent rows; None: no label is special. This and all options below are the
        same on each rank.
    label_smoothing : float in [0, 1], default 0.0
        The share of each target that is spread evenly over the possible classes of its row, those
        of all ranks.
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
        transfer, and rejects negative weights too. False never reads.

    Returns
    -------
    Array
        0-d, or one loss a row; float64 for float64 logits_shard, else float32.

    Raises
    ------
    TypeError
        An argument of the wrong type, dtype or library. The message names it.
    ValueError
        An argument of the wrong shape, value or device. The message names it. Or ranks that
        disagree on rows, dtype, options or labels.
    IndexError
        A label outside [0, classes) that is not ``ignore_index`` (see ``validate``).
    RuntimeError
        Another rank refused its arguments, or the group's own error: a rank died or did not come
        within the group's timeout.

    See Also
    --------
    cross_entropy : the same loss where one process holds all classes.
    linear_cross_entropy : takes the same group, for a weight whose classes are spread.

    Notes
    -----
    PyTorch computes it outside the graph of ``torch.compile``, and not under ``torch.func``. JAX
    differentiates it to any order, forward and backward.

    References
    ----------
    Shoeybi et al., "Megatron-LM: training multi-billion parameter language models using model
    parallelism" (2019), section 3.

    Examples
    --------
    One rank of one, which holds all classes:

    >>> import torch
    >>> import torch.distributed as dist
    >>> from xloss import vocab_parallel_cross_entropy
    >>> dist.init_process_group("gloo", store=dist.HashStore(), rank=0, world_size=1)
    >>> logits, targets = torch.tensor([[2.0, 1.0, 0.0]]), torch.tensor([0])
    >>> vocab_parallel_cross_entropy(logits, targets, group=dist.group.WORLD)
    tensor(0.4076)
    >>> dist.destroy_process_group()
    """
    call = prepare_shard(
        logits_shard,
        targets,
        group=group,
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
