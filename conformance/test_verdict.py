"""The judge: budgets, and every rule broken once."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

import array_api_strict
import numpy as np
import pytest

import xloss
from xloss_conformance.budget import budget, spacing
from xloss_conformance.call_subject import run
from xloss_conformance.cases import case
from xloss_conformance.expected import answer
from xloss_conformance.formats import accumulated
from xloss_conformance.judge import judge
from xloss_conformance.libraries import array_library
from xloss_conformance.model import RULES, Array, Case, Differs, Outcome, Stored, Traits, Verdict
from xloss_conformance.rounding import stored
from xloss_conformance.xloss_subjects import Xloss

# A subject that answers exactly, but for what a test changes.


@dataclass
class Scripted:
    change: Callable[[Outcome], None] = lambda outcome: None
    traits: Traits = field(default_factory=lambda: Traits("float32"))
    name: str = "scripted"
    library: str = "numpy"

    def refuses(self, case: Case) -> str | None:
        return None

    def differs(self, case: Case) -> Differs | None:
        return None

    def snippet(self, case: Case) -> list[str]:
        return []

    def run(self, case: Case, arguments: Stored) -> Outcome:
        if case.error is not None:
            outcome = Outcome(error=case.error(f"{case.names}: no"))
        else:
            right = answer(case, self.traits.dtype)
            outcome = Outcome(right.value.hi.copy(), right.grad.hi.copy())
            outcome.value_dtype = accumulated(self.traits.dtype)
            outcome.grad_dtype = self.traits.dtype
            if right.grad_targets is not None:
                outcome.grad_targets = right.grad_targets.hi.copy()
        self.change(outcome)
        return outcome


def rules(verdict: Verdict) -> set[str]:
    return {finding.rule for finding in verdict.findings}


def scripted(name: str, change: Callable[[Outcome], None], **traits: Any) -> set[str]:
    """Return the rules that a change to the right answer breaks; unchanged it must pass."""
    subject = Scripted(traits=Traits("float32", **traits))
    assert judge(subject, case(name)).status == "pass"
    subject.change = change
    return rules(judge(subject, case(name)))


def off_by(array: str, ulp: float, at: Any = ...) -> Callable[[Outcome], None]:
    def change(outcome: Outcome) -> None:
        values = np.array(getattr(outcome, array))
        values[at] += ulp * spacing("float32", values[at])
        setattr(outcome, array, values)

    return change


def set_to(name: str, value: Any) -> Callable[[Outcome], None]:
    return lambda outcome: setattr(outcome, name, value)


@pytest.mark.parametrize(
    ("value", "label", "other", "compiled"),
    [
        (3.9, 0, 0, False),
        (4.1, 0, 0, False),
        (0, 3.9, 0, False),  # the true class
        (0, 4.1, 0, False),
        (0, 0, 5.9, False),
        (0, 0, 6.1, False),
        (0, 0, 3.9, True),
        (0, 0, 4.1, True),
        (0, 8, 9, False),  # 9 ulp of 6 are a smaller share than 8 of 4
    ],
)
def test_every_number_has_its_budget(
    value: float, label: float, other: float, compiled: bool
) -> None:
    def change(outcome: Outcome) -> None:
        off_by("value", value)(outcome)
        off_by("grad", label, (0, 0))(outcome)
        off_by("grad", other, (0, 3))(outcome)

    verdict = judge(Scripted(change, Traits("float32", compiled=compiled)), case("tail/gap 17"))
    by_value, by_grad = value / 4, max(label / 4, other / (4 if compiled else 6))
    assert rules(verdict) == {
        rule for rule, share in (("value", by_value), ("gradient", by_grad)) if share > 1
    }
    # By its share of the budget the page colours a cell.
    assert verdict.value_share == pytest.approx(by_value, rel=1e-6)
    assert verdict.grad_share == pytest.approx(by_grad, rel=1e-6)


def test_a_cap_and_logits_off_the_grid_widen_it() -> None:
    def allowed(one: Case, **traits: Any) -> Array:
        arguments = stored(one, "float32")
        return budget(one, arguments, answer(one, "float32"), Traits("float32", **traits)).grad.ulp

    tail = case("tail/gap 20")
    assert set(allowed(tail).ravel().tolist()) == {4.0, 6.0}
    off_grid = replace(tail, x=tail.x * 0.999 + 4.1)
    gap = np.ptp(off_grid.x)
    mantissa = 2 * np.frexp(np.abs(answer(off_grid, "float32").grad.hi))[0]
    wide = allowed(off_grid) - allowed(tail)
    np.testing.assert_allclose(wide, 0.5 * gap * mantissa, rtol=1e-6)
    assert (allowed(off_grid, compiled=True) == 4).all()
    capped = replace(tail, options={"softcap": 8.0})
    assert (allowed(capped, compiled=True) >= 4 + 8).all()
    assert (allowed(capped, compiled=True) <= 4 + 2 * 8).all()


def test_subnormals_may_be_flushed_where_the_library_does() -> None:
    flushed = case("tail/gap 82")
    flushed = replace(flushed, x=flushed.x * 1.1)  # e^-90
    subject = Scripted(set_to("grad", np.zeros((1, 10))))
    assert rules(judge(subject, flushed)) == {"gradient"}
    subject.traits = Traits("float32", flushes=True)
    assert rules(judge(subject, flushed)) == set()
    subject.traits = Traits("float64", flushes=True)
    assert rules(judge(subject, flushed)) == {"gradient"}  # no subnormal of float64
    assert rules(judge(subject, replace(flushed, x=flushed.x * 8))) == set()  # e^-720


def nudge_absent(outcome: Outcome) -> None:
    assert outcome.grad is not None
    outcome.grad[2, 1] = 2.0**-149  # within any budget, but not nothing


def raised(error: Exception | None) -> Callable[[Outcome], None]:
    return set_to("error", error)


SCRIPTED = [
    ("value", "tail/gap 17", set_to("value", np.array(0.0))),
    ("value", "offsets/1000", set_to("value", np.array(np.nan))),
    ("gradient", "tail/gap 17", set_to("grad", np.zeros((1, 10)))),
    ("targets gradient", "soft gradient/mean", off_by("grad_targets", 100)),
    ("nothing", "absent/where, NaN", nudge_absent),
    ("raises", "errors/one label", raised(None)),
    ("raises", "errors/one label", raised(TypeError("targets"))),
    ("raises", "errors/one label", raised(ValueError("a shape"))),
    ("runs", "tail/gap 17", raised(ValueError("no"))),
    ("runs", "tail/gap 17", set_to("value", None)),
    ("runs", "labels/200 as int64", raised(ValueError("label 200"))),
    ("runs", "labels/200 as int64", raised(IndexError("label 3"))),
    ("runs", "labels/unread, 200", raised(IndexError("label 200"))),
    ("shape", "tail/gap 17", set_to("value", np.zeros(1))),
    ("shape", "tail/gap 17", set_to("grad", np.zeros(10))),
    ("dtype", "tail/gap 17", set_to("value_dtype", "float16")),
    ("dtype", "tail/gap 17", set_to("grad_dtype", "float64")),
]


@pytest.mark.parametrize(("rule", "name", "change"), SCRIPTED)
def test_an_outcome_breaks_a_rule(rule: str, name: str, change: Callable[[Outcome], None]) -> None:
    assert scripted(name, change) == {rule}


def test_a_stranger_may_answer_more_widely_but_not_more_narrowly() -> None:
    def broken(value: str, logits: str) -> set[str]:
        subject = Scripted(set_to("value_dtype", value), Traits(logits, strict=False))
        return rules(judge(subject, case("tail/gap 17")))

    assert broken("float64", "float32") == broken("float64", "float64") == set()
    for value, logits in (("float16", "float32"), ("bfloat16", "float32"), ("float32", "float64")):
        assert broken(value, logits) == {"dtype"}


def test_the_targets_gradient_is_judged_without_the_other() -> None:
    def change(outcome: Outcome) -> None:
        outcome.grad, outcome.grad_targets = None, np.zeros((6, 5))

    assert scripted("soft gradient/mean", change) == {"targets gradient"}


def test_a_gradient_of_another_shape_has_no_error_to_tell() -> None:
    """It was told as 0 ulp: the best there is."""
    verdict = judge(Scripted(set_to("grad", np.zeros((2, 2)))), case("tail/gap 17"))
    assert rules(verdict) == {"shape"}
    assert (verdict.grad_ulp, verdict.grad_share) == (None, None)


def test_a_bad_label_must_raise_where_labels_are_read() -> None:
    bad = case("labels/200 as int64")
    subject = Scripted(traits=Traits("float32", bad_label="raises"))
    assert rules(judge(subject, bad)) == {"raises"}
    subject.change = raised(IndexError("label 200"))
    assert rules(judge(subject, bad)) == set()
    subject.traits = Traits("float32", bad_label="nan")
    assert rules(judge(subject, bad)) == {"runs"}


# What only a run can see.


@dataclass
class Misbehaved(Scripted):
    """xloss's cross_entropy on NumPy, and a bad habit of its value, or its gradient to targets."""

    habit: str = ""
    calls: int = 0

    def call(self, one: Case, x: Any, t: Any, options: dict[str, Any], up: Any) -> Any:
        self.calls += 1
        both = xloss.value_and_grad(xloss.cross_entropy, (0, 1)[: 1 + one.to_targets])
        value, grads = both(x, t, **options)
        spoiled: Any = grads[-1] if one.to_targets else value
        factors = {"repeat": self.calls, "split": len(x)}
        if self.habit == "input":
            x[0, 0] += 1
        if self.habit == "device":
            spoiled = array_api_strict.asarray(spoiled)
        elif self.habit == "dtype":
            spoiled = spoiled.astype(np.float64)
        elif self.habit in factors:
            spoiled = spoiled * np.float32(1 + factors[self.habit] * 2.0**-20)
        return (value, grads[0], spoiled) if one.to_targets else (spoiled, grads[0], None)

    def run(self, case: Case, arguments: Stored) -> Outcome:
        return run(array_library("numpy"), case, arguments, self.call)


RUN = ("input", "device", "repeat", "split")
ROWS = replace(case("split/index"), options={"reduction": "none"})
TO_TARGETS = case("soft gradient/mean")
HABITS = [(habit, ROWS) for habit in RUN]
HABITS += [(habit, TO_TARGETS) for habit in ("device", "repeat", "dtype")]


@pytest.mark.parametrize(("habit", "one"), HABITS)
def test_a_habit_breaks_its_rule(habit: str, one: Case) -> None:
    assert rules(judge(Misbehaved(), one)) == set()
    assert habit in rules(judge(Misbehaved(habit=habit), one))


def test_every_rule_is_broken_once() -> None:
    assert {rule for rule, _, _ in SCRIPTED} | set(RUN) == set(RULES)


def test_a_case_that_says_nothing_of_a_dtype_is_refused() -> None:
    verdict = judge(Xloss("numpy", "float64"), case("options/mean, index"))
    assert (verdict.status, verdict.note) == ("refused", "says nothing of float64")
