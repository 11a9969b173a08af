"""From names to a run: which cases, and which subjects, without importing an array library."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from difflib import get_close_matches
from fnmatch import fnmatchcase
from functools import partial
from importlib.util import find_spec
from typing import Any

from .candidates import Candidate, load
from .cases import catalogue
from .conventions import Convention, convention
from .libraries import LIBRARIES, array_library
from .load_object import INSTALL
from .model import DTYPES, LOSSES, Case, Source
from .peers import PEERS, peer
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


class BadPlan(ValueError):
    """Something that was asked for is not there; the message says what is."""


def _among(what: str, names: Sequence[str], known: Sequence[str]) -> None:
    for name in names:
        if name not in known:
            near = get_close_matches(name, known, 1)
            hint = f"did you mean {near[0]}?" if near else f"expected one of {', '.join(known)}"
            raise BadPlan(f"{what} {name}: there is none of that name; {hint}")


def cases(plan: Plan) -> list[Case]:
    """Return the cases asked for, in the catalogue's order."""
    everything = catalogue()
    _among("--family", plan.families, list(dict.fromkeys(case.family for case in everything)))
    _among("--loss", [plan.loss] if plan.loss else [], LOSSES)
    loss = plan.loss or ("cross_entropy" if plan.candidate else None)
    found = [
        case
        for case in everything
        if loss in (None, case.loss)
        and (not plan.families or case.family in plan.families)
        and (plan.case in (None, case.name) or fnmatchcase(case.name, str(plan.case)))
        and (case.quick or not plan.quick)
    ]
    now = [case for case in found if plan.on_demand or not case.on_demand]
    if found and not now:
        raise BadPlan("these cases run on demand only: --on-demand")
    if not now:
        raise BadPlan("no case is of that name, family and loss; xloss conform --list shows all")
    return now


def sources(plan: Plan) -> list[Source]:
    """Return where the subjects asked for come from."""
    _among("--dtype", plan.dtypes, DTYPES)
    _among("--backend", plan.backends, list(LIBRARIES))
    _among("--peer", plan.peers, PEERS)
    _among("--arrays", [plan.arrays] if plan.arrays else [], list(LIBRARIES))
    found = []
    for name in LIBRARIES if plan.everything else plan.backends:
        narrow = plan.quick and plan.everything
        if narrow and name not in QUICK:
            continue
        has = QUICK[name] if narrow else DTYPES
        wanted = tuple(dtype for dtype in has if dtype in (plan.dtypes or DTYPES))
        found += [
            Source(name, partial(present, subject), name in plan.backends, _cost(subject))
            for subject in of(name, wanted)
        ]
    for name in dict.fromkeys(plan.peers):
        found += [
            Source(name, partial(peer, name, dtype), required=True)
            for dtype in plan.dtypes or ("float32", "float64")
        ]
    if plan.candidate is not None:
        loss = plan.loss or "cross_entropy"
        found += [
            Source(
                plan.candidate,
                partial(_candidate, plan, loss, dtype),
                required=True,
                stranger=True,
                before=partial(styled, plan.convention, plan.arrays),
            )
            for dtype in plan.dtypes or ("float32",)
        ]
    if not found:
        raise BadPlan(f"no subject has {', '.join(plan.dtypes)}")
    return found


def _cost(subject: Xloss) -> int:
    """Return where it stands among the slow: JAX compiles every call, twice under autodiff."""
    whole = subject.gradient == "jax.vjp" and not subject.few
    return {"jax": 3, "dask": 2, "tensorflow": 1, "torch": 1}.get(subject.library, 0) + whole


def _candidate(plan: Plan, loss: str, dtype: str) -> Candidate:
    assert plan.candidate is not None
    style = styled(plan.convention, plan.arrays)
    return replace(load(plan.candidate, style, loss=loss, dtype=dtype), value_only=plan.value_only)


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


def chosen(loss: str | None, families: Iterable[str] | None, quick: bool) -> list[Case]:
    """Return the cases of a loss, or of all, in the catalogue's order."""
    if loss is not None and loss not in LOSSES:
        raise ValueError(f"loss: {loss!r} is unknown; expected one of {', '.join(LOSSES)}")
    cases = [case for case in catalogue() if loss in (None, case.loss)]
    if families is None:
        cases = [case for case in cases if not case.on_demand]
    else:
        asked = {families} if isinstance(families, str) else set(families)
        known = dict.fromkeys(case.family for case in cases)
        for family in sorted(asked - set(known)):
            raise ValueError(f"families: {family!r} is unknown; expected of {', '.join(known)}")
        cases = [case for case in cases if case.family in asked]
    found = [case for case in cases if case.quick or not quick]
    if not found:
        raise ValueError("no such case is in the catalogue")
    return found


def dtypes(dtype: str | Sequence[str]) -> tuple[str, ...]:
    """Return the dtypes asked for, each a name that is one."""
    one = isinstance(dtype, str) or not hasattr(dtype, "__iter__")
    asked: tuple[Any, ...] = (dtype,) if one else tuple(dict.fromkeys(dtype))
    for name in asked:
        if not isinstance(name, str) or name not in DTYPES:  # a dtype of NumPy's equals its name
            raise ValueError(f"dtype: {name!r} is unknown; expected one of {', '.join(DTYPES)}")
    if not asked:
        raise ValueError("dtype: none is named")
    return asked
