"""Losses of xloss as ``keras.losses.Loss``: for ``model.compile``, on the backend Keras runs on.

Keras hands a loss ``(y_true, y_pred)``, the labels already cast to the loss's floating dtype and
shaped (N,) or (N, 1); it applies sample weights and masks itself, to one number a row. So these
classes return one number a row, and signature, defaults and results are those of Keras' own.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import keras
from keras import ops

from xloss import (
    binary_cross_entropy,
    binary_cross_entropy_with_logits,
    cross_entropy,
    focal_loss,
    kl_div,
    log_loss,
)

__all__ = ["BinaryCrossEntropy", "CrossEntropy", "Focal", "KLDivergence"]

# The largest n up to which every integer 0 .. n is a number of the dtype: Keras casts labels to it.
_EXACT = {"bfloat16": 2**8, "float16": 2**11, "float32": 2**24, "float64": 2**53}


class _Loss(keras.losses.Loss):  # type: ignore[misc]  # Keras has no types
    """A loss whose options make its configuration."""

    def __init__(self, reduction: str | None, name: str | None, dtype: Any, **options: Any) -> None:
        super().__init__(name=name, reduction=reduction, dtype=dtype)
        self.options = options

    def __call__(self, y_true: Any, y_pred: Any, sample_weight: Any = None) -> Any:
        """Return the loss; a list is one array, as for Keras' own."""
        y = (ops.convert_to_tensor(y) if isinstance(y, list) else y for y in (y_true, y_pred))
        return super().__call__(*y, sample_weight)

    def get_config(self) -> dict[str, Any]:
        """Return what the constructor takes."""
        return {**super().get_config(), **self.options}

    def targets(self, y_true: Any, y_pred: Any) -> Any:
        """Return class indices where y_true holds labels, else y_true, which has y_pred's shape."""
        axis, rank = self.options["axis"], len(y_pred.shape)
        classes = y_pred.shape[axis]
        if classes == 1:
            raise ValueError(
                f"y_pred: has one class along axis {axis}, whose probability is always 1; for one "
                "number a sample use BinaryCrossEntropy"
            )
        if len(y_true.shape) == rank and y_true.shape[axis] != 1:
            return y_true
        if len(y_true.shape) == rank:
            y_true = ops.squeeze(y_true, axis)
        if classes is not None and classes - 1 > _EXACT[self.dtype]:
            raise ValueError(
                f"dtype: Keras has rounded the labels to {self.dtype}, which does not hold every "
                f"index of {classes} classes; pass dtype='float32' to the loss (16-bit predictions "
                "are computed in float32 either way)"
            )
        return ops.cast(y_true, "int32")


def _normalised(y_pred: Any, axis: int) -> Any:
    """Divide probabilities by their sum, as Keras does."""
    return y_pred / ops.sum(y_pred, axis=axis, keepdims=True)


@keras.saving.register_keras_serializable(package="xloss")
class CrossEntropy(_Loss):
    """:func:`xloss.cross_entropy` as a Keras loss, of labels and of one-hot targets alike.

    In place of ``SparseCategoricalCrossentropy`` and ``CategoricalCrossentropy``.

    Parameters
    ----------
    from_logits
        Whether y_pred are logits; if not, probabilities, which are divided by their sum and clipped
        into [epsilon, 1 - epsilon] as Keras does (``keras.config.epsilon()``).
    label_smoothing, axis
        As in Keras; smoothing is for labels too, where Keras' sparse loss has none.
    ignore_class
        The label of rows that do not count: their loss is 0, and the mean is over the others.
    z_loss, softcap
        As in :func:`xloss.cross_entropy`; of logits only.
    reduction, name, dtype
        As in ``keras.losses.Loss``.

    Notes
    -----
    y_true: labels (N,) or (N, 1), more row axes before; or probabilities of y_pred's shape.
    Differs from Keras: a confident row's loss is not rounded to 0; a label out of range is an
    IndexError on the torch backend and a NaN row on JAX; masked classes (logits -inf) take part in
    no smoothing; labels that a 16-bit ``dtype`` would round are a ValueError.

    Examples
    --------
    >>> import keras, numpy as np
    >>> from xloss.adapters.keras import CrossEntropy
    >>> loss = CrossEntropy(from_logits=True)
    >>> float(loss(np.array([0]), np.array([[0.0, 0.0]])))
    0.6931471824645996
    """

    def __init__(
        self,
        from_logits: bool = False,
        label_smoothing: float = 0.0,
        ignore_class: int | None = None,
        axis: int = -1,
        reduction: str | None = "sum_over_batch_size",
        name: str | None = "cross_entropy",
        dtype: Any = None,
        *,
        z_loss: float = 0.0,
        softcap: float | None = None,
    ) -> None:
        if not from_logits and (z_loss or softcap is not None):
            raise ValueError("z_loss, softcap: are of logits; pass from_logits=True with them")
        super().__init__(
            reduction,
            name,
            dtype,
            from_logits=from_logits,
            label_smoothing=label_smoothing,
            ignore_class=ignore_class,
            axis=axis,
            z_loss=z_loss,
            softcap=softcap,
        )

    def call(self, y_true: Any, y_pred: Any) -> Any:
        """Return one loss a row."""
        options = dict(self.options)
        from_logits, ignored = options.pop("from_logits"), options.pop("ignore_class")
        targets = self.targets(y_true, y_pred)
        if from_logits:
            rows = cross_entropy(y_pred, targets, ignore_index=ignored, reduction="none", **options)
        else:
            del options["z_loss"], options["softcap"]
            options |= {"ignore_index": ignored, "eps": keras.config.epsilon()}
            probs = _normalised(y_pred, options["axis"])
            rows = log_loss(probs, targets, reduction="none", **options)
        if ignored is not None and targets is not y_true:
            # By its mask Keras knows which rows its mean is over. No public name sets one, and an
            # attribute of our own would be lost on JAX, whose arrays take none.
            from keras.src.backend.common.masking import set_keras_mask

            set_keras_mask(rows, ops.not_equal(targets, ignored))
        return rows


