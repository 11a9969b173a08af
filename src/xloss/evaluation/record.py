"""The record of an evaluation: exact sums, counts, and the metrics computed from them."""

from __future__ import annotations

from dataclasses import dataclass, field, fields
from math import nan

import numpy as np

from .._typing import Array, Validate
from ..losses._check_top_k import WRITTEN_OUT, refuse
from ..ops import perplexity
from .exact_sum import Sum, quotient
from .rows import Measured, measure, prepared

SCHEMA = 1


@dataclass(frozen=True, slots=True)
class EvaluationResult:
    """The metrics of an :class:`Evaluation`, as plain numbers."""

    loss: float  # Σ row losses / Σ W; 0.0 where nothing is counted
    perplexity: float  # exp(loss)
    accuracy: float  # right / counted; NaN where nothing is counted
    rows: int
    counted: int  # rows that are present and have a weight W other than 0
    ignored: int  # rows - counted
    weight: float  # Σ W, the denominator of the loss


@dataclass(slots=True)
class Evaluation:
    r"""Loss, perplexity and accuracy of a classifier over any number of batches.

    After batches of rows i with row losses and weights W as :func:`cross_entropy` has them ::

        loss       = sum_i row_i / sum_i W_i
        perplexity = exp(loss)
        accuracy   = (rows predicted right) / (rows counted)

    A row is *counted* if it is present (its label is not ``ignore_index``, ``where`` is True,
    ``sample_weight`` is not 0) and its W is not 0; all other rows are *ignored*. A row is
    *predicted right* if the first of its largest logits stands at its label, or, with soft
    targets, at the first of its largest probabilities, and its loss is not NaN. Accuracy is a
    share of rows: weights do not enter it.

    Both sums are kept to about 106 bits: neither the number of batches nor their order, nor how
    records are merged, changes the loss by more than the last digit. A row loss of NaN or +inf
    makes the loss so, for good. ``Evaluation()`` is the neutral element of ``+``; records are
    equal if all their numbers are.

    See Also
    --------
    token_stats : the loss, the weight and whether the prediction is right, of each row.
    diagnose : why a loss is NaN or infinite.

    Examples
    --------
    >>> import numpy as np
    >>> from xloss import Evaluation
    >>> logits = np.array([[2.0, 1.0, 0.0], [0.0, 3.0, 0.0], [1.0, 0.0, 0.0]])
    >>> first = Evaluation().update(logits[:2], np.array([0, 1]))
    >>> first
    Evaluation(loss=0.251264, perplexity=1.28565, accuracy=100.00%, rows=2: 2 counted, 0 ignored)
    >>> second = Evaluation().update(logits[2:], np.array([-100]))
    >>> result = (first + second).result()
    >>> round(result.loss, 6), result.accuracy, result.counted, result.ignored
    (0.251264, 1.0, 2, 1)
    """

    _loss: Sum = field(default_factory=Sum)
    _weight: Sum = field(default_factory=Sum)
    _rows: int = 0
    _counted: int = 0
    _right: int = 0

    def update(
        self,
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
        validate: Validate = "auto",
    ) -> Evaluation:
        """Add a batch to this record, and return the record itself.

        ``loss += sum_i row_i; weight += sum_i W_i``, and likewise the counts. Nothing of the
        batch is kept, and no gradient is recorded. The options may differ from batch to batch.

        Parameters
        ----------
        logits : floating array of shape (*rows, classes)
            Of any array library. A batch of no rows changes nothing.
        targets : array, integer or floating
            Class indices of shape (*rows), or soft targets of the logits' shape.
        axis : int, default -1
            The class axis of logits and of soft targets.
        weight : array of shape (classes,), optional
            A weight for each class.
        sample_weight : array that broadcasts to (*rows), optional
            A weight for each row. A row of weight 0 is absent.
        where : array of bool that broadcasts to (*rows), optional
            False makes a row absent.
        ignore_index : int or None, default -100
            The label of absent rows.
        label_smoothing : float in [0, 1], default 0.0
            The share of each target that is spread evenly over the possible classes.
        z_loss : float >= 0, default 0.0
            Factor of the squared log-sum-exp.
        softcap : float > 0, optional
            Bound of the logits: ``softcap * tanh(logits / softcap)`` takes their place.
        validate : {"auto", True, False}, default "auto"
            Whether bad values raise: the ``validate`` of :func:`cross_entropy`.

        Returns
        -------
        Evaluation
            This record, so that calls chain.

        Raises
        ------
        TypeError, ValueError, IndexError
            What :func:`cross_entropy` raises of these arguments. The record is then as it was.

        Examples
        --------
        >>> import numpy as np
        >>> from xloss import Evaluation
        >>> Evaluation().update(np.zeros((1, 2)), np.array([0])).result().perplexity
        2.0
        """
        refuse(targets, "Evaluation", WRITTEN_OUT)
        call = prepared(
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
            validate=validate,
        )
        self.add(measure(call))
        return self

    def add(self, batch: Measured) -> None:
        """Add the rows of a batch after they were measured."""
        self._loss += Sum.of(batch.losses)
        self._weight += Sum.of(batch.weights)
        self._rows += batch.losses.size
        self._counted += int(np.count_nonzero(batch.weights))
        self._right += int(np.count_nonzero(batch.right))

    def __repr__(self) -> str:
        now = self.result()
        return (
            f"Evaluation(loss={now.loss:.6g}, perplexity={now.perplexity:.6g}, "
            f"accuracy={now.accuracy:.2%}, rows={now.rows:,}: {now.counted:,} counted, "
            f"{now.ignored:,} ignored)"
        )

    def __add__(self, other: Evaluation) -> Evaluation:
        """Return the record of both records' batches; neither is changed."""
        if not isinstance(other, Evaluation):
            return NotImplemented
        pairs = ((getattr(self, f.name), getattr(other, f.name)) for f in fields(self))
        return Evaluation(*(a + b for a, b in pairs))

    def result(self) -> EvaluationResult:
        """Return the metrics of all batches, as plain numbers.

        ``loss = sum_i row_i / sum_i W_i``, 0.0 where the weights sum to 0, as the mean of
        :func:`cross_entropy` is; the accuracy of no row is NaN.

        Returns
        -------
        EvaluationResult
            A frozen dataclass: loss, perplexity, accuracy, rows, counted, ignored, weight.

        Examples
        --------
        >>> from xloss import Evaluation
        >>> Evaluation().result().loss
        0.0
        """
        weight = self._weight.high
        loss = quotient(self._loss, self._weight) if weight else 0.0
        return EvaluationResult(
            loss=loss,
            perplexity=perplexity(loss),
            accuracy=self._right / self._counted if self._counted else nan,
            rows=self._rows,
            counted=self._counted,
            ignored=self._rows - self._counted,
            weight=weight,
        )

    def to_dict(self) -> dict[str, int | float]:
        """Return the record as plain numbers, which lose nothing on the way through JSON.

        A sum stands as the two floats it is the sum of. Of a loss that is not finite the number
        is not finite either, which strict JSON has no word for.

        Returns
        -------
        dict
            schema (1), loss, loss_low, weight, weight_low, rows, counted, right.

        Examples
        --------
        >>> from xloss import Evaluation
        >>> Evaluation().to_dict()["schema"]
        1
        """
        return {
            "schema": SCHEMA,
            "loss": self._loss.high,
            "loss_low": self._loss.low,
            "weight": self._weight.high,
            "weight_low": self._weight.low,
            "rows": self._rows,
            "counted": self._counted,
            "right": self._right,
        }

    @classmethod
    def from_dict(cls, numbers: dict[str, int | float], /) -> Evaluation:
        """Return the record that :meth:`to_dict` wrote.

        Parameters
        ----------
        numbers
            What :meth:`to_dict` returned.

        Returns
        -------
        Evaluation
            A record equal to the one written.

        Raises
        ------
        TypeError, ValueError
            Not such a dictionary; the message names what is wrong.

        Examples
        --------
        >>> from xloss import Evaluation
        >>> Evaluation.from_dict(Evaluation().to_dict()) == Evaluation()
        True
        """
        if not isinstance(numbers, dict):
            raise TypeError(f"numbers: expected a dict, got {type(numbers).__name__}")
        if numbers.get("schema") != SCHEMA:
            raise ValueError(f"schema: expected {SCHEMA}, got {numbers.get('schema')!r}")
        expected = cls().to_dict()
        if odd := expected.keys() ^ numbers.keys():
            raise ValueError(f"numbers: missing or unknown: {', '.join(sorted(map(str, odd)))}")
        for name, like in expected.items():
            value = numbers[name]
            fits = (int, float) if isinstance(like, float) else int
            if isinstance(value, bool) or not isinstance(value, fits):
                raise TypeError(f"{name}: expected a plain number, got {value!r}")
        rows, counted, right = (int(numbers[name]) for name in ("rows", "counted", "right"))
        if not 0 <= right <= counted <= rows:
            raise ValueError(f"expected 0 <= right <= counted <= rows: {right}, {counted}, {rows}")
        loss = Sum(float(numbers["loss"]), float(numbers["loss_low"]))
        weight = Sum(float(numbers["weight"]), float(numbers["weight_low"]))
        return cls(loss, weight, rows, counted, right)
