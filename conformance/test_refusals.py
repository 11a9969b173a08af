"""Peers' refusals are true: their own functions, called directly, have no such thing."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

import xloss
from by_hand import (
    BCE,
    BCE_LOGITS,
    BITS,
    CLASS_WEIGHT,
    EMPTY,
    LABELS,
    LOG_P,
    ROW_WEIGHT,
    SOFT,
    P,
    Z,
    made,
    needs_all,
    peer,
)
from xloss_conformance.conventions import convention
from xloss_conformance.model import FLOATING, Case
from xloss_conformance.peers import here

pytestmark = needs_all


@pytest.mark.parametrize("name", here())
def test_what_a_convention_hands_over_is_a_parameter_of_the_peers_own_function(name: str) -> None:
    style = convention(name)
    subject = peer(name)
    for kind, takes in style.takes.items():
        case = next((c for c in _of_every_kind() if style.kind(c) == kind), None)
        assert case is not None, kind
        if kind == "sigmoid_focal_loss" and name == "torch":
            continue  # torchvision's
        own = inspect.signature(subject.of(case).function).parameters
        assert {theirs for theirs in takes.values() if theirs} <= set(own), kind


def _of_every_kind() -> list[Case]:
    found = [made(Z, LABELS, loss) for loss in ("cross_entropy", "nll_loss", "log_loss")]
    found += [made(Z, SOFT, loss) for loss in ("cross_entropy", "log_loss", "kl_div", BCE)]
    found += [made(Z, BITS, loss) for loss in (BCE_LOGITS, "sigmoid_focal_loss")]
    found += [made(Z, SOFT, "kl_div", log_target=True), made(Z, LABELS, "focal_loss")]
    return [*found, replace(made(Z, None), loss="entropy")]


@pytest.mark.parametrize("name", here())
def test_an_option_that_is_refused_is_no_parameter_of_the_peers_own_function(name: str) -> None:
    options = {
        "weight": CLASS_WEIGHT,
        "class_weight": CLASS_WEIGHT,
        "sample_weight": ROW_WEIGHT,
        "where": np.ones(4, bool),
        "ignore_index": -1,
        "label_smoothing": 0.1,
        "z_loss": 0.1,
        "softcap": 2.0,
        "normalizer": 4.0,
        "pos_weight": CLASS_WEIGHT,
        "gamma": 1.0,
        "alpha": 0.5,
        "eps": 1e-5,
        "log_target": True,
    }
    assert set(options) > set(FLOATING)
    subject, refused = peer(name), 0
    for case in _of_every_kind():
        if subject.refuses(case) is not None:
            continue
        for option, value in options.items():
            if option not in inspect.signature(getattr(xloss, case.loss)).parameters:
                continue
            asked = replace(case, options={option: value})
            if subject.refuses(asked) != f"has no {option}":
                continue
            refused += 1
            own = inspect.signature(subject.of(case).function).parameters
            known = set(own) - {"weight"} if case.loss.startswith("binary") else set(own)
            assert option not in known, (case.loss, option)
    assert refused > 4


def _torch_calls() -> dict[str, Any]:
    import torch
    import torch.nn.functional as F

    z, y, p = torch.tensor(Z), torch.tensor(LABELS), torch.tensor([0.5, 1.5]).double()
    return {
        "ignore_index is always a number": lambda: F.cross_entropy(z, y, ignore_index=None),  # type: ignore[arg-type]
        "nll_loss takes class indices alone": lambda: F.nll_loss(z, torch.tensor(SOFT)),
        "takes labels of int64, which not every uint64 is": lambda: F.cross_entropy(
            z, y.to(torch.uint64)
        ),
        "rejects probabilities outside [0, 1], NaN among them": lambda: F.binary_cross_entropy(
            p, torch.tensor([0.0, 1.0]).double()
        ),
    }


def _sklearn_calls() -> dict[str, Any]:
    from sklearn._loss import HalfMultinomialLoss
    from sklearn.metrics import log_loss

    return {
        "takes labels, no probabilities, as targets": lambda: log_loss(SOFT, P),
        "rejects probabilities outside [0, 1], NaN among them": lambda: log_loss(
            LABELS, P * 3, labels=[0, 1, 2]
        ),
        "takes one row and two classes at least": lambda: log_loss([], P[:0], labels=[0, 1, 2]),
        "takes rows in one axis, classes in the last": lambda: HalfMultinomialLoss(
            n_classes=3
        ).loss(np.zeros((2, 2)), Z.reshape(2, 2, 3)),
    }


REFUSED = {
    "torch": (
        made(Z, LABELS, ignore_index=None),
        made(LOG_P, SOFT, "nll_loss"),
        made(Z, LABELS.astype(np.uint64)),
        made(P * 3, BITS, BCE),
    ),
    "sklearn": (
        made(P, SOFT, "log_loss"),
        made(P * 3, LABELS, "log_loss"),
        made(EMPTY, np.zeros(0, int), "log_loss"),
        made(Z.reshape(2, 2, 3), LABELS.reshape(2, 2)),
    ),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_refused_fails_when_called_all_the_same(name: str) -> None:
    calls: dict[str, Callable[[], Any]] = (_torch_calls if name == "torch" else _sklearn_calls)()
    assert {peer(name).refuses(case) for case in REFUSED[name]} == set(calls)
    for call in calls.values():
        with pytest.raises((TypeError, ValueError, RuntimeError)):
            call()


def test_keras_smooths_by_the_last_axis_wherever_the_classes_are() -> None:
    import keras

    case = made(Z.T, SOFT.T, axis=0, label_smoothing=0.5, reduction="none")
    assert str(peer("keras").refuses(case)).startswith("smooths by the size of the last axis")
    function = keras.losses.categorical_crossentropy
    own = {"from_logits": True, "label_smoothing": 0.5}
    turned = function(SOFT.T, Z.T, axis=0, **own)
    plain = function(SOFT, Z, **own)
    assert not np.allclose(np.asarray(turned), np.asarray(plain), rtol=0.01)


def test_keras_on_jax_takes_labels_beside_the_last_axis_alone() -> None:
    import keras

    if keras.backend.backend() != "jax":
        pytest.skip("Keras runs on another library here")
    assert "last axis" in str(peer("keras").refuses(made(Z.T, LABELS, axis=0)))
    with pytest.raises(ValueError, match="same shape"):
        keras.losses.sparse_categorical_crossentropy(LABELS, Z.T, from_logits=True, axis=0)
