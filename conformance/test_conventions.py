"""Conventions: what peers say of themselves is so, and nothing that is wrong passes for one.

Every option is handed to the real peers, which then answer rightly. Every `differs` and every
refusal is shown to be needed: the real peer fails the case where it is left out.
"""

from __future__ import annotations

import inspect
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
from xloss_conformance import cases
from xloss_conformance.candidates import PEERS, Peer, here
from xloss_conformance.judge import judge
from xloss_conformance.model import BINARY, Case, Differs, Missing

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
class Blunt(Peer):
    """A peer that refuses nothing, and may not differ by its own definition."""

    def refuses(self, case: Case) -> str | None:
        return None

    def differs(self, case: Case) -> Differs | None:
        return None


# Those by hand are of definitions that the catalogue has no case of that a peer would pass.
BY_HAND = [
    made(Z, UNEVEN),
    made(np.array([0.0, 0.5]), np.array([1.0, 0]), BCE),
    made(np.array([[0.0, 1.0], [0.5, 0.5]]), np.array([0, 1]), "log_loss"),
    made(Z.T, SOFT.T, axis=0, label_smoothing=0.5, reduction="none"),
]
ALL = [*BY_HAND, *(c for c in cases.catalogue() if "float32" in c.dtypes and not c.on_demand)]
QUICK_FIRST = sorted((c for c in ALL if c.error is None), key=lambda case: not case.quick)
CERTAIN = "takes probabilities, whose logarithm near 1 is mostly their rounding"
WITHIN = {"takes probabilities"}
DEFINITIONS = {
    "torch": {
        *("over nothing", "over the rows", "ε/C", "over the elements", "a logarithm is"),
        *("batchmean", "class indices alone", "labels of int64", "always a number", "rejects"),
    },
    "keras": {
        *("divides by the rows", "ε/C", "by their sum", "clips probabilities", "clips both"),
        *("smooths by the size", "is a number", "one-hot targets", CERTAIN),
    },
    "optax": {"over nothing", "over the rows", "ε/C"},
    "sklearn": {"clips", "no probabilities", "one axis", "at least", "rejects", "no loss a row"},
    "scipy": {"over the rows", "0/0", "is negative", CERTAIN},
    "tensorflow": {"0/0"},
}


@pytest.mark.parametrize("name", PEERS)
def test_a_peer_refuses_and_differs_where_it_has_to(name: str) -> None:
    """It fails what it refuses, asked all the same; it passes by its own definitions, not by ours.

    Each in a case at least. SciPy is asked the probabilities that it takes, and is within the
    budget without: those near 1 it refuses.
    """
    subject = peer(name)
    blunt = Blunt(**vars(subject))
    needed: dict[str, bool] = {}
    for case in QUICK_FIRST:
        try:
            subject.of(case)
        except (KeyError, Missing):  # it has no such loss, or in a package that is not here
            continue
        refused = subject.refuses(case)
        note = refused or getattr(subject.differs(case), "note", "")
        if note and not note.endswith(" arrays") and not needed.get(note):
            verdict = judge(subject, case)
            assert note in verdict.note
            right = bool(refused) or verdict.status == "pass"
            needed[note] = right and judge(blunt, case).status == "fail"
    assert {note for note, is_needed in needed.items() if not is_needed} <= WITHIN
    assert {said for said in DEFINITIONS[name] if said not in "; ".join(needed)} == set()


WRONG = {
    ("tail/gap 17", "value"): PEERS,
    ("masks/soft", "value"): ("torch", "optax", "tensorflow", "scipy"),
    ("masks/index", "value"): ("keras",),  # on JAX it multiplies by one-hot rows
    ("masks/smoothed", "value"): ("torch",),
    ("absent/ignored, NaN", "nothing"): ("torch",),
    ("absent/sample weight 0, NaN", "nothing"): ("keras", "sklearn"),
    ("empty/mean", "shape"): ("keras",),
    ("labels/-1 as int16", "value"): ("optax", "sklearn"),
    ("offsets/1000", "value"): ("optax", "sklearn"),
    ("infinities/one, the label on it", "value"): ("sklearn",),
}


@pytest.mark.parametrize(("one", "name"), [(one, name) for one in WRONG for name in WRONG[one]])
def test_what_is_wrong_is_no_convention(one: tuple[str, str], name: str) -> None:
    subject, (asked, rule) = peer(name), one
    if name == "keras" and asked == "masks/index" and subject.library != "jax":
        pytest.skip("Keras gathers on PyTorch; on JAX it multiplies by one-hot rows")
    verdict = judge(subject, cases.case(asked))
    assert verdict.status == "fail"
    assert rule in {finding.rule for finding in verdict.findings}
