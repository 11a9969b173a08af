"""Conventions: what peers say of themselves is so, and nothing that is wrong passes for one.

Every option is handed to the real peers, which then answer rightly. Every `differs` is shown to be
needed: the real peer fails the case where it is left out.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import dataclass, replace
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
    UNEVEN,
    P,
    Z,
    made,
    needs_all,
    peer,
)
from xloss_conformance.candidates import PEERS, Peer, here
from xloss_conformance.cases import catalogue
from xloss_conformance.judge import judge
from xloss_conformance.model import BINARY, Case, Differs

pytestmark = needs_all

KINDS = [
    made(Z, LABELS),
    made(Z, SOFT),
    made(LOG_P, LABELS, "nll_loss"),
    made(P, LABELS, "log_loss"),
    made(P, SOFT, "log_loss"),
    made(Z, LABELS, "focal_loss"),
    made(LOG_P, P, "kl_div"),
    made(Z, BITS, BCE_LOGITS),
    made(P * 0.75, P, BCE),
    made(Z, BITS, "sigmoid_focal_loss"),
    made(Z, None, "entropy"),
]
OPTIONS: dict[str, Any] = {
    "axis": 0,
    "weight": CLASS_WEIGHT,
    "sample_weight": ROW_WEIGHT,
    "where": np.array([True, False, True, True]),
    "ignore_index": -1,
    "label_smoothing": 0.125,
    "z_loss": 0.125,
    "softcap": 2.0,
    "reduction": "none",
    "normalizer": 4.0,
    "pos_weight": CLASS_WEIGHT,
    "gamma": 1.0,
    "alpha": 0.25,
    "eps": 2.0**-20,
    "log_target": True,
}


def with_option(case: Case, option: str) -> Case:
    """Return the case with one option, and arguments that it makes a difference to."""
    x, t, value = case.x, case.targets, OPTIONS[option]
    if option == "axis":
        x, t = x.T, t if t is None else t.T
    elif option == "ignore_index" and case.index:
        t = np.where(LABELS == 0, -1, LABELS)
    elif option == "log_target":
        t = LOG_P
    elif option in ("sample_weight", "where") and case.loss in BINARY:
        value = value[:, None]
    return replace(case, x=x, targets=t, options={option: value})


@pytest.mark.parametrize("name", here())
def test_an_option_is_handed_over_or_is_no_parameter_of_the_peers_own_function(name: str) -> None:
    subject = peer(name)
    for case in KINDS:
        if subject.refuses(case) is not None:
            continue
        assert judge(subject, case).status == "pass", case.loss
        own = set(inspect.signature(subject.of(case).function).parameters)
        if case.loss in BINARY:
            own -= {"weight"}  # which is that of elements
        for option in OPTIONS.keys() & inspect.signature(getattr(xloss, case.loss)).parameters:
            asked = with_option(case, option)
            why = subject.refuses(asked)
            if why is None:
                verdict = judge(subject, asked)
                assert verdict.status == "pass", (case.loss, option, verdict.findings)
            elif why == f"has no {option}":
                assert option not in own, case.loss
            else:
                assert not why.startswith("does not take"), (case.loss, why)


@dataclass(frozen=True)
class Strict(Peer):
    """A peer that may not differ by its own definition."""

    def differs(self, case: Case) -> Differs | None:
        return None


# Those by hand are of definitions that the catalogue has no case of that a peer would pass.
ZERO_ONE = (np.array([0.0, 0.5]), np.array([1.0, 0]), BCE)
NEVER = (np.array([[0.0, 1.0], [0.5, 0.5]]), np.array([0, 1]), "log_loss")
BY_HAND = [made(Z, UNEVEN), made(*ZERO_ONE), made(*NEVER)]
ALL = [*BY_HAND, *(c for c in catalogue() if "float32" in c.dtypes and not c.on_demand)]
QUICK_FIRST = sorted((c for c in ALL if c.error is None), key=lambda case: not case.quick)
# SciPy takes probabilities; where it is not refused for that, their rounding is within the budget.
WITHIN = {"takes probabilities"}


DEFINITIONS = {
    "torch": [
        "over nothing",
        "over the rows",
        "ε/C",
        "over the elements",
        "a logarithm is",
        "batchmean",
    ],
    "keras": ["divides by the rows", "ε/C", "by their sum", "clips probabilities", "clips both"],
    "optax": ["over nothing", "over the rows", "ε/C"],
    "sklearn": ["clips"],
    "scipy": ["over the rows", "0/0"],
    "tensorflow": ["0/0"],
}


@pytest.mark.parametrize("name", PEERS)
def test_a_peer_is_right_by_each_of_its_definitions_and_not_by_ours(name: str) -> None:
    subject = peer(name)
    ours = Strict(**vars(subject))
    needed: dict[str, bool] = {}
    for case in QUICK_FIRST:
        theirs = None if subject.refuses(case) else subject.differs(case)
        if theirs and theirs.note and not needed.get(theirs.note):
            verdict = judge(subject, case)
            assert theirs.note in verdict.note
            right = verdict.status == "pass"
            needed[theirs.note] = right and judge(ours, case).status == "fail"
    assert {note for note, is_needed in needed.items() if not is_needed} <= WITHIN
    assert [said for said in DEFINITIONS[name] if said not in "; ".join(needed)] == []


HEADSTRONG = made(np.array([[20.0, 0.0, -1.0]]), np.array([0]))
MASKED = np.where(np.eye(3, dtype=bool)[[0, 0, 0, 0]], -np.inf, Z)
NAN_ROW = np.where(np.arange(4)[:, None] == 1, np.nan, Z)
HOT = made(MASKED, np.eye(3)[[1, 2, 1, 2]])
PLAIN = np.array([1, 2, 1, 2])
NO_LABELS = np.zeros(0, int)
SURE = np.array([0])
WEIGHT_0 = np.array([1.0, 0, 1, 1])
NO_CONVENTION = {
    **{f"{name}: lost digits": (HEADSTRONG, "value") for name in PEERS},
    **{f"{name}: 0 log 0": (HOT, "value") for name in ("torch", "optax", "tensorflow", "scipy")},
    "torch: smoothing over a masked class": (made(MASKED, PLAIN, label_smoothing=0.1), "value"),
    "torch: NaN of an ignored row": (made(NAN_ROW, np.array([0, -100, 1, 2])), "nothing"),
    "keras: NaN under a weight of 0": (made(NAN_ROW, LABELS, sample_weight=WEIGHT_0), "nothing"),
    "keras: no row": (made(EMPTY, NO_LABELS), "shape"),
    "keras: a masked class": (made(MASKED, PLAIN), "value"),
    "optax: a negative label": (made(Z, np.array([2, -1, 1, 1])), "value"),
    "optax: the offset": (made(Z + 60000, LABELS), "value"),
    "sklearn: a masked class": (made(np.array([[np.inf, 0, 0]]), SURE), "value"),
}


@pytest.mark.parametrize("name", NO_CONVENTION)
def test_what_is_wrong_is_no_convention(name: str) -> None:
    case, rule = NO_CONVENTION[name]
    if name == "keras: a masked class" and peer("keras").library != "jax":
        pytest.skip("Keras gathers on PyTorch; on JAX it multiplies by one-hot rows")
    verdict = judge(peer(name.partition(":")[0]), case)
    assert verdict.status == "fail"
    assert rule in {finding.rule for finding in verdict.findings}


# ---- Refusals: their own functions, called directly, have no such thing -------------------------

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