@keras.saving.register_keras_serializable(package="xloss")
class BinaryCrossEntropy(_Loss):
    """:func:`xloss.binary_cross_entropy` and ``_with_logits`` as a Keras loss.

    In place of ``BinaryCrossentropy``: the mean over ``axis``, one number a sample.

    Parameters
    ----------
    from_logits
        Whether y_pred are logits; if not, probabilities, clipped into [epsilon, 1 - epsilon].
    label_smoothing, axis, reduction, name, dtype
        As in Keras.

    Notes
    -----
    y_true: (N,) or of y_pred's shape. Differs from Keras: a confident row's loss is not rounded to
    0, and with y_pred of shape (N,) sample weights are one a sample.
    """

    def __init__(
        self,
        from_logits: bool = False,
        label_smoothing: float = 0.0,
        axis: int = -1,
        reduction: str | None = "sum_over_batch_size",
        name: str | None = "binary_cross_entropy",
        dtype: Any = None,
    ) -> None:
        super().__init__(
            reduction,
            name,
            dtype,
            from_logits=from_logits,
            label_smoothing=label_smoothing,
            axis=axis,
        )

    def call(self, y_true: Any, y_pred: Any) -> Any:
        """Return one loss a sample: the mean over the axis."""
        options = self.options
        y_true, y_pred = (
            ops.expand_dims(y, -1) if len(y.shape) == 1 else y for y in (y_true, y_pred)
        )
        smoothing = options["label_smoothing"]
        if options["from_logits"]:
            losses = binary_cross_entropy_with_logits(
                y_pred, y_true, label_smoothing=smoothing, reduction="none"
            )
        else:
            losses = binary_cross_entropy(
                y_pred,
                y_true,
                label_smoothing=smoothing,
                eps=keras.config.epsilon(),
                reduction="none",
            )
        return ops.mean(losses, axis=options["axis"])


@keras.saving.register_keras_serializable(package="xloss")
class Focal(_Loss):
    """:func:`xloss.focal_loss` as a Keras loss, of labels and of one-hot targets alike.

    In place of ``CategoricalFocalCrossentropy``.

    Parameters
    ----------
    alpha
        A number, or one a class: what each class's term is multiplied by.
    gamma, from_logits, label_smoothing, axis, reduction, name, dtype
        As in Keras.

    Notes
    -----
    y_true: labels (N,) or (N, 1), or probabilities of y_pred's shape. Differs from Keras: of logits
    nothing is clipped, so that a confident row's loss is not rounded.
    """

    def __init__(
        self,
        alpha: float | Sequence[float] = 0.25,
        gamma: float = 2.0,
        from_logits: bool = False,
        label_smoothing: float = 0.0,
        axis: int = -1,
        reduction: str | None = "sum_over_batch_size",
        name: str | None = "focal",
        dtype: Any = None,
    ) -> None:
        super().__init__(
            reduction,
            name,
            dtype,
            alpha=ops.convert_to_numpy(alpha).tolist(),  # plain numbers are saved with a model
            gamma=gamma,
            from_logits=from_logits,
            label_smoothing=label_smoothing,
            axis=axis,
        )

    def call(self, y_true: Any, y_pred: Any) -> Any:
        """Return one loss a row."""
        options = dict(self.options)
        alpha, axis = options.pop("alpha"), options["axis"]
        targets = self.targets(y_true, y_pred)
        if not options.pop("from_logits"):
            # Logarithms of probabilities are logits: their softmax gives the probabilities back.
            epsilon = keras.config.epsilon()
            y_pred = ops.log(ops.clip(_normalised(y_pred, axis), epsilon, 1 - epsilon))
        factor, weight = alpha, None
        if isinstance(alpha, list):
            factor, weight = 1, ops.convert_to_tensor(alpha, dtype=self.dtype)
        return factor * focal_loss(
            y_pred, targets, weight=weight, ignore_index=None, reduction="none", **options
        )


@keras.saving.register_keras_serializable(package="xloss")
class KLDivergence(_Loss):
    """:func:`xloss.kl_div` as a Keras loss, in place of ``KLDivergence``.

    Parameters
    ----------
    reduction, name, dtype
        As in Keras.

    Notes
    -----
    y_true: probabilities of y_pred's shape, the classes on the last axis. y_pred is clipped into
    [epsilon, 1]. Differs from Keras: a class of target probability 0 adds exactly 0, where Keras
    clips the target to epsilon.
    """

    def __init__(
        self,
        reduction: str | None = "sum_over_batch_size",
        name: str | None = "kl_divergence",
        dtype: Any = None,
    ) -> None:
        super().__init__(reduction, name, dtype)

    def call(self, y_true: Any, y_pred: Any) -> Any:
        """Return one divergence a row."""
        log_probs = ops.log(ops.clip(y_pred, keras.config.epsilon(), 1.0))
        return kl_div(log_probs, y_true, reduction="none")
