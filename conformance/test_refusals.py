"""Peers' refusals are true: their own functions, called directly, have no such thing."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from by_hand import BCE, BITS, EMPTY, LABELS, LOG_P, SOFT, P, Z, made, needs_all, peer
from xloss_conformance.model import Case

pytestmark = needs_all

Refused = list[tuple[Case, Callable[[], Any]]]  # what is refused, and the call all the same


def _torch() -> Refused:
    import torch
    import torch.nn.functional as F

    z, y, wide, t, soft = (torch.tensor(v) for v in (Z, LABELS, P * 3, BITS, SOFT))
    never: Any = None
    wide_labels = made(Z, LABELS.astype(np.uint64))
    return [
        (made(Z, LABELS, ignore_index=None), lambda: F.cross_entropy(z, y, ignore_index=never)),
        (made(LOG_P, SOFT, "nll_loss"), lambda: F.nll_loss(z, soft)),
        (wide_labels, lambda: F.cross_entropy(z, y.to(torch.uint64))),
        (made(P * 3, BITS, BCE), lambda: F.binary_cross_entropy(wide, t)),
    ]


def _sklearn() -> Refused:
    from sklearn._loss import HalfMultinomialLoss
    from sklearn.metrics import log_loss as loss

    def of(p: Any, t: Any) -> Case:
        return made(p, t, "log_loss")

    cubes, multinomial = Z.reshape(2, 2, 3), HalfMultinomialLoss(n_classes=3)
    return [
        (of(P, SOFT), lambda: loss(SOFT, P)),
        (of(P * 3, LABELS), lambda: loss(LABELS, P * 3, labels=[0, 1, 2])),
        (of(EMPTY, np.zeros(0, int)), lambda: loss([], P[:0], labels=[0, 1, 2])),
        (made(cubes, LABELS.reshape(2, 2)), lambda: multinomial.loss(np.zeros((2, 2)), cubes)),
    ]


@pytest.mark.parametrize(("name", "refused"), [("torch", _torch), ("sklearn", _sklearn)])
def test_what_is_refused_fails_when_called_all_the_same(
    name: str, refused: Callable[[], Refused]
) -> None:
    for case, call in refused():
        assert peer(name).refuses(case) is not None
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
