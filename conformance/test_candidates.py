"""Candidates: how they are named and called, and what comes of those that misbehave."""

from __future__ import annotations

import re
import sys
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import xloss
from by_hand import BCE_LOGITS, BITS, BOTH, LABELS, ROW_WEIGHT, SOFT, Z, made, plain
from xloss_conformance import Convention
from xloss_conformance.candidates import Candidate, load
from xloss_conformance.conventions import convention
from xloss_conformance.judge import judge
from xloss_conformance.model import Case, LoadError

PLAIN = made(Z, LABELS)
DOCUMENT = Path(__file__).parents[1] / "docs" / "conventions.md"


def candidate(function: Callable[..., Any], style: str = "xloss") -> Candidate:
    return Candidate("it", function, convention(style))


@pytest.mark.parametrize(
    ("spec", "says"),
    [
        ("json", "expected package.module:function or path/file.py:function"),
        ("json.nothing:loss", "no module json.nothing"),
        ("nothing.py:loss", "no such file"),
        ("json:lod", "json has no lod; it has "),
        ("math:pi", "is a float, which cannot be called"),
        ("quits.py:loss", "fails to import: SystemExit: 3"),
        ("lacks.py:loss", "fails to import: ModuleNotFoundError: No module named 'nothing_at_all'"),
    ],
)
def test_what_cannot_be_loaded_is_said_in_one_line(
    spec: str, says: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "quits.py").write_text("raise SystemExit(3)\n")
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
    del sys.modules["its_helper"]
    assert hasattr(import_module("json"), "dumps")


@pytest.mark.parametrize(
    ("style", "says"),
    [
        ("nothing.py", "nothing.py: no such file"),
        ("math:pi", "a float is no Convention"),
        ("sklearn", "sklearn has no focal_loss"),  # it cannot say how one is called
    ],
)
def test_what_is_asked_of_it_must_be_known(style: str, says: str) -> None:
    with pytest.raises(LoadError, match=says):
        load("xloss:focal_loss", style, loss="focal_loss")


def weighted(logits: Any, targets: Any, weight: Any = None) -> Any:
    return BOTH(logits, targets, weight=weight)


def told(logits: Any, targets: Any, cotangent: Any = None) -> Any:
    return BOTH(logits, targets, cotangent=cotangent)


def deaf(logits: Any, targets: Any, cotangent: Any = None) -> Any:
    return BOTH(logits, targets)


def batched(logits: Any, targets: Any, reduction: Any = "mean") -> Any:
    """A row's bits depend on how many others there are."""
    wide = logits.astype(np.float64) * (1 + len(logits) * 2.0**-24)
    return np.float32(xloss.cross_entropy(wide, targets, reduction=reduction))


def returning(result: Any) -> Callable[..., Any]:
    return lambda logits, targets: result


def raising(error: BaseException) -> Callable[..., Any]:
    def function(logits: Any, targets: Any) -> Any:
        raise error

    return function


UPSTREAM = made(Z, LABELS, upstream=2.5)
SPLIT = made(Z, LABELS, split=True)
WRONG = made(Z, LABELS, error=ValueError, names="targets")
DEFAULTS = made(Z, LABELS, reduction="mean", axis=-1, label_smoothing=0.0, weight=None)
UNOFFERED = NotImplementedError("no soft targets")
# A loss, a case, its status, whether a gradient is judged, and what is said.
JUDGED: list[tuple[Callable[..., Any], Case, str, bool, str]] = [
    (plain, DEFAULTS, "pass", True, ""),
    (weighted, made(Z, LABELS, weight=np.ones(3)), "pass", True, ""),
    (weighted, made(Z, LABELS, label_smoothing=0.1), "refused", False, "does not take label_smoo"),
    (plain, made(Z, BITS, BCE_LOGITS), "refused", False, f"is not {BCE_LOGITS}"),
    (plain, UPSTREAM, "pass", False, ""),
    (told, UPSTREAM, "pass", True, ""),
    (deaf, UPSTREAM, "fail", True, "gradient: "),
    (plain, SPLIT, "pass", True, ""),  # it offers no rows
    (batched, SPLIT, "fail", False, "split: "),
    (xloss.CrossEntropyLoss(), PLAIN, "pass", False, ""),
    (xloss.CrossEntropyLoss(label_smoothing=0.1), PLAIN, "fail", False, "value: "),
    (raising(UNOFFERED), made(Z, SOFT), "refused", False, "no soft targets"),
    (raising(UNOFFERED), WRONG, "pass", False, ""),  # it is the error that is asked for
    (returning(None), PLAIN, "fail", False, "runs: TypeError: it returned None"),
    (returning((1.0, 2.0, 3.0)), PLAIN, "fail", False, "runs: ValueError: too many values to"),
    (returning((1.0, [1.0])), PLAIN, "fail", False, ""),
    (raising(SystemExit(4)), PLAIN, "fail", False, "runs: RuntimeError: SystemExit: 4"),
]


@pytest.mark.parametrize(("function", "case", "status", "gradient", "says"), JUDGED)
def test_what_becomes_of_a_call(
    function: Callable[..., Any], case: Case, status: str, gradient: bool, says: str
) -> None:
    verdict = judge(candidate(function), case)
    assert verdict.status == status
    assert (verdict.grad_ulp is not None) == gradient
    assert says in "\n".join([verdict.note, *(f"{f.rule}: {f.detail}" for f in verdict.findings)])
    assert bool(verdict.findings) == (status == "fail")


def test_a_keyboard_interrupt_interrupts() -> None:
    with pytest.raises(KeyboardInterrupt):
        judge(candidate(raising(KeyboardInterrupt())), PLAIN)


def test_a_class_is_made_anew_with_the_options_of_the_case() -> None:
    torch = pytest.importorskip("torch")
    module = candidate(torch.nn.CrossEntropyLoss, "torch")
    assert module.refuses(made(Z, LABELS, z_loss=0.1)) == "has no z_loss"
    smoothed = made(Z, LABELS, label_smoothing=0.25, reduction="sum")
    function = candidate(torch.nn.functional.cross_entropy, "torch")
    one, other = (judge(subject, smoothed) for subject in (module, function))
    assert (one.value_ulp, one.grad_ulp) == (other.value_ulp, other.grad_ulp)


def test_xloss_convention_takes_other_arrays() -> None:
    torch = pytest.importorskip("torch")
    seen = []

    def loss(logits: Any, targets: Any) -> Any:
        seen.append((type(logits), logits.requires_grad))
        return xloss.cross_entropy(logits, targets)

    verdict = judge(Candidate("it", loss, convention("xloss", "torch")), PLAIN)
    assert (verdict.status, verdict.grad_ulp is None) == ("pass", False)
    assert set(seen) == {(torch.Tensor, True)}


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
    monkeypatch.setattr(type(loaded.convention), "differs", Convention.differs)
    assert judge(loaded, weighted).status == "fail"
    del sys.modules["mine"]


def test_the_document_names_every_convention_there_is() -> None:
    from xloss_conformance.conventions import NAMES

    text = DOCUMENT.read_text(encoding="utf-8")
    named = re.findall(r"^\| `(\w+)` \|", text, re.M)
    assert named == list(NAMES)
