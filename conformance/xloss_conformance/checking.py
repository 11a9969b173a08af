"""The suite as a library: one function, judged by the cases of its loss; in pytest, one by one."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .candidates import knows, load
from .cases import catalogue
from .conventions import Convention
from .deviations import Deviation, read
from .model import Case, Missing
from .result import Nonconforming, Report, explained
from .run import run
from .selection import chosen, dtypes, styled

if TYPE_CHECKING:
    import pytest


def check(
    function: Callable[..., Any],
    *,
    convention: str | Convention = "xloss",
    loss: str = "cross_entropy",
    dtype: str | Sequence[str] = "float32",
    arrays: str | None = None,
    families: Iterable[str] | None = None,
    quick: bool = False,
    value_only: bool = False,
    deviations: str | Path | None = None,
) -> Report:
    """Judge a loss by every case of the catalogue that it can be asked.

    Parameters
    ----------
    function : callable
        Called as the convention says; it returns the value, or (value, gradient). Where its arrays'
        library differentiates (PyTorch, JAX), the gradient is taken there.
    convention : str or Convention
        "xloss", "torch", "keras", "optax", "sklearn", "scipy", or one of your own.
    loss : str
        What it computes: the name of one of xloss's losses.
    dtype : str or sequence of str
        "float32", "float64", "float16", "bfloat16"; one or several.
    arrays : str, optional
        The library whose arrays it takes, where that is not the convention's own.
    families : iterable of str, optional
        Run these families of cases alone; those of "on demand" cases run only if named here.
    quick : bool
        Run the few cases of each family that catch the mistake it is for.
    value_only : bool
        Take no gradient: it is a metric, nothing to train by.
    deviations : str or Path, optional
        A TOML file of known deviations: failures that are declared, each with its reason.

    Returns
    -------
    Report
        ``ok``, ``failures``, ``raise_for_failures()``; ``str(report)`` tells them in plain text.

    Raises
    ------
    TypeError
        What cannot be called.
    ValueError
        A name that is none; a file that is no list of deviations; no case that it offers.
    Missing
        The convention, or its arrays, are of a library that is not here.
    """
    style = styled(convention, arrays)
    cases = chosen(loss, families, quick, on_demand=families is not None)
    known = [] if deviations is None else read(Path(deviations))
    report = judged(function, style, loss, dtypes(dtype), cases, known, value_only)
    if (why := report.unjudged()) is not None:
        raise ValueError(why)
    report.mode = "quick" if quick else "full"
    return report


def judged(
    function: Callable[..., Any],
    style: Convention,
    loss: str,
    kinds: Sequence[str],
    cases: Sequence[Case],
    deviations: Sequence[Deviation],
    value_only: bool,
) -> Report:
    """Run a function in each dtype; deviations of other subjects are not asked for here."""
    if not callable(function):
        what = type(function).__name__
        raise TypeError(f"function: expected a callable, got {what}; pass the loss itself")
    subjects = [
        load(function, style, loss=loss, dtype=kind, value_only=value_only) for kind in kinds
    ]
    own = [d for d in deviations if any(fnmatchcase(s.name, d.subject) for s in subjects)]
    return run(subjects, cases, deviations=own)


# ---- In another project's tests ------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class Item:
    """A case, and how the function is called: what a test's `case` is."""

    case: Case
    convention: Convention
    dtype: str
    deviations: Sequence[Deviation] = ()
    value_only: bool = False

    def __repr__(self) -> str:
        return f"<{self.case.name} {self.dtype}>"

    def check(self, function: Callable[..., Any]) -> None:
        """Judge a function by the case.

        Raises `Nonconforming`, an AssertionError, where it fails; skips the test, with the reason,
        where the case is not the function's to answer; a declared deviation is an expected failure,
        and one that is none any more fails.
        """
        import pytest

        __tracebackhide__ = True
        case, kinds = self.case, [self.dtype]
        own = [d for d in self.deviations if fnmatchcase(case.name, d.case)]
        report = judged(function, self.convention, case.loss, kinds, [case], own, self.value_only)
        verdict = report.verdicts[0]
        if verdict.status == "refused":
            pytest.skip(verdict.note)
        if verdict.status == "declared":
            pytest.xfail(verdict.note)
        if verdict.failed:
            raise Nonconforming(explained(verdict, whole=True))
        if report.stale:
            raise Nonconforming(f"stale deviation: {report.stale[0]}")


def conformance_cases(
    *,
    convention: str | Convention = "xloss",
    loss: str = "cross_entropy",
    dtype: str | Sequence[str] = "float32",
    arrays: str | None = None,
    families: Iterable[str] | None = None,
    quick: bool = False,
    value_only: bool = False,
    deviations: str | Path | None = None,
) -> pytest.MarkDecorator:
    """Parametrise a test by the catalogue: its argument `case` has `check(function)`.

    The parameters are those of `xloss_conformance.check`. Each item has its case's name as id::

        @conformance_cases(convention="torch", quick=True)
        def test_my_loss(case):
            case.check(my_loss)
    """
    import pytest

    try:
        style = styled(convention, arrays)
    except Missing as missing:
        skipped = pytest.param(None, marks=pytest.mark.skip(reason=str(missing)))
        return pytest.mark.parametrize("case", [skipped], ids=["none"])
    knows(style, loss)
    kinds = dtypes(dtype)
    known = [] if deviations is None else read(Path(deviations))
    for entry in known:
        if not any(fnmatchcase(case.name, entry.case) for case in catalogue()):
            raise ValueError(f"{deviations}: {entry}: there is no such case")
    items = [
        Item(case, style, kind, known, value_only)
        for case in chosen(loss, families, quick, on_demand=families is not None)
        for kind in kinds
    ]
    names = [i.case.name if len(kinds) == 1 else f"{i.case.name} {i.dtype}" for i in items]
    return pytest.mark.parametrize("case", items, ids=names)
