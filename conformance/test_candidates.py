"""Candidates: how they are named and called, and what comes of those that misbehave."""

from __future__ import annotations

import re
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import xloss
from by_hand import BITS, LABELS, ROW_WEIGHT, SOFT, Z, made
from xloss_conformance import Convention, check
from xloss_conformance.call_subject import ask
from xloss_conformance.candidates import Candidate, load
from xloss_conformance.conventions import convention
from xloss_conformance.judge import judge
from xloss_conformance.model import Case, LoadError

BOTH = xloss.value_and_grad(xloss.cross_entropy)
PLAIN = made(Z, LABELS)
DOCUMENT = Path(__file__).parents[1] / "docs" / "conventions.md"


def candidate(function: Callable[..., Any], style: str = "xloss") -> Candidate:
    return Candidate("it", function, convention(style))


@pytest.mark.parametrize(
    ("spec", "says"),
    [
        ("json", "expected package.module:function or path/file.py:function"),
        ("nothing_of_that_name:loss", "no module nothing_of_that_name"),
        ("json.nothing:loss", "no module json.nothing"),
        ("nothing.py:loss", "no such file"),
        ("json:lod", "json has no lod; it has "),
        ("math:pi", "is a float, which cannot be called"),
        ("broken.py:loss", "fails to import: ZeroDivisionError: division by zero"),
        ("quits.py:loss", "fails to import: SystemExit: 3"),
        ("typo.py:loss", "fails to import: SyntaxError: "),
        ("lacks.py:loss", "fails to import: ModuleNotFoundError: No module named 'nothing_at_all'"),
    ],
)
def test_what_cannot_be_loaded_is_said_in_one_line(
    spec: str, says: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "broken.py").write_text("1 / 0\n")
    (tmp_path / "quits.py").write_text("raise SystemExit(3)\n")
    (tmp_path / "typo.py").write_text("def loss(:\n")
    (tmp_path / "lacks.py").write_text("import nothing_at_all\n")
    monkeypatch.chdir(tmp_path)
    path = list(sys.path)
    with pytest.raises(LoadError) as caught:
        load(spec)
    assert says in str(caught.value)
    assert spec.rpartition(":")[0] in str(caught.value)
    assert "\n" not in str(caught.value)
    assert sys.path == path


def test_a_file_is_loaded_beside_its_own_helpers(tmp_path: Path) -> None:
    (tmp_path / "its_helper.py").write_text("import xloss\nloss = xloss.cross_entropy\n")
    (tmp_path / "json.py").write_text("from its_helper import loss\n")  # named as a library is
    made = load(f"{tmp_path}/json.py:loss")
    assert judge(made, PLAIN).status == "pass"
    assert "its_helper" in sys.modules
    del sys.modules["its_helper"]
    import json

    assert hasattr(json, "dumps")


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"loss": "crossentropy"}, "loss: 'crossentropy' is unknown"),
        ({"convention_name": "mxnet"}, "convention: 'mxnet' is unknown; expected one of xloss"),
        ({"convention_name": "nothing.py"}, "nothing.py: no such file"),
        ({"convention_name": "math:pi"}, "a float is no Convention"),
        ({"arrays": "mxnet"}, "arrays: 'mxnet' is unknown; expected one of numpy"),
    ],
)
def test_what_is_asked_of_it_must_be_known(options: dict[str, Any], says: str) -> None:
    with pytest.raises(LoadError, match=re.escape(says)):
        load("xloss:cross_entropy", **options)


def test_a_convention_without_such_a_loss_cannot_say_how_it_is_called() -> None:
    pytest.importorskip("torch")
    with pytest.raises(LoadError, match="torch has no focal_loss"):
        load("xloss:focal_loss", "torch", loss="focal_loss")


