"""The suite in another project's tests: one pytest item a case."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .cases import catalogue
from .checking import declared, judged
from .conventions import Convention
from .deviations import Deviation
from .model import Case, Missing
from .result import Nonconforming, explained
from .selection import chosen, dtypes, styled

if TYPE_CHECKING:
    import pytest


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
        own = [d for d in self.deviations if fnmatchcase(self.case.name, d.case)]
        report = judged(
            function,
            self.convention,
            self.case.loss,
            [self.dtype],
            [self.case],
            own,
            value_only=self.value_only,
        )
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
    kinds = dtypes(dtype)
    known = declared(deviations)
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
