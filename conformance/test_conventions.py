"""Conventions: what peers say of themselves is so, and nothing that is wrong passes for one.

Every `differs` is shown to be needed: the real peer fails the case where it is left out.
"""

from __future__ import annotations

from dataclasses import dataclass

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


DIFFERING = {
    # Mean over nothing.
    "torch: nothing but ignored rows": ("torch", made(Z, LABELS * 0 - 100), "0/0"),
    "torch: classes of weight 0": (
        "torch",
        made(Z, LABELS * 0, weight=np.array([0.0, 1, 1])),
        "0/0",
    ),
    "torch: no row": ("torch", made(EMPTY, np.zeros(0, int)), "0/0"),
    "torch: no row, soft": ("torch", made(EMPTY, EMPTY), "0/0"),
    "torch: no log-probabilities": ("torch", made(EMPTY, np.zeros(0, int), "nll_loss"), "0/0"),
    "torch: no divergence": ("torch", made(EMPTY, EMPTY, "kl_div"), "0/0"),
    "torch: no element": (
        "torch",
        made(EMPTY, EMPTY, BCE_LOGITS, sample_weight=np.ones(3)),
        "0/0",
    ),
    "optax: where nowhere": ("optax", made(Z, LABELS, where=np.zeros(4, bool)), "NaN"),
    "scipy: no row": ("scipy", made(EMPTY, np.zeros(0, int)), "0/0"),
    # What the mean divides by.
    "torch: mean of weighted soft": ("torch", made(Z, SOFT, weight=CLASS_WEIGHT), "over the rows"),
    "torch: mean of uneven soft": ("torch", made(Z, UNEVEN), "over the rows"),
    "torch: gradient to soft targets": ("torch", made(Z, SOFT, to_targets=True), "over the rows"),
    "torch: weighted elements": (
        "torch",
        made(Z, BITS, BCE_LOGITS, sample_weight=ROW_WEIGHT[:, None]),
        "elements",
    ),
    "torch: batchmean": (
        "torch",
        made(LOG_P.reshape(2, 2, 3), P.reshape(2, 2, 3), "kl_div"),
        "batchmean",
    ),
    "keras: weighted rows": ("keras", made(Z, LABELS, sample_weight=ROW_WEIGHT), "whatever"),
    "keras: uneven soft": ("keras", made(Z, UNEVEN), "whatever"),
    "keras: alpha a class": ("keras", made(Z, LABELS, "focal_loss", weight=CLASS_WEIGHT), "what"),
    "optax: uneven soft": ("optax", made(Z, UNEVEN), "over the rows"),
    "scipy: uneven soft": ("scipy", made(Z, UNEVEN), "over the rows"),
    "tensorflow: no row": ("tensorflow", made(EMPTY, np.zeros(0, int)), "0/0"),
    # Smoothing.
    **{
        f"{name}: smoothing of uneven soft": (
            name,
            made(Z, UNEVEN, label_smoothing=0.1, reduction="sum"),
            "ε/C",
        )
        for name in ("torch", "keras", "optax")
    },
    **{
        f"{name}: gradient to smoothed targets": (
            name,
            made(Z, SOFT, label_smoothing=0.1, reduction="sum", to_targets=True),
            "ε/C",
        )
        for name in ("torch", "keras", "optax")
    },
    # Clipping.
    "torch: certain and wrong": (
        "torch",
        made(np.array([0.0, 0.5, 0.25]), np.array([1.0, 0, 1]), BCE),
        "-100",
    ),
    "keras: certain and wrong": (
        "keras",
        made(np.array([0.0, 0.5, 0.25]), np.array([1.0, 0, 1]), BCE),
        "clips",
    ),
    "keras: uneven probabilities": ("keras", made(P * 0.5, LABELS, "log_loss"), "sum"),
    "keras: a probability of 0": (
        "keras",
        made(np.array([[0.0, 1.0], [0.5, 0.5]]), np.array([0, 1]), "log_loss"),
        "clips",
    ),
    "keras: a target of 0": (
        "keras",
        made(LOG_P, np.eye(3)[LABELS], "kl_div", reduction="none"),
        "clips",
    ),
    "sklearn: a probability of 0": (
        "sklearn",
        made(np.array([[0.0, 1.0], [0.5, 0.5]]), np.array([0, 1]), "log_loss"),
        "clips",
    ),
    "sklearn: certain and wrong": (
        "sklearn",
        made(np.array([0.0, 0.5]), np.array([1.0, 0]), BCE),
        "clips",
    ),
}


