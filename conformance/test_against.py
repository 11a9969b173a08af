"""Two losses compared: where they first differ, by how much, and which is right."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from by_hand import BOTH, noisy, plain, right
from xloss.cli.app import run as command
from xloss_conformance import Comparison, Convention, Missing, compare, libraries
from xloss_conformance.cases import case
from xloss_conformance.comparison.losses import counts, record
from xloss_conformance.comparison.pair import Pair
from xloss_conformance.model import Differs

FAMILIES = ["tail", "ties", "masks", "all absent"]


def finer(logits: Any, targets: Any, **options: Any) -> Any:
    """Right, with other last digits."""
    value, gradient = BOTH(logits.astype(np.float64), targets, **options)
    return np.float32(value), np.asarray(gradient).astype(np.float32)


def noisier(logits: Any, targets: Any, **options: Any) -> Any:
    value, gradient = BOTH(logits, targets, **options)
    return value * np.float32(1.0001), gradient


def crooked(logits: Any, targets: Any, **options: Any) -> Any:
    """The value is right, the gradient is not."""
    value, gradient = BOTH(logits, targets, **options)
    return value, gradient * np.float32(1.00001)


def raising(logits: Any, targets: Any, **options: Any) -> Any:
    raise RuntimeError("out of order")


def at(found: Comparison, name: str) -> Pair:
    return next(pair for pair in found.pairs if pair.case.name == name)


@pytest.mark.parametrize("other", [right, finer])
def test_a_loss_agrees_with_itself_and_last_digits_are_no_difference(other: Any) -> None:
    found = compare(right, other, families=FAMILIES)
    assert found.ok
    assert found.first is None
    assert {pair.status for pair in found.pairs} == {"agree"}
    assert counts(found)["agree, both wrong"] == 0
    assert "They do not differ anywhere" in str(found)


@pytest.mark.parametrize(
    ("a", "b", "part", "who"),
    [
        (noisy, right, "value", "B"),
        (right, noisy, "value", "A"),
        (noisy, noisier, "value", "neither"),
        (crooked, right, "gradient", "B"),
        (right, raising, "error", "A"),
    ],
)
def test_where_they_first_differ_and_which_is_right(a: Any, b: Any, part: str, who: str) -> None:
    found = compare(a, b, families=[*reversed(FAMILIES)])
    first = found.first
    assert first is not None
    assert first is found.pairs[0]  # of the catalogue's order, not of the one that was asked for
    assert first.case is case(first.case.name)
    assert first.case.family == "tail"
    assert (first.part, first.right) == (part, who)
    assert f"first differ on {first.case.name}: {who} is right" in str(found) or who == "neither"
    if part == "error":
        assert (first.a, first.b) == ("a result", "RuntimeError: out of order")
    elif (part, who) == ("value", "B"):
        exact = float(first.exact)
        assert first.apart == pytest.approx(1e-5 * exact, rel=0.02)
        ulp = 1e-5 * exact / np.spacing(np.float32(exact))
        assert first.ulp == pytest.approx(ulp, rel=0.05)
        assert first.allowed == 8.0  # 4 of each
        assert float(first.a) == pytest.approx(exact * 1.00001, rel=1e-6)
        assert float(first.b) == pytest.approx(exact, rel=1e-6)


@pytest.mark.parametrize("wrong", [noisy, raising])
def test_two_that_agree_on_what_is_wrong(wrong: Any) -> None:
    found = compare(wrong, wrong, families=["tail"])
    assert found.ok
    assert {pair.right for pair in found.pairs} == {"neither"}
    count = counts(found)
    assert count["agree"] == count["agree, both wrong"] == len(found.pairs)


def test_what_one_does_not_offer() -> None:
    found = compare(right, plain, families=["masks"])
    pair = at(found, "masks/smoothed")
    assert pair.status == "not offered"
    assert list(pair.notes) == ["B"]
    assert counts(found)["not offered by A"] == 0
    assert f"{counts(found)['not offered by B']} not offered by B" in str(found)


def test_definitions_that_differ_are_told_apart() -> None:
    """torch's mean over nothing is NaN, by definition; what leaks from an ignored row is not."""
    pytest.importorskip("torch", reason="torch is not installed; the test extra brings it")
    empty = compare("torch", "xloss:torch", families=["empty"])
    assert empty.ok
    assert "They do not differ but by definition" in str(empty)

    found = compare("torch", "xloss:torch", families=["all absent"])
    absent = at(found, "all absent/ignored")
    assert absent.status == "by definition"
    assert "0/0 is NaN" in absent.notes["A"]
    assert (absent.a, absent.b, absent.exact) == ("nan", "0", "nan or 0")
    leak = at(found, "all absent/ignored, NaN")
    assert (leak.status, leak.part, leak.right) == ("differ", "gradient", "B")
    assert found.differences == [leak]