def test_an_option_without_a_parameter_is_refused_by_name() -> None:
    def bare(logits: Any, targets: Any, weight: Any = None) -> Any:
        return BOTH(logits, targets, weight=weight)

    subject = candidate(bare)
    assert subject.refuses(PLAIN) is None
    assert subject.refuses(made(Z, LABELS, weight=np.ones(3))) is None
    refused = made(Z, LABELS, label_smoothing=0.1, sample_weight=ROW_WEIGHT)
    assert subject.refuses(refused) == "does not take label_smoothing"
    assert judge(subject, refused).status == "refused"


def test_an_option_that_is_the_default_needs_no_parameter() -> None:
    default = made(Z, LABELS, reduction="mean", axis=-1, label_smoothing=0.0, weight=None)
    verdict = judge(candidate(lambda logits, targets: BOTH(logits, targets)), default)
    assert verdict.status == "pass"
    assert verdict.grad_ulp is not None


def test_another_loss_is_refused() -> None:
    case = made(Z, BITS, "binary_cross_entropy_with_logits")
    assert candidate(xloss.cross_entropy).refuses(case) == f"is not {case.loss}"


def _says(result: Any) -> Callable[..., Any]:
    return lambda logits, targets: result


def _throws(error: BaseException) -> Callable[..., Any]:
    def function(logits: Any, targets: Any) -> Any:
        raise error

    return function


ODD: dict[str, tuple[Callable[..., Any], str]] = {
    "None": (_says(None), "TypeError: it returned None"),
    "a string": (_says("1.0"), ""),
    "three things": (_says((1.0, 2.0, 3.0)), "ValueError: too many values to unpack"),
    "a gradient that is a list": (_says((1.0, [1.0])), ""),
    "an error": (_throws(KeyError("oh")), "KeyError: 'oh'"),
    "an exit": (_throws(SystemExit(4)), "RuntimeError: SystemExit: 4"),
    "a thing of its own": (_throws(GeneratorExit()), "RuntimeError: GeneratorExit"),
}


@pytest.mark.parametrize("name", ODD)
def test_odd_results_are_failures_and_the_run_goes_on(name: str) -> None:
    function, says = ODD[name]
    verdict = judge(candidate(function), PLAIN)
    assert verdict.status == "fail"
    assert verdict.findings
    if says:
        assert verdict.findings[0].rule == "runs"
        assert verdict.findings[0].detail.startswith(says)


def test_a_keyboard_interrupt_interrupts() -> None:
    with pytest.raises(KeyboardInterrupt):
        judge(candidate(_throws(KeyboardInterrupt())), PLAIN)


def test_not_implemented_is_not_offered_but_may_be_the_error_that_is_asked_for() -> None:
    subject = candidate(_throws(NotImplementedError("no soft targets")))
    verdict = judge(subject, made(Z, SOFT))
    assert verdict.status == "refused"
    assert "no soft targets" in verdict.note
    wrong = Case("hand", "wrong", "", Z, LABELS, error=ValueError, names="targets")
    assert judge(subject, wrong).status == "pass"


def test_the_gradient_is_judged_where_the_upstream_is_1_or_is_told() -> None:
    plain = Case("hand", "upstream", "", Z, LABELS, upstream=2.5)
    untold = judge(candidate(lambda logits, targets: BOTH(logits, targets)), plain)
    assert (untold.status, untold.grad_ulp) == ("pass", None)

    def told(logits: Any, targets: Any, cotangent: Any = None) -> Any:
        return BOTH(logits, targets, cotangent=cotangent)

    judged = judge(candidate(told), plain)
    assert judged.status == "pass"
    assert judged.grad_ulp is not None

    def ignored(logits: Any, targets: Any, cotangent: Any = None) -> Any:
        return BOTH(logits, targets)

    assert [f.rule for f in judge(candidate(ignored), plain).findings] == ["gradient"]


def test_an_object_that_can_be_called_is_a_candidate() -> None:
    subject = candidate(xloss.CrossEntropyLoss(label_smoothing=0.1))
    assert judge(subject, PLAIN).status == "fail"  # it smooths, and nobody asked it to
    assert judge(candidate(xloss.CrossEntropyLoss()), PLAIN).status == "pass"