@pytest.mark.parametrize("name", DIFFERING)
def test_a_peer_is_right_by_its_own_definition(name: str) -> None:
    who, case, note = DIFFERING[name]
    verdict = judge(peer(who), case)
    assert verdict.status == "pass", verdict.findings
    assert note in verdict.note


@pytest.mark.parametrize("name", DIFFERING)
def test_by_ours_it_is_not(name: str) -> None:
    who, case, _ = DIFFERING[name]
    strict = Strict(**vars(peer(who)))
    assert judge(strict, case).status == "fail"


def test_every_peer_differs_somewhere() -> None:
    assert {who for who, _, _ in DIFFERING.values()} == set(PEERS)


HEADSTRONG = made(np.array([[20.0, 0.0, -1.0]]), np.array([0]))
MASKED = np.where(np.eye(3, dtype=bool)[[0, 0, 0, 0]], -np.inf, Z)
NAN_ROW = np.where(np.arange(4)[:, None] == 1, np.nan, Z)
NO_CONVENTION = {
    **{f"{name}: lost digits": (name, HEADSTRONG, "value") for name in PEERS},
    "torch: 0 log 0": ("torch", made(MASKED, np.eye(3)[[1, 2, 1, 2]]), "value"),
    "torch: smoothing over a masked class": (
        "torch",
        made(MASKED, np.array([1, 2, 1, 2]), label_smoothing=0.1),
        "value",
    ),
    "torch: NaN of an ignored row": (
        "torch",
        made(NAN_ROW, np.array([0, -100, 1, 2])),
        "nothing",
    ),
    "keras: NaN under a weight of 0": (
        "keras",
        made(NAN_ROW, LABELS, sample_weight=np.array([1.0, 0, 1, 1])),
        "nothing",
    ),
    "keras: no row": ("keras", made(EMPTY, np.zeros(0, int)), "shape"),
    "keras: a masked class": ("keras", made(MASKED, np.array([1, 2, 1, 2])), "value"),
    "keras: a focal loss of the surely wrong": (
        "keras",
        made(np.array([[-40.0, 0, 0]]), np.array([0]), "focal_loss"),
        "value",
    ),
    "optax: a negative label": ("optax", made(Z, np.array([2, -1, 1, 1])), "value"),
    "optax: 0 log 0": ("optax", made(MASKED, np.eye(3)[[1, 2, 1, 2]]), "value"),
    "optax: the offset": ("optax", made(Z + 60000, LABELS), "value"),
    "sklearn: a masked class": (
        "sklearn",
        made(np.array([[np.inf, 0, 0]]), np.array([0])),
        "value",
    ),
    "tensorflow: 0 log 0": ("tensorflow", made(MASKED, np.eye(3)[[1, 2, 1, 2]]), "value"),
    "scipy: 0 log 0": ("scipy", made(MASKED, np.eye(3)[[1, 2, 1, 2]]), "value"),
}


@pytest.mark.parametrize("name", NO_CONVENTION)
def test_what_is_wrong_is_no_convention(name: str) -> None:
    who, case, rule = NO_CONVENTION[name]
    if name == "keras: a masked class" and peer(who).library != "jax":
        pytest.skip("Keras gathers on PyTorch; on JAX it multiplies by one-hot rows")
    verdict = judge(peer(who), case)
    assert verdict.status == "fail"
    assert rule in {finding.rule for finding in verdict.findings}


# A loss that is right, and one that is not, called as each peer's is.
