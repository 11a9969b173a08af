"""Cross-entropy with its options kept, for code that wants an object."""

from __future__ import annotations

from dataclasses import dataclass

from .._typing import Array, Normalizer, Reduction, Validate
from ..core.call import LossCall
from ._call import evaluate
from ._prepare import classes_call
from .top_k import TopKTargets


@dataclass(frozen=True, eq=False, kw_only=True)
class CrossEntropyLoss:
    """The options of :func:`cross_entropy`, kept: a callable ``loss(logits, targets)``.

    logits are a floating array of shape (*rows, classes), and targets class indices of shape
    (*rows) or soft targets of the logits' shape. An object cannot be changed, and is compared by
    identity: its weights are arrays, whose comparison has no truth value.

    Parameters
    ----------
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
        "auto" raises for a bad label where the targets are a concrete host array (with NumPy
        targets beside a device: where the other arrays are NumPy's too). Elsewhere loss and
        gradient of that row are NaN. True reads the values wherever they are, at the price of a
        transfer, and rejects negative weights and soft targets too. False never reads.

    Raises
    ------
    TypeError
        An option that does not exist, when the object is made. What is wrong with the value of an
        option is said by the first call.

    See Also
    --------
    cross_entropy : the function, which says what the loss is.
    value_and_grad : takes such an object in place of a function.

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
    reduction: Reduction = "mean"
    normalizer: Normalizer | None = None
    validate: Validate = "auto"

    def __call__(self, logits: Array, targets: Array | TopKTargets, /) -> Array:
        """Return ``cross_entropy(logits, targets, **options)``."""
        return evaluate(self.prepare(logits, targets))

    def prepare(self, logits: Array, targets: Array | TopKTargets, /) -> LossCall:
        """Check the arguments and return the call that is evaluated, for `value_and_grad`."""
        return classes_call(
            "cross_entropy",
            logits,
            targets,
            axis=self.axis,
            weight=self.weight,
            sample_weight=self.sample_weight,
            where=self.where,
            ignore_index=self.ignore_index,
            label_smoothing=self.label_smoothing,
            z_loss=self.z_loss,
            softcap=self.softcap,
            reduction=self.reduction,
            normalizer=self.normalizer,
            validate=self.validate,
        )
