"""Cross-entropy of a vocabulary whose classes are spread over many machines."""

from __future__ import annotations

from typing import Any

from .._arrays.inspect import Array
from ..backends import process_groups
from ..core.call import LossCall
from ._call import loss
from ._class_shards import shard_call


@loss
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
    reduction: str = "mean",
    normalizer: Any = None,
    validate: bool | str = "auto",
) -> LossCall:
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
    logits_shard
        Floating array (*rows, classes of this rank), the class axis last. Slices may differ in
        size, and may be empty.
    targets
        Global class indices (*rows), any integer dtype, the same on each rank.
    group
        The ranks. PyTorch: a ``torch.distributed`` ProcessGroup (autograd to first order). NumPy
        and CuPy: an mpi4py communicator. JAX: the name of a mesh axis, inside ``shard_map``.
    weight
        (classes of this rank,): this rank's slice of the class weights.
    sample_weight, where, normalizer
        As in :func:`cross_entropy`; the same on each rank.
    ignore_index, label_smoothing, z_loss, softcap, reduction, validate
        As in :func:`cross_entropy`; the same on each rank. Smoothing spreads over the possible
        classes of all ranks.

    Returns
    -------
    Array
        0-d, or one loss a row; float64 for float64 logits, else float32.

    Raises
    ------
    TypeError, ValueError, IndexError
        As in :func:`cross_entropy`; ValueError too where ranks disagree on rows, dtype, options
        or labels.
    RuntimeError
        Another rank refused its arguments, or the group's own error: a rank died or did not come
        within the group's timeout.

    Notes
    -----
    PyTorch computes it outside the graph of ``torch.compile``, and not under ``torch.func``. JAX
    differentiates it to any order, forward and backward.

    See Also
    --------
    linear_cross_entropy : takes the same group, for a weight whose classes are spread.

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
    return process_groups.uncompiled(
        shard_call,
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
