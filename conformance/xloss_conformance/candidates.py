"""Anybody's loss as a subject: a callable, and the convention it is called by; and the peers."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cache, partial
from importlib.util import find_spec
from operator import attrgetter
from typing import Any, ClassVar

from .call_subject import differentiated, run
from .conventions import Convention, convention
from .conventions.base import parameters
from .formats import accumulated
from .libraries import array_library
from .load_object import among, imported, installed, load_object, staying
from .model import LOSSES, Called, Case, Differs, LoadError, Missing, Outcome, Stored, Traits
from .printable import visible
from .rounding import rounded, stored
from .snippet import asking, one

PEERS = ("torch", "keras", "optax", "sklearn", "scipy", "tensorflow")


@dataclass(frozen=True)
class Candidate:
    """A callable that is said to be one loss."""

    label: str
    function: Callable[..., Any]
    convention: Convention
    loss: str = "cross_entropy"
    dtype: str = "float32"
    value_only: bool = False  # its gradient is not asked for
    kind: ClassVar[str] = "candidate"

    @property
    def name(self) -> str:
        return f"{visible(self.label)} {self.dtype}"

    @property
    def library(self) -> str:
        return self.convention.home

    @property
    def traits(self) -> Traits:
        return traits(self.library, self.dtype)

    def refuses(self, case: Case) -> str | None:
        if case.loss != self.loss:
            return f"is not {case.loss}"
        here = array_library(self.library).refuses(stored(case, self.dtype), case.layout)
        return here or self.convention.refuses(self.function, case)

    def differs(self, case: Case) -> Differs | None:
        return None if case.error is not None else self.convention.differs(case, self.dtype)

    def run(self, case: Case, arguments: Stored) -> Outcome:
        if case.split:  # it asks for the rows' losses
            rows = replace(case, options={**case.options, "reduction": "none"})
            if self.convention.refuses(self.function, rows) is not None:
                case = replace(case, split=False)
        return run(array_library(self.library), case, arguments, self._survived)

    def snippet(self, case: Case) -> list[str]:
        """Return lines that ask it again, by the place that it was loaded from, or by its name."""
        own = vars(self.convention).get("home")
        arrays = "" if own in (None, type(self.convention).home) else f', arrays="{own}"'
        loaded = ":" in self.label
        spec = repr(self.label) if loaded else self.label
        origin = self.convention.origin
        style = repr(origin) if origin else f"{type(self.convention).__name__}()"
        how = f'{spec}, {style}{arrays}, loss="{self.loss}", dtype="{self.dtype}"'
        imports = [] if loaded else _import(self.function)
        imports = ["from xloss_conformance.candidates import load", *imports]
        return asking(case, imports, f"load({how})")

    def _survived(self, *asked: Any) -> Called:
        """Call it; what it throws that is no Exception, SystemExit say, is an outcome too."""
        try:
            with staying():
                return self._call(*asked)
        except (Exception, KeyboardInterrupt):
            raise
        except BaseException as thrown:
            raise RuntimeError(f"{type(thrown).__name__}: {thrown}") from thrown

    def _call(self, case: Case, x: Any, t: Any, options: dict[str, Any], upstream: Any) -> Called:
        here = array_library(self.library)
        options = self.convention.given(self.function, case, options)
        known = parameters(self.function)
        takes_cotangent = known is not None and "cotangent" in known
        function = self.function
        if takes_cotangent and not one(upstream):
            cotangent = here.array(rounded(upstream, accumulated(self.dtype)))
            function = partial(function, cotangent=cotangent)
        value_only = case.value_only or self.value_only
        if here.gradients and not value_only:

            def value(x: Any, t: Any = t) -> Any:
                return _some(self.convention.call(function, case, x, t, options))

            return differentiated(here, case, value, x, t, upstream)
        result = self.convention.call(function, case, x, t, options)
        if not isinstance(result, tuple):
            return _some(result), None, None
        value, grad = result
        if value_only or not (one(upstream) or takes_cotangent):
            grad = None
        return _some(value), grad, None


def traits(library: str, dtype: str) -> Traits:
    """Return what the contract leaves to a library whose arrays a stranger takes."""
    of = array_library(library)
    flushes = dtype in of.flushes + of.flushes_generic
    return Traits(dtype, flushes=flushes, gradient=of.gradients, strict=False)


def _import(function: Callable[..., Any]) -> list[str]:
    """Return the line that imports a function, if it can be imported."""
    module, name = getattr(function, "__module__", ""), getattr(function, "__qualname__", "")
    return [f"from {module} import {name}"] if module != "__main__" and name.isidentifier() else []


def _some(value: Any) -> Any:
    if value is None:
        raise TypeError("it returned None")
    return value


def load(
    spec: str | Callable[..., Any],
    convention_name: str | Convention = "xloss",
    *,
    arrays: str | None = None,
    loss: str = "cross_entropy",
    dtype: str = "float32",
    value_only: bool = False,
) -> Candidate:
    """Return a function, or what "package.module:function" or "path/file.py:function" names.

    LoadError says in one line what is wrong with it, or with its convention.
    """
    style = convention(convention_name, arrays)
    among("loss", loss, LOSSES)
    knows(style, loss)
    function = load_object(spec) if isinstance(spec, str) else spec
    if not callable(function):
        raise LoadError(f"{spec} is a {type(function).__name__}, which cannot be called")
    name = spec if isinstance(spec, str) else label(spec)
    return Candidate(name, function, style, loss, dtype, value_only)


def knows(style: Convention, loss: str) -> None:
    """Refuse a loss of which the convention cannot say how one is called."""
    if style.functions and not any(kind.split()[0] == loss for kind in style.functions):
        raise LoadError(f"convention {style.name} has no {loss}: it cannot say how one is called")


def label(function: Callable[..., Any]) -> str:
    """Return what a function is called in reports."""
    name = getattr(function, "__name__", "") or type(function).__name__
    return name if name.isidentifier() else "function"


# ---- The losses of other libraries: one subject a library and dtype ------------------------------


@dataclass(frozen=True)
class Peer:
    """Every loss of one library, each by its own function."""

    convention: Convention
    dtype: str
    kind: ClassVar[str] = "peer"

    @property
    def name(self) -> str:
        return f"{self.convention.name} {self.dtype}"

    @property
    def library(self) -> str:
        return self.convention.home

    @property
    def version(self) -> str:
        own = installed(self.convention.package)
        if self.library in ("numpy", self.convention.name):
            return own
        return f"{own} on {self.library} {array_library(self.library).version()}"

    @property
    def traits(self) -> Traits:
        of = traits(self.library, self.dtype)
        own = "closed form" if self.convention.name == "sklearn" else ""
        return of._replace(gradient=of.gradient or own)

    def of(self, case: Case) -> Candidate:
        """Return the library's own function for a case; KeyError where it has none."""
        spec = self.convention.functions[self.convention.kind(case)]
        return Candidate(spec, _function(spec), self.convention, case.loss, self.dtype)

    def refuses(self, case: Case) -> str | None:
        try:
            return self.of(case).refuses(case)
        except KeyError:
            soft = case.loss in self.convention.functions
            return f"has no {case.loss}" + (" of soft targets" if soft else "")
        except Missing as error:
            return str(error)

    def differs(self, case: Case) -> Differs | None:
        return self.of(case).differs(case)

    def run(self, case: Case, arguments: Stored) -> Outcome:
        return self.of(case).run(case, arguments)

    def snippet(self, case: Case) -> list[str]:
        return self.of(case).snippet(case)


def here() -> tuple[str, ...]:
    """Name the peers, TensorFlow only where it is: it is not installed with the others."""
    return tuple(n for n in PEERS if n != "tensorflow" or find_spec(n) is not None)


@cache
def _function(spec: str) -> Any:
    module, _, name = spec.partition(":")
    return attrgetter(name)(imported(module, module.partition(".")[0]))


def peer(name: str, dtype: str) -> Peer:
    """Return one library's losses in a dtype; Missing says why there are none."""
    style = convention(among("peer", name, PEERS))
    if dtype not in array_library(style.home).dtypes:
        raise Missing(f"{name} has no {dtype}")
    return Peer(style, dtype)
