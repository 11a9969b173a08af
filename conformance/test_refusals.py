"""Peers' refusals are true: their own functions, called directly, have no such thing."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from by_hand import BCE, BITS, EMPTY, LABELS, LOG_P, SOFT, P, Z, made, needs_all, peer
from xloss_conformance.model import Case

pytestmark = needs_all

Refused = list[tuple[str, Case, Callable[[], Any]]]


def _torch() -> Refused:
    import torch
    import torch.nn.functional as F

    z, y, wide, t = (torch.tensor(v) for v in (Z, LABELS, P * 3, BITS))
    nowhere: Any = None
    return [
        (
            "ignore_index is always a number",
            made(Z, LABELS, ignore_index=None),
            lambda: F.cross_entropy(z, y, ignore_index=nowhere),
        ),
        (
            "nll_loss takes class indices alone",
            made(LOG_P, SOFT, "nll_loss"),
            lambda: F.nll_loss(z, torch.tensor(SOFT)),
        ),
        (
            "takes labels of int64, which not every uint64 is",
            made(Z, LABELS.astype(np.uint64)),
            lambda: F.cross_entropy(z, y.to(torch.uint64)),
        ),
        (
            "rejects probabilities outside [0, 1], NaN among them",
            made(P * 3, BITS, BCE),
            lambda: F.binary_cross_entropy(wide, t),
        ),
    ]


def _sklearn() -> Refused:
    from sklearn._loss import HalfMultinomialLoss
    from sklearn.metrics import log_loss

    return [
        (
            "takes labels, no probabilities, as targets",
            made(P, SOFT, "log_loss"),
            lambda: log_loss(SOFT, P),
        ),
        (
            "rejects probabilities outside [0, 1], NaN among them",
            made(P * 3, LABELS, "log_loss"),
            lambda: log_loss(LABELS, P * 3, labels=[0, 1, 2]),
        ),
        (
            "takes one row and two classes at least",
            made(EMPTY, np.zeros(0, int), "log_loss"),
            lambda: log_loss([], P[:0], labels=[0, 1, 2]),
        ),
        (
            "takes rows in one axis, classes in the last",
            made(Z.reshape(2, 2, 3), LABELS.reshape(2, 2)),
            lambda: HalfMultinomialLoss(n_classes=3).loss(np.zeros((2, 2)), Z.reshape(2, 2, 3)),
        ),
    ]


@pytest.mark.parametrize(("name", "refused"), [("torch", _torch), ("sklearn", _sklearn)])
def test_what_is_refused_fails_when_called_all_the_same(
    name: str, refused: Callable[[], Refused]
) -> None:
    for why, case, call in refused():
        assert peer(name).refuses(case) == why
        with pytest.raises((TypeError, ValueError, RuntimeError)):
            call()


def test_keras_has_reasons_to_keep_classes_on_the_last_axis() -> None:
    subject = peer("keras")  # which says what it runs on, before it is imported
    import keras

    case = made(Z.T, SOFT.T, axis=0, label_smoothing=0.5, reduction="none")
    assert str(subject.refuses(case)).startswith("smooths by the size of the last axis")
    function = keras.losses.categorical_crossentropy
    own = {"from_logits": True, "label_smoothing": 0.5}
    turned, plain = function(SOFT.T, Z.T, axis=0, **own), function(SOFT, Z, **own)
    assert not np.allclose(np.asarray(turned), np.asarray(plain), rtol=0.01)

    if keras.backend.backend() == "jax":
        assert "last axis" in str(subject.refuses(made(Z.T, LABELS, axis=0)))
        with pytest.raises(ValueError, match="same shape"):
            keras.losses.sparse_categorical_crossentropy(LABELS, Z.T, from_logits=True, axis=0)