def test_beside_another_definition_errors_are_compared() -> None:
    """A mean over all rows, and a hundredth of a thousandth more: that is no definition."""

    class OverRows(Convention):
        def differs(self, case: Any, dtype: str) -> Differs | None:
            count = float(case.x.shape[0])
            return Differs(replace(case, options={"normalizer": count}), "over all rows")

    def over_rows(x: Any, t: Any) -> Any:
        value, gradient = BOTH(x, t, normalizer=float(len(x)))
        return value * factor, gradient

    cases: dict[str, Any] = {"families": ["all absent", "absent"], "convention": OverRows()}
    factor = np.float32(1)
    plain = at(compare(over_rows, "xloss", **cases), "absent/ignored, NaN")
    assert (plain.status, plain.part, plain.right) == ("by definition", "value", "both")
    factor = np.float32(1.00001)
    wrong = at(compare(over_rows, "xloss", **cases), "absent/ignored, NaN")
    assert (wrong.status, wrong.part, wrong.right) == ("differ", "value", "B")
    assert wrong.apart == pytest.approx(1e-5 * float(wrong.a), rel=0.02)
    assert " or " in wrong.exact


def test_a_bad_label_is_an_error_here_and_a_nan_there() -> None:
    pytest.importorskip("jax", reason="jax is not installed; the test extra brings it")
    found = compare("xloss", "xloss:jax", families=["labels"], quick=True)
    assert found.ok
    notes = [p.notes["A"] for p in found.pairs if p.status == "by definition"]
    assert {"a label out of range raises" in note for note in notes} == {True}


def test_the_record_is_plain() -> None:
    found = compare(noisy, right, families=["ties"])
    made = json.loads(json.dumps(record(found), allow_nan=False))
    assert (made["schema"], made["ok"]) == (1, False)
    assert made["first"] == found.pairs[0].case.name
    assert made["a"]["name"] == "noisy float32"
    assert len(made["pairs"]) == len(found.pairs)
    pair = made["pairs"][0]
    names: dict[str, Any] = {}
    exec(pair["setup"] + "\n" + pair["calls"]["A"], names)
    assert float(names["answer"]["value"]) == pytest.approx(float(pair["a"]), rel=1e-8)


def test_what_cannot_be_compared(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ValueError, match="no case in common"):
        compare(right, plain, families=["z-loss"])
    monkeypatch.setattr(libraries, "_made", lambda name: Missing(f"{name}: not here"))
    with pytest.raises(Missing, match="strict: not here"):
        compare("xloss:strict", "xloss")


def test_on_the_command_line(capfd: pytest.CaptureFixture[str]) -> None:
    """Exit codes 0, 1 and 2; one line on stderr, or JSON alone on stdout."""

    def conform(code: int, *arguments: str) -> tuple[str, str]:
        assert command(["conform", *arguments]) == code
        said = capfd.readouterr()
        return said.out, said.err

    same, nothing = conform(0, "xloss", "--against", "xloss:strict", "--family", "tail")
    assert nothing == ""
    assert "They do not differ anywhere" in same

    asked = ("by_hand:noisy", "--against", "xloss", "--family", "tail", "--quick", "--json")
    other, nothing = conform(1, *asked)
    assert nothing == ""
    made = json.loads(other, parse_constant=pytest.fail)
    assert (made["schema"], made["ok"], made["first"]) == (1, False, "tail/gap 5")

    for wrong, says in [
        (("xloss", "--against", "scpy"), "'scpy' is unknown; did you mean scipy?"),
        (("xloss", "--against", "by_hand:right@nobody"), "'nobody' is unknown"),
        (("--against", "xloss"), "expected two losses"),
        (("xloss", "--against", "torch", "--html", "f"), "--html cannot be used with --against"),
    ]:
        nothing, refused = conform(2, *wrong)
        assert nothing == ""
        assert says in refused
        assert len(refused.splitlines()) == 1
