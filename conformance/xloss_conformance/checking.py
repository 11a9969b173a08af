"""The suite as a library: one function, judged by the cases of its loss."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

from .candidates import Candidate, label
from .conventions import Convention
from .deviations import Deviation, read
from .model import Case
from .result import Report
from .run import run
from .selection import chosen, dtypes, styled


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
    ValueError
        A name that is none; a file that is no list of deviations.
    Missing
        The convention, or its arrays, are of a library that is not here.
    """
    style = styled(convention, arrays)
    cases = chosen(loss, families, quick, on_demand=families is not None)
    report = judged(
        function, style, loss, dtypes(dtype), cases, declared(deviations), value_only=value_only
    )
    report.mode = "quick" if quick else "full"
    return report


def judged(
    function: Callable[..., Any],
    style: Convention,
    loss: str,
    kinds: Sequence[str],
    cases: Sequence[Case],
    deviations: Sequence[Deviation],
    *,
    value_only: bool = False,
) -> Report:
    """Run a function in each dtype; deviations of other subjects are not asked for here."""
    subjects = [
        Candidate(label(function), function, style, loss, kind, value_only) for kind in kinds
    ]
    own = [d for d in deviations if any(fnmatchcase(s.name, d.subject) for s in subjects)]
    return run(subjects, cases, deviations=own)


def declared(file: str | Path | None) -> list[Deviation]:
    """Return the deviations that a file declares."""
    return [] if file is None else read(Path(file))
