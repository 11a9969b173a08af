"""Conventions: what peers say of themselves is so, and nothing that is wrong passes for one.

Every `differs` is shown to be needed: the real peer fails the case where it is left out.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest

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
from xloss_conformance.judge import judge
from xloss_conformance.model import Case, Differs
from xloss_conformance.peers import PEERS, Peer

pytestmark = needs_all


@dataclass(frozen=True)
class Strict(Peer):
    """A peer that may not differ by its own definition."""

    def differs(self, case: Case) -> Differs | None:
        return None


# Each name begins with the peer's.
SMOOTHED: dict[str, Any] = {"label_smoothing": 0.1, "reduction": "sum"}
CERTAIN = made(np.array([0.0, 0.5, 0.25]), np.array([1.0, 0, 1]), BCE)
NEVER = made(np.array([[0.0, 1.0], [0.5, 0.5]]), np.array([0, 1]), "log_loss")
NO_LABELS = np.zeros(0, int)
DIFFERING = {
    # Mean over nothing.
    "torch: nothing but ignored rows": (made(Z, LABELS * 0 - 100), "0/0"),
    "torch: classes of weight 0": (made(Z, LABELS * 0, weight=np.array([0.0, 1, 1])), "0/0"),
    "torch: no row": (made(EMPTY, NO_LABELS), "0/0"),
    "torch: no row, soft": (made(EMPTY, EMPTY), "0/0"),
    "torch: no log-probabilities": (made(EMPTY, NO_LABELS, "nll_loss"), "0/0"),
    "torch: no divergence": (made(EMPTY, EMPTY, "kl_div"), "0/0"),
    "torch: no element": (made(EMPTY, EMPTY, BCE_LOGITS, sample_weight=np.ones(3)), "0/0"),
    "optax: where nowhere": (made(Z, LABELS, where=np.zeros(4, bool)), "NaN"),
    "scipy: no row": (made(EMPTY, NO_LABELS), "0/0"),
    "tensorflow: no row": (made(EMPTY, NO_LABELS), "0/0"),
    # What the mean divides by.
    "torch: mean of weighted soft": (made(Z, SOFT, weight=CLASS_WEIGHT), "over the rows"),
    "torch: mean of uneven soft": (made(Z, UNEVEN), "over the rows"),
    "torch: gradient to soft targets": (made(Z, SOFT, to_targets=True), "over the rows"),
    "torch: weighted elements": (
        made(Z, BITS, BCE_LOGITS, sample_weight=ROW_WEIGHT[:, None]),
        "elements",
    ),
    "torch: batchmean": (
        made(LOG_P.reshape(2, 2, 3), P.reshape(2, 2, 3), "kl_div"),
        "batchmean",
    ),
    "keras: weighted rows": (made(Z, LABELS, sample_weight=ROW_WEIGHT), "whatever"),
    "keras: uneven soft": (made(Z, UNEVEN), "whatever"),
    "keras: alpha a class": (made(Z, LABELS, "focal_loss", weight=CLASS_WEIGHT), "what"),
    "optax: uneven soft": (made(Z, UNEVEN), "over the rows"),
    "scipy: uneven soft": (made(Z, UNEVEN), "over the rows"),
    # Smoothing.
    **{
        f"{name}: smoothing of uneven soft": (made(Z, UNEVEN, **SMOOTHED), "ε/C")
        for name in ("torch", "keras", "optax")
    },
    **{
        f"{name}: gradient to smoothed targets": (made(Z, SOFT, **SMOOTHED, to_targets=True), "ε/C")
        for name in ("torch", "keras", "optax")
    },
    # Clipping.
    "torch: certain and wrong": (CERTAIN, "-100"),
    "keras: certain and wrong": (CERTAIN, "clips"),
    "keras: uneven probabilities": (made(P * 0.5, LABELS, "log_loss"), "sum"),
    "keras: a probability of 0": (NEVER, "clips"),
    "keras: a target of 0": (made(LOG_P, np.eye(3)[LABELS], "kl_div", reduction="none"), "clips"),
    "sklearn: a probability of 0": (NEVER, "clips"),
    "sklearn: certain and wrong": (made(np.array([0.0, 0.5]), np.array([1.0, 0]), BCE), "clips"),
}


def who(name: str) -> str:
    return name.partition(":")[0]


@pytest.mark.parametrize("name", DIFFERING)
def test_a_peer_is_right_by_its_own_definition_and_not_by_ours(name: str) -> None:
    case, note = DIFFERING[name]
    subject = peer(who(name))
    verdict = judge(subject, case)
    assert verdict.status == "pass", verdict.findings
    assert note in verdict.note
    assert judge(Strict(**vars(subject)), case).status == "fail"


def test_every_peer_differs_somewhere() -> None:
    assert set(map(who, DIFFERING)) == set(PEERS)


HEADSTRONG = made(np.array([[20.0, 0.0, -1.0]]), np.array([0]))
MASKED = np.where(np.eye(3, dtype=bool)[[0, 0, 0, 0]], -np.inf, Z)
NAN_ROW = np.where(np.arange(4)[:, None] == 1, np.nan, Z)
HOT = made(MASKED, np.eye(3)[[1, 2, 1, 2]])
PLAIN = np.array([1, 2, 1, 2])
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
    "keras: a focal loss of the surely wrong": (
        made(np.array([[-40.0, 0, 0]]), SURE, "focal_loss"),
        "value",
    ),
    "optax: a negative label": (made(Z, np.array([2, -1, 1, 1])), "value"),
    "optax: the offset": (made(Z + 60000, LABELS), "value"),
    "sklearn: a masked class": (made(np.array([[np.inf, 0, 0]]), SURE), "value"),
}


@pytest.mark.parametrize("name", NO_CONVENTION)
def test_what_is_wrong_is_no_convention(name: str) -> None:
    case, rule = NO_CONVENTION[name]
    if name == "keras: a masked class" and peer("keras").library != "jax":
        pytest.skip("Keras gathers on PyTorch; on JAX it multiplies by one-hot rows")
    verdict = judge(peer(who(name)), case)
    assert verdict.status == "fail"
    assert rule in {finding.rule for finding in verdict.findings}
