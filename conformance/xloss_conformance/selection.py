"""From names to a run: which cases, and which subjects, without importing an array library."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from functools import partial
from importlib.util import find_spec
from typing import Any

from .candidates import Candidate, load, peer
from .cases import catalogue
from .conventions import Convention, convention
from .libraries import LIBRARIES, array_library
from .load_object import INSTALL, among
from .model import DTYPES, LOSSES, Case, LoadError, Source
from .xloss_subjects import Xloss, of, present

# Where a quick run goes: NumPy, always here; the standard; what most losses are written in.
# Not JAX, which compiles every call, and not Dask, whose graphs take as long.
QUICK = {"numpy": DTYPES, "strict": ("float32",), "torch": ("float32", "bfloat16")}


@dataclass(frozen=True)
class Plan:
    """What is asked, as names; the empty ones ask for everything."""

    quick: bool = False
    on_demand: bool = False
    families: Sequence[str] = ()
    case: str | None = None  # a glob
    loss: str | None = None
    dtypes: Sequence[str] = ()
    backends: Sequence[str] = ()
    peers: Sequence[str] = ()
    candidate: str | None = None
    convention: str = "xloss"
    arrays: str | None = None
    value_only: bool = False  # of the candidate no gradient is taken

    @property
    def everything(self) -> bool:
        """Whether it is xloss wherever it runs."""
        return not (self.backends or self.peers or self.candidate)


def cases(plan: Plan) -> list[Case]:
    """Return the cases asked for, in the catalogue's order."""
    loss = plan.loss or ("cross_entropy" if plan.candidate else None)
    return chosen(loss, plan.families or None, plan.quick, plan.case, plan.on_demand)


def chosen(
    loss: str | None,
    families: Iterable[str] | None,
    quick: bool,
    case: str | None = None,
    on_demand: bool = False,
) -> list[Case]:
    """Return the cases of such a loss, families and name, in the catalogue's order."""
    everything = catalogue()
    if loss is not None:
        among("loss", loss, LOSSES)
    asked = {families} if isinstance(families, str) else set(families or ())
    for family in sorted(asked):
        among("family", family, dict.fromkeys(case.family for case in everything))
    found = [
        one
        for one in everything
        if loss in (None, one.loss)
        and (families is None or one.family in asked)
        and (case in (None, one.name) or fnmatchcase(one.name, str(case)))
        and (one.quick or not quick)
    ]
    now = [one for one in found if on_demand or not one.on_demand]
    if found and not now:
        raise LoadError("these cases run on demand only: --on-demand")
    if not now:
        raise LoadError("no case is of that name, family and loss; xloss conform --list shows all")
    return now


def sources(plan: Plan) -> list[Source]:
    """Return where the subjects asked for come from."""
    dtypes(plan.dtypes or DTYPES)
    for name in plan.backends:
        among("backend", name, LIBRARIES)
    has = QUICK if plan.quick and plan.everything else dict.fromkeys(LIBRARIES, DTYPES)
    wanted = plan.dtypes or DTYPES
    found = [
        Source(name, partial(present, subject), name in plan.backends, _cost(subject))
        for name in (has if plan.everything else plan.backends)
        for subject in of(name, tuple(dtype for dtype in has[name] if dtype in wanted))
    ]
    for name in dict.fromkeys(plan.peers):
        found += [
            Source(name, partial(peer, name, dtype), required=True)
            for dtype in plan.dtypes or ("float32", "float64")
        ]
    if plan.candidate is not None:
        before = partial(styled, plan.convention, plan.arrays)
        found += [
            Source(plan.candidate, partial(_candidate, plan, dtype), True, 0, True, before)
            for dtype in plan.dtypes or ("float32",)
        ]
    if not found:
        raise LoadError(f"no subject has {', '.join(plan.dtypes)}")
    return found


def _cost(subject: Xloss) -> int:
    """Return where it stands among the slow: JAX compiles every call, twice under autodiff."""
    whole = subject.gradient == "jax.vjp" and not subject.few
    return {"jax": 3, "dask": 2, "tensorflow": 1, "torch": 1}.get(subject.library, 0) + whole


def _candidate(plan: Plan, dtype: str) -> Candidate:
    style, loss = styled(plan.convention, plan.arrays), plan.loss or "cross_entropy"
    return load(str(plan.candidate), style, loss=loss, dtype=dtype, value_only=plan.value_only)


def absent(plan: Plan) -> list[str]:
    """Return a line for each library that a quick run leaves out and that is not installed."""
    if not (plan.quick and plan.everything):
        return []
    names = [name for name in LIBRARIES if name not in (*QUICK, "cuda") and not find_spec(name)]
    return [f"{name}: {name} is not installed: {INSTALL[name]}" for name in names]


# ---- For `check` and `compare` -------------------------------------------------------------------


def styled(named: str | Convention, arrays: str | None = None) -> Convention:
    """Return the convention, on another library's arrays if one is named; Missing if not here."""
    style = convention(named, arrays)
    array_library(style.home)
    return style


def dtypes(dtype: str | Sequence[str]) -> tuple[str, ...]:
    """Return the dtypes asked for, each a name that is one."""
    one = isinstance(dtype, str) or not hasattr(dtype, "__iter__")
    asked: tuple[Any, ...] = (dtype,) if one else tuple(dict.fromkeys(dtype))
    if not asked:
        raise LoadError("dtype: none is named")
    return tuple(among("dtype", name, DTYPES) for name in asked)
