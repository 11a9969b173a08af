"""Statistics of each row, of which a training log is made: the loss and what goes with it."""

from __future__ import annotations

from typing import NamedTuple

from .. import backends
from .._arrays.inspect import as_written, spread
from .._typing import Array, BlockRows, Validate
from ..core.call import LossCall
from ..core.options import Outputs
from ._check import described
from ._check_top_k import WRITTEN_OUT, refuse
from ._class_shards import prepare_linear
from ._prepare import classes_call


class TokenStats(NamedTuple):
    """What :func:`token_stats` returns: arrays of shape (*rows), one number a row each."""

    loss: Array  #: the row losses of :func:`cross_entropy`, the only field with a gradient
    lse: Array  #: log-sum-exp of the logits
    correct: Array  #: bool: the target is the first of the largest logits
    entropy: Array  #: of softmax(logits), in nats
    max_prob: Array  #: the largest probability
    z_term: Array  #: the part of the loss that ``z_loss`` adds
    weight: Array  #: W, the row's share of the denominator of a mean
    rank: Array | None  #: how many classes are ahead of the target; None unless asked for


def token_stats(
    logits: Array,
    targets: Array,
    /,
    *,
    rank: bool = False,
    axis: int = -1,
    weight: Array | None = None,
    sample_weight: Array | None = None,
    where: Array | None = None,
    ignore_index: int | None = -100,
    label_smoothing: float = 0.0,
    z_loss: float = 0.0,
    softcap: float | None = None,
    validate: Validate = "auto",
) -> TokenStats:
    r"""Row losses of :func:`cross_entropy`, and all that a training log wants to know beside them.

    With p = softmax(z), z = logits (or ``softcap * tanh(logits / softcap)``), of each row ::

        loss     = cross_entropy(logits, targets, reduction="none", ...)
        lse      = log sum_j exp(z_j)
        entropy  = -sum_j p_j log p_j
        max_prob = max_j p_j
        z_term   = z_loss * W * lse**2                  (a part of the loss)
        weight   = W = sample_weight * sum_j weight_j t_j
        rank     = #{j: logits_j > logits_y} + #{j < y: logits_j = logits_y}
        correct  = (rank == 0)

    where y is the label or, of soft targets, the first class of the largest probability. The mean
    loss is ``sum(loss) / sum(weight)``, the accuracy ``sum(correct) / count_nonzero(weight)``,
    the top-k accuracy that of ``rank < k``.

    In an absent row (see ``ignore_index``) every number is 0, correct is False, and rank is the
    number of classes, so that sums over all rows are those over the rows that are present. Where
    the loss is NaN, correct is False, and rank is the number of classes. In a row with no possible
    class (all -inf) lse is -inf, entropy and max_prob are NaN. A label out of range
    makes loss and z_term NaN; what does not depend on the label is as it would be.

    Parameters
    ----------
    logits : floating array of shape (*rows, classes)
        The class axis may stand anywhere (see ``axis``). A logit of -inf masks its class; +inf
        logits share the whole probability.
    targets : array, integer or floating
        Class indices of any integer dtype and of shape (*rows); or soft targets, which are
        probabilities of any floating dtype, of the shape of logits.
    rank : bool, default False
        Whether to count the classes that are ahead of the target. Of logits that are equal the one
        with the smaller class number is ahead. A softcap changes no rank.
    axis : int, default -1
        The class axis of logits and of soft targets.
    weight : array of shape (classes,), optional
        A constant weight for each class, of any integer or floating dtype. Absent: 1 for each.
    sample_weight : array that broadcasts to (*rows), optional
        A constant weight for each row, of any integer or floating dtype. A row of weight 0 is
        absent.
    where : array of bool that broadcasts to (*rows), optional
        False makes a row absent, whatever stands in it, NaN included.
    ignore_index : int or None, default -100
        The label of absent rows; None: no label is special. With soft targets it is unused, and
        an error if it is 0 or more.
    label_smoothing : float in [0, 1], default 0.0
        The share of each target that is spread evenly over the possible classes of its row.
    z_loss : float >= 0, default 0.0
        Factor of the squared log-sum-exp.
    softcap : float > 0, optional
        Bound of the logits: ``softcap * tanh(logits / softcap)`` takes their place.
    validate : {"auto", True, False}, default "auto"
        Whether bad values raise: the ``validate`` of :func:`cross_entropy`.

    Returns
    -------
    TokenStats
        A named tuple of arrays of shape (*rows): loss, lse, correct, entropy, max_prob, z_term,
        weight, and rank, which is None unless it is asked for. Floats are float64 for float64
        logits, else float32; correct is bool, rank int64 (int32 where the library has no int64).
        Only loss has a gradient; to autodiff the others are constants.

    Raises
    ------
    TypeError, ValueError, IndexError
        What :func:`cross_entropy` raises of these arguments. The message names the argument.

    See Also
    --------
    linear_token_stats : the same of ``features @ weight.T``, whose logits are never held.
    Evaluation : adds such rows up over batches.
    entropy, logsumexp : one of these alone, with its gradient.

    Notes
    -----
    The CPU engine reads a block of rows from memory once, and twice from the cache: the first pass
    is that of the loss, which has the same bits as alone, the second sums up the entropy and counts
    the rank. The generic engine takes all of a row block from the same exponentials, XLA and
    PyTorch's compiler fuse what they trace, and on CUDA the entropy is made of the statistics that
    the kernel of the loss leaves, by plain operations in blocks of rows. Dask maps chunks of rows,
    whose classes become one chunk.

    References
    ----------
    Shannon, "A mathematical theory of communication" (1948), section 6, has the entropy; de
    Brébisson and Vincent, "The Z-loss: a shift and scale invariant classification loss belonging
    to the spherical family" (2016), and Chowdhery et al., "PaLM" (2022), section 5, the z term.

    Examples
    --------
    >>> import numpy as np
    >>> from xloss import token_stats
    >>> logits = np.array([[2.0, 0.0, 0.0], [0.0, 1.0, 0.0], [9.0, 9.0, 9.0]])
    >>> got = token_stats(logits, np.array([0, 2, -100]), rank=True)
    >>> got.loss.round(4), got.entropy.round(4)
    (array([0.2395, 1.5514, 0.    ]), array([0.6656, 0.9753, 0.    ]))
    >>> got.correct, got.rank
    (array([ True, False, False]), array([0, 2, 3]))
    >>> float(got.loss.sum() / got.weight.sum())  # cross_entropy(logits, targets)
    0.8954947400769678
    """
    refuse(targets, "token_stats", WRITTEN_OUT)
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
        reduction="none",
        validate=validate,
    )
    return of_call(call, rank)


