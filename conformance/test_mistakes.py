"""The sentences about what a loss does wrong: none is missing, and each fits its number."""

from __future__ import annotations

import math
import re
from typing import Any

import pytest

import made_record
from made_record import Record
from xloss_conformance.model import RULES
from xloss_conformance.report import training
from xloss_conformance.report.mistakes import Mistake, judged, picked
from xloss_conformance.report.training import EFFECTS, FAMILIES, NO, ORDER, SOMETIMES, YES


def test_every_rule_and_every_family_says_what_it_means_in_training() -> None:
    assert set(training.RULES) == set(RULES)
    sentences = [rule.training for rule in training.RULES.values()]
    sentences += [text for one in EFFECTS.values() for text in one[:2] if text]
    sentences += list(training.WORDS.values())
    assert [text for text in sentences if not re.fullmatch(r"[A-Z0-9].{20,}\.", text)] == []
    assert [one for one in FAMILIES.values() if not (one.title and one.met)] == []
    sorts = {rule.matters for rule in training.RULES.values()}
    assert sorts | {effect.matters for effect in EFFECTS.values()} == set(ORDER)


def one(finding: Record, dtype: str = "float32", family: str = "tail", **more: str) -> Mistake:
    """Return what is said of a single failure."""
    by = made_record.subject(f"theirs {dtype}", "peer", "numpy", dtype)
    of = made_record.case(family, "a case", "a reason") | {"quick": False}
    cell = made_record.cell(of, by, "fail", 9.0) | {"findings": [finding], **more}
    (peer,) = judged(made_record.record([by], [of], [cell]))
    (mistake,) = peer.mistakes
    return mistake


def number(rule: str, got: float | str, want: float | str, ulp: float | str = "inf") -> Record:
    return {"rule": rule, "detail": "", "ulp": ulp, "at": [0], "got": got, "want": want}


# How much it matters -> what came, what is right, the error in ulp of float32, what is said of it.
TAIL = math.exp(-17)
VALUE, GRADIENT = "value", "gradient"
NUMBERS: dict[str, list[tuple[Any, ...]]] = {
    SOMETIMES: [
        (VALUE, 0.0, TAIL, 1.2e7, "returns 0 where the exact loss is 4.14e-08"),
        (GRADIENT, -0.0, -TAIL, 1.2e7, "its gradient is 0 where the exact gradient is -4.14e-08"),
        (VALUE, 5e-7, 1e-6, 4.2e6, "returns 5e-07 where the exact loss is 1e-06"),
        (VALUE, 5.005, 5.0, 1e4, "returns 5.005 where the exact loss is 5"),
    ],
    YES: [
        (VALUE, 4.0, 5.0, 2.1e6, "returns 4 where the exact loss is 5"),
        (GRADIENT, 0.25, 0.0, 1e45, "its gradient is 0.25 where the exact gradient is 0"),
        (VALUE, "nan", 2.5, "inf", "returns NaN where the exact loss is 2.5"),
        (VALUE, "inf", 2.5, "inf", "returns infinity where the exact loss is 2.5"),
        (VALUE, 100.0, "inf", "inf", "returns 100 where the exact loss is infinity"),
        (VALUE, 9.75, "nan", "inf", "returns 9.75 where only NaN is right"),
    ],
    NO: [
        (VALUE, 1.5, 1.50001, 56.0, "returns 1.5 where the exact loss is 1.50001"),
    ],
}


@pytest.mark.parametrize(
    ("matters", "row"), [(matters, row) for matters, rows in NUMBERS.items() for row in rows]
)
def test_a_number_that_is_wrong_in_words(matters: str, row: Any) -> None:
    *finding, did = row
    mistake = one(number(*finding))
    assert (mistake.matters, mistake.did) == (matters, did)
    title = training.FAMILIES["tail"].title
    assert mistake.title == (title if matters != NO else "Last digits")


def test_the_same_ulp_are_less_in_float64() -> None:
    """2000 ulp are the fourth digit of float32, and far behind that of float64."""
    assert one(number("value", 5.001, 5.0, 2e3)).matters == SOMETIMES
    assert one(number("value", 5.001, 5.0, 2e3), "float64").matters == NO
    # A loss of 16-bit logits is one of float32; their gradient has their own 8 bits.
    assert one(number("value", 5.0, 5.1, 40.0), "bfloat16").matters == NO
    assert one(number("gradient", 0.5, 0.9, 40.0), "bfloat16").matters == YES


BROKEN = [
    ("raises", "no error, but a result", "answers “tail/a case” without an error"),
    ("runs", "ValueError: no", "stops with ValueError: no"),
    ("dtype", "the value is float16, not float32", "the value is float16, not float32"),
    ("nothing", "the gradient of an absent row", "the gradient of an absent row is NaN, not 0"),
]


@pytest.mark.parametrize(("rule", "detail", "did"), BROKEN)
def test_a_rule_that_is_broken_in_words(rule: str, detail: str, did: str) -> None:
    got = ("nan", 0.0) if rule == "nothing" else (None, None)
    finding = {"rule": rule, "detail": detail, "ulp": None, "at": [0]}
    mistake = one(finding | dict(zip(("got", "want"), got, strict=True)))
    assert (mistake.title, mistake.did) == (training.RULES[rule].title, did)
    assert mistake.consequence == training.RULES[rule].training


def test_a_lost_loss_says_that_the_gradient_is_lost_only_where_it_is() -> None:
    value, gradient = number("value", 0.0, TAIL, 1.2e7), number("gradient", -0.0, -TAIL, 1.2e7)
    assert one(value).consequence.startswith(EFFECTS["small"].of_loss)
    both = one(value, findings=[value, gradient])  # type: ignore[arg-type]
    assert both.consequence.startswith(EFFECTS["small"].of_gradient)


def test_failures_are_grouped_and_the_most_telling_is_told() -> None:
    told = judged(made_record.small())
    assert [(one.kind, one.name) for one in told[:2]] == [("peer", "torch"), ("peer", "optax")]
    assert told[2].kind == "xloss"
    torch = told[0]
    assert (torch.failed, torch.judged) == (4, 6)
    assert [(m.title, m.matters, m.failed, m.judged) for m in torch.mistakes] == [
        ("Confident rows", SOMETIMES, 2, 4),
        ("Last digits", NO, 2, 6),
    ]
    # Of the last digits, the larger error: 300 ulp at gap 8, and not 40 at gap 5.
    assert [m.cell["case"] for m in torch.mistakes] == ["tail/gap 17", "tail/gap 8"]
    assert torch.sorts() == "2 can matter, 2 do not"


def test_what_is_told_of_many_has_something_that_can_matter() -> None:
    def made(k: int, matters: str) -> Mistake:
        return Mistake(str(k), matters, "", "", {}, 1, 1)

    many = [made(k, YES) for k in range(6)] + [made(k, SOMETIMES) for k in range(6, 8)]
    shown, more = picked(many)
    assert [one.title for one in shown] == ["0", "1", "2", "6"]
    assert [one.title for one in more] == ["3", "4", "5", "7"]
    assert picked(many[:4]) == (many[:4], [])