def test_a_class_is_made_anew_with_the_options_of_the_case() -> None:
    torch = pytest.importorskip("torch")
    module = candidate(torch.nn.CrossEntropyLoss, "torch")
    assert module.refuses(made(Z, LABELS, z_loss=0.1)) == "has no z_loss"
    smoothed = made(Z, LABELS, label_smoothing=0.25, reduction="sum")
    function = judge(candidate(torch.nn.functional.cross_entropy, "torch"), smoothed)
    verdict = judge(module, smoothed)
    assert verdict.value_ulp == function.value_ulp
    assert verdict.grad_ulp == function.grad_ulp


def test_xloss_convention_takes_other_arrays() -> None:
    torch = pytest.importorskip("torch")
    seen = []

    def loss(logits: Any, targets: Any) -> Any:
        seen.append((type(logits), logits.requires_grad))
        return xloss.cross_entropy(logits, targets)

    subject = Candidate("it", loss, convention("xloss", "torch"))
    verdict = judge(subject, PLAIN)
    assert verdict.status == "pass"
    assert verdict.grad_ulp is not None
    assert set(seen) == {(torch.Tensor, True)}
    assert convention("xloss").home == "numpy"


def test_rows_are_split_only_where_rows_are_offered() -> None:
    split = Case("hand", "split", "", Z, LABELS, split=True)
    assert judge(candidate(lambda logits, targets: BOTH(logits, targets)), split).status == "pass"

    def batched(logits: Any, targets: Any, reduction: Any = "mean") -> Any:
        wide = logits.astype(np.float64) * (1 + len(logits) * 2.0**-24)
        return np.float32(xloss.cross_entropy(wide, targets, reduction=reduction))

    found = judge(candidate(batched), split).findings
    assert "split" in {finding.rule for finding in found}


def test_ask_is_what_a_snippet_calls() -> None:
    subject = load("xloss:cross_entropy")
    (value,) = ask(subject, "cross_entropy", Z, LABELS).values()
    assert value == xloss.cross_entropy(Z.astype(np.float32), LABELS)
    with pytest.raises(IndexError, match="targets"):
        ask(subject, "cross_entropy", Z, LABELS + 9)
    with pytest.raises(TypeError, match="logits"):  # and not what a list would be turned into
        ask(subject, "cross_entropy", Z.tolist(), LABELS)


def test_the_documents_convention_works_and_is_needed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    blocks = re.findall(r"```python\n(.*?)```", DOCUMENT.read_text(encoding="utf-8"), re.S)
    assert len(blocks) == 2
    (tmp_path / "mine.py").write_text(blocks[0])
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.chdir(tmp_path)
    whole = "check(loss, convention=Mine())"
    assert whole in blocks[1]
    # Of the families that it says something of: for each of their answers the oracle computes anew.
    few = 'families=["absent", "all absent", "axis", "options", "range"], quick=True'
    exec(blocks[1].replace(whole, f"check(loss, convention=Mine(), {few})"), {})
    loaded = load("mine.py:loss", "mine.py")
    weighted = made(Z, LABELS, sample_weight=ROW_WEIGHT)
    verdict = judge(loaded, weighted)
    assert verdict.status == "pass"
    assert verdict.note == "divides by the rows, whatever their weights"
    assert loaded.refuses(made(Z, LABELS, z_loss=0.1)) == "has no z_loss"
    style = loaded.convention
    monkeypatch.setattr(type(style), "differs", Convention.differs)
    assert judge(loaded, weighted).status == "fail"
    assert not check(loaded.function, convention=style, families=["options"]).ok
    del sys.modules["mine"]


def test_the_document_names_every_convention_there_is() -> None:
    from xloss_conformance.conventions import NAMES

    text = DOCUMENT.read_text(encoding="utf-8")
    named = re.findall(r"^\| `(\w+)` \|", text, re.M)
    assert named == list(NAMES)