def linear_token_stats(
    features: Array,
    weight: Array,
    targets: Array,
    /,
    *,
    rank: bool = False,
    bias: Array | None = None,
    class_weight: Array | None = None,
    block_rows: BlockRows = "auto",
    sample_weight: Array | None = None,
    where: Array | None = None,
    ignore_index: int | None = -100,
    label_smoothing: float = 0.0,
    z_loss: float = 0.0,
    softcap: float | None = None,
    validate: Validate = "auto",
) -> TokenStats:
    r"""Statistics of the rows of ``features @ weight.T + bias``, without ever holding those logits.

    ``token_stats(features @ weight.T + bias, targets, ...)``, in blocks of rows as
    :func:`linear_cross_entropy` takes them: the numbers beside the loss cost no second product.

    Parameters
    ----------
    features : floating array of shape (*rows, D)
        Its dtype decides that of the arithmetic.
    weight : floating array of shape (classes, D)
        As of a linear layer.
    targets : array, integer or floating
        Class indices of any integer dtype and of shape (*rows); or soft targets of any floating
        dtype and of shape (*rows, classes).
    rank : bool, default False
        Whether to count the classes that are ahead of the target.
    bias : floating array of shape (classes,), optional
        Added to the logits of each row; -inf masks a class.
    class_weight : array of shape (classes,), optional
        A constant weight for each class: the ``weight`` of :func:`cross_entropy`.
    block_rows : int >= 1 or "auto", default "auto"
        How many rows of logits are held at once; "auto" chooses from the shape, so that they take
        160 MiB at most (40 where they are traced; on a GPU 576).
    sample_weight : array that broadcasts to (*rows), optional
        A constant weight for each row, of any integer or floating dtype. A row of weight 0 is
        absent.
    where : array of bool that broadcasts to (*rows), optional
        False makes a row absent, and its features are not read.
    ignore_index : int or None, default -100
        The label of absent rows; None: no label is special. With soft targets it is unused, and
        an error if it is 0 or more.
    label_smoothing : float in [0, 1], default 0.0
        The share of each target that is spread evenly over the possible classes of its row.
    z_loss : float >= 0, default 0.0
        Factor of the squared log-sum-exp.
    softcap : float > 0, optional
        Bound of the logits: ``softcap * tanh(logits / softcap)`` takes their place.
    validate : {"auto", True, False}, default "auto"
        Whether bad values raise: the ``validate`` of :func:`cross_entropy`.

    Returns
    -------
    TokenStats
        As of :func:`token_stats`. Only loss has a gradient, to features, weight, bias and soft
        targets; the backward pass computes the logits again.

    Raises
    ------
    TypeError, ValueError, IndexError
        What :func:`linear_cross_entropy` raises of these arguments. The message names the argument.

    See Also
    --------
    token_stats : the same of logits that are held, and the formulas.
    linear_cross_entropy : the loss alone, reduced.

    References
    ----------
    Wijmans et al., "Cut your losses in large-vocabulary language models" (2024).

    Examples
    --------
    >>> import numpy as np
    >>> from xloss import linear_token_stats
    >>> features, weight = np.array([[1.0, 2.0]]), np.array([[0.0, 1.0], [1.0, 0.0]])
    >>> got = linear_token_stats(features, weight, np.array([0]))
    >>> got.loss.round(4), got.correct, got.max_prob.round(4)
    (array([0.3133]), array([ True]), array([0.7311]))
    """
    refuse(targets, "linear_token_stats", WRITTEN_OUT)
    call = prepare_linear(
        features,
        weight,
        targets,
        bias=bias,
        class_weight=class_weight,
        block_rows=block_rows,
        group=None,
        sample_weight=sample_weight,
        where=where,
        ignore_index=ignore_index,
        label_smoothing=label_smoothing,
        z_loss=z_loss,
        softcap=softcap,
        reduction="none",
        normalizer=None,
        validate=validate,
    )
    return of_call(call, rank)


@as_written
def of_call(call: LossCall, rank: bool) -> TokenStats:
    """Return the statistics of a prepared call of cross-entropy, by the backend of its library."""
    if not isinstance(rank, bool):
        raise TypeError(f"rank: expected True or False, got {described(rank)}")
    o = call.operands
    if spread(o.x):
        raise TypeError(
            f"{call.arguments[0]}: a DTensor; pass its full_tensor(), or on each rank the rows "
            "that it has, as to_local() of an array that is sharded by rows"
        )
    asked = Outputs(rows=True, tokens=True, entropy=True, rank=rank)
    loss, made = backends.of_tokens(call).tokens(call, asked)
    weight = call.cx.plain(call.cx.cast(made.weight, call.cx.compute_dtype))
    return TokenStats(loss, **made._replace(weight=weight)._asdict())
