"""The suite as a library: `check`, its report, and what it does and does not import."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import xloss
from by_hand import BOTH, DEVIATION, EXCUSED, noisy, right
from xloss_conformance import Convention, Nonconforming, check

FAMILIES = ["tail", "offsets", "ties"]


def lossy(logits: Any, targets: Any) -> Any:
    """The textbook's: 1 + r swallows r, in the loss and in p - 1."""
    z = logits - logits.max(-1, keepdims=True)
    p = np.exp(z) / np.exp(z).sum(-1, keepdims=True)
    rows = np.arange(len(z))
    gradient = p.copy()
    gradient[rows, targets] -= 1
    return -np.log(p[rows, targets]).mean(), gradient / len(z)


def test_a_right_loss_is_ok() -> None:
    report = check(right, families=FAMILIES)
    assert report.ok
    report.raise_for_failures()
    assert {v.status for v in report.verdicts} == {"pass"}
    assert str(report) == f"right float32: 0 of {len(report.cases)} cases fail"


def test_a_wrong_loss_is_told_where_and_why() -> None:
    report = check(lossy, families=["tail"], quick=True)
    assert not report.ok
    failed = next(v for v in report.failures if v.case.name == "tail/gap 17")
    assert {finding.rule for finding in failed.findings} == {"value", "gradient"}
    assert issubclass(Nonconforming, AssertionError)
    with pytest.raises(Nonconforming) as caught:
        report.raise_for_failures()
    text = str(caught.value)
    assert report.failures[0].case.reason in " ".join(text.split())
    count = f"{len(report.failures)} of {len(report.cases)} cases fail"
    assert text.startswith(f"lossy float32: {count}\n")


def test_a_loss_without_a_gradient_is_judged_by_its_value() -> None:
    report = check(lambda logits, targets: BOTH(logits, targets)[0], families=["ties"])
    assert report.ok
    judged = sum(v.status == "pass" for v in report.verdicts)
    assert f"no gradient was given in {judged} cases" in str(report)


def test_another_loss_of_several_dtypes_is_several_subjects() -> None:
    focal = xloss.value_and_grad(xloss.focal_loss)
    report = check(focal, loss="focal_loss", dtype=("float32", "float64", "float32"), quick=True)
    assert report.ok
    assert [told.dtype for told in report.subjects] == ["float32", "float64"]
    assert len(report.verdicts) == 2 * len(report.cases)
    assert {(case.loss, case.quick) for case in report.cases} == {("focal_loss", True)}


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ({"convention": "numpy"}, "'numpy' is unknown; expected one of xloss, torch"),
        ({"arrays": "torc"}, "'torc' is unknown; did you mean torch?"),
        ({"loss": "hinge"}, "'hinge' is unknown; expected one of cross_entropy"),
        ({"convention": Convention}, "convention: expected a name or a Convention, got <class "),
        ({"dtype": np.float32}, "dtype: <class 'numpy.float32'> is unknown; expected one of"),
        ({"dtype": ()}, "dtype: none"),
        ({"families": ["tale"]}, "'tale' is unknown; did you mean tail?"),
        ({"families": []}, "no case is of that"),
        ({"deviations": "nowhere.toml"}, "nowhere.toml"),
        ({"convention": "torch", "loss": "focal_loss"}, "convention torch has no focal_loss"),
        # Where nothing is judged, that nothing failed says nothing.
        ({"convention": "scipy", "families": ["softcap"]}, "nothing was judged: .* has no softcap"),
    ],
)
def test_a_wrong_name_is_an_error(given: dict[str, Any], says: str) -> None:
    with pytest.raises(ValueError, match=says):
        check(right, **given)
    not_one: Any = 3.5
    with pytest.raises(TypeError, match="function: expected a callable, got float"):
        check(not_one)


def test_declared_deviations_are_no_failures(tmp_path: Path) -> None:
    file = tmp_path / "deviations.toml"
    file.write_text(DEVIATION.format("noisy *", "tail/*") + DEVIATION.format("another *", "tail/*"))
    report = check(noisy, families=["tail"], deviations=file)
    assert report.ok
    assert {(v.status, EXCUSED in v.note) for v in report.verdicts} == {("declared", True)}
    assert check(right, families=["tail"], deviations=file).ok  # both are of another loss
    file.write_text(DEVIATION.format("right float32", "tail/*"))
    stale = check(right, families=["tail"], deviations=str(file))
    assert not stale.ok
    with pytest.raises(Nonconforming, match="stale deviation: 'right float32' on 'tail/\\*'"):
        stale.raise_for_failures()


def test_nothing_is_imported_that_is_not_needed() -> None:
    """Nor mpmath where expected.npz has the answer; elsewhere the error names the extra."""
    script = """if True:
        import sys, xloss_conformance
        assert 'numpy' not in sys.modules
        from xloss_conformance import Missing, check, compare, conformance_cases, expected
        def f(x, t): return 0.0
        assert len(str(check(f, families=['tail']))) > 100
        others = {'torch', 'jax', 'dask', 'optax', 'scipy', 'array_api_strict'}
        assert not others & set(sys.modules), others & set(sys.modules)
        assert not {'pytest', 'rich', 'typer', 'mpmath'} & set(sys.modules)
        expected._filed = dict
        sys.modules['mpmath'] = None
        try:
            check(f, families=['tail'], dtype='float64')
        except Missing as error:
            assert 'pip install "xloss[conformance]"' in str(error), error
        else:
            raise AssertionError
    """
    subprocess.run([sys.executable, "-W", "error", "-c", script], check=True)


def test_a_metric_is_judged_by_its_value_alone() -> None:
    pytest.importorskip("torch")

    def metric(input: Any, target: Any, reduction: Any = "mean") -> Any:
        return xloss.cross_entropy(input.detach(), target, reduction=reduction)

    asked: dict[str, Any] = {"convention": "torch", "families": ["ties"]}
    assert check(metric, **asked, value_only=True).ok
    failed = check(metric, **asked).failures
    assert {f.rule for v in failed for f in v.findings} == {"gradient"}
