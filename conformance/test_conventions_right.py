"""Right losses, called as each peer is, pass; the same off by a millionth fail."""

from __future__ import annotations

import inspect
from typing import Any

import numpy as np
import pytest

import xloss
from by_hand import (
    LABELS,
    ROW_WEIGHT,
    SOFT,
    P,
    made,
    needs_all,
)
from xloss_conformance.candidates import Candidate
from xloss_conformance.cases import catalogue
from xloss_conformance.conventions import convention
from xloss_conformance.judge import judge
from xloss_conformance.model import Case
from xloss_conformance.peers import PEERS, here

pytestmark = needs_all


def _torch_right(
    input: Any,
    target: Any,
    weight: Any = None,
    ignore_index: int = -100,
    reduction: Any = "mean",
    label_smoothing: float = 0.0,
) -> Any:
    import torch

    axis = min(1, input.ndim - 1)
    own = {"axis": axis, "weight": weight, "label_smoothing": label_smoothing}
    soft = target.is_floating_point()
    if not soft:
        own["ignore_index"] = ignore_index
        counted = target[target != ignore_index]
        if reduction == "mean" and weight is not None and counted.numel():
            counted = weight[counted.clip(0, len(weight) - 1).long()].nonzero()
        nothing = not counted.numel()
    else:
        rows = target.numel() // max(1, target.shape[axis])
        nothing = not rows
        if reduction == "mean":
            own["normalizer"] = max(rows, 1)
    value = xloss.cross_entropy(input, target, reduction=reduction, **own)
    return value + torch.nan if nothing and reduction == "mean" else value


def _keras_right(y_true: Any, y_pred: Any, label_smoothing: float = 0.0, axis: int = -1) -> Any:
    import keras

    if len(y_true.shape) < len(y_pred.shape):
        y_true = keras.ops.cast(y_true, "int32")
    return xloss.cross_entropy(
        y_pred, y_true, axis=axis, label_smoothing=label_smoothing, reduction="none"
    )


def _optax_right(logits: Any, labels: Any, axis: int = -1, where: Any = None) -> Any:
    import jax.numpy as jnp

    rows = None if where is None else jnp.squeeze(where, axis)
    return xloss.cross_entropy(
        logits, labels, axis=axis, where=rows, ignore_index=None, reduction="none"
    )


def _sklearn_right(
    y_true: Any,
    y_proba: Any,
    *,
    labels: Any = None,
    normalize: bool = True,
    sample_weight: Any = None,
) -> Any:
    return xloss.log_loss(
        y_proba,
        y_true,
        eps=float(np.finfo(y_proba.dtype).eps),
        ignore_index=None,
        sample_weight=sample_weight,
        reduction="mean" if normalize else "sum",
    )


def _scipy_right(logits: Any, targets: Any, axis: int = -1) -> Any:
    return xloss.cross_entropy(
        logits, targets, axis=axis, ignore_index=None, reduction="none", validate=False
    )


def _tensorflow_right(labels: Any, logits: Any) -> Any:
    return xloss.cross_entropy(logits, labels, ignore_index=None, reduction="none")


RIGHT: dict[str, tuple[Any, str]] = {
    "torch": (_torch_right, "cross_entropy"),
    "keras": (_keras_right, "cross_entropy"),
    "optax": (_optax_right, "cross_entropy"),
    "sklearn": (_sklearn_right, "log_loss"),
    "scipy": (_scipy_right, "cross_entropy"),
    "tensorflow": (_tensorflow_right, "cross_entropy"),
}
FAMILIES = ("tail", "offsets", "ties", "masks", "labels", "options")
# With Keras, smoothing of a masked class and the mean of ignored rows are its own Loss's.
QUICK = {name: name in ("keras", "optax") for name in PEERS}  # JAX compiles every case anew


def _asked(name: str, loss: str) -> list[Case]:
    if loss == "log_loss":
        certain = np.array([[0.0, 1.0], [0.5, 0.5]])
        return [
            made(P, LABELS, loss),
            made(P, LABELS, loss, reduction="sum"),
            made(P, LABELS, loss, sample_weight=ROW_WEIGHT),
            made(certain, np.array([0, 1]), loss),
            made(certain, np.array([1, 1]), loss),
            made(P, SOFT, loss),
            made(P, np.array([2, -100, 1, 1]), loss),
        ]
    return [
        case
        for case in catalogue()
        if case.loss == loss
        and case.family in FAMILIES
        and not case.on_demand
        and (case.quick or not QUICK[name])
    ]


@pytest.mark.parametrize("name", here())
def test_a_right_loss_in_the_peers_convention_passes(name: str) -> None:
    function, loss = RIGHT[name]
    subject = Candidate("right", function, convention(name), loss)
    verdicts = [judge(subject, case) for case in _asked(name, loss)]
    assert not [(v.case.name, v.findings) for v in verdicts if v.failed]
    assert sum(v.status == "pass" for v in verdicts) >= (10 if loss == "cross_entropy" else 5)


@pytest.mark.parametrize("name", here())
def test_one_that_is_off_by_a_millionth_fails_everything_but_zeros(name: str) -> None:
    function, loss = RIGHT[name]

    def wrong(*arguments: Any, **options: Any) -> Any:
        return function(*arguments, **options) * 1.000002

    wrong.__signature__ = inspect.signature(function)  # type: ignore[attr-defined]
    subject = Candidate("wrong", wrong, convention(name), loss)
    verdicts = [judge(subject, case) for case in _asked(name, loss)]
    passed = [v for v in verdicts if v.status == "pass"]
    assert all(v.expected is not None for v in passed)
    assert sum(v.failed for v in verdicts) > 3 * len(passed)
