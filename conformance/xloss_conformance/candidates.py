"""Anybody's loss as a subject: a callable, and the convention it is called by."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, ClassVar

import numpy as np

from .call_subject import run
from .conventions import Convention, convention
from .conventions.base import parameters
from .formats import accumulated
from .libraries import array_library
from .load_object import load_object, staying
from .model import LOSSES, Array, Called, Case, Differs, LoadError, Outcome, Stored, Traits
from .printable import literal, visible
from .rounding import rounded, stored
from .snippet import arrays, keywords, one, shown
from .token_rows import TOKENS, fields_of, upstream_of


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
        options = keywords(case)
        if "upstream" in arrays(case):
            options += ", upstream=upstream"
        if case.to_targets:
            options += ", to_targets=True"
        if case.layout != "C":
            options += f', layout="{case.layout}"'
        own = vars(self.convention).get("home")
        if own is not None and own != type(self.convention).home:
            options += f', arrays="{own}"'
        targets = "None" if case.targets is None else "targets"
        loaded = ":" in self.label
        spec = literal(self.label) if loaded else self.label
        how = f'{spec}, {self._style()}, "{self.loss}", "{self.dtype}"'
        lines = [
            "from xloss_conformance.candidates import ask",
            *([] if loaded else _import(self.function)),
            "",
            f"value, gradient, to_targets = ask({how}, x, {targets}{options})",
            shown(case, "numpy", "value"),
        ]
        if not case.value_only and case.error is None:
            lines.append(f"{shown(case, 'numpy', 'gradient')}  # where one was given")
        return lines

    def _style(self) -> str:
        """Return the convention as an argument: its name or file, or the object that was given."""
        named = self.convention.origin or (
            self.convention.name if type(self.convention).__module__.startswith(__package__) else ""
        )
        return literal(named) if named else f"{type(self.convention).__name__}()"

    def _survived(
        self, case: Case, x: Any, t: Any, options: dict[str, Any], upstream: Any
    ) -> Called:
        """Call it; what it throws that is no Exception, SystemExit say, is an outcome too."""
        try:
            with staying():
                return self._call(case, x, t, options, upstream)
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
            if case.loss in TOKENS:
                upstream = upstream_of(upstream, len(fields_of(case)))
            leaves = (x, t) if case.to_targets else (x,)

            def differentiated(*leading: Any) -> Any:
                targets = leading[1] if len(leading) == 2 else t
                return _some(self.convention.call(function, case, leading[0], targets, options))

            value, grads = here.differentiate(differentiated, leaves, upstream)
            return value, grads[0], grads[1] if case.to_targets else None
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
    spec: str,
    convention_name: str | Convention = "xloss",
    *,
    arrays: str | None = None,
    loss: str = "cross_entropy",
    dtype: str = "float32",
) -> Candidate:
    """Return the candidate that "package.module:function" or "path/file.py:function" names.

    LoadError says in one line what is wrong with it, or with its convention.
    """
    style = convention(convention_name, arrays)
    if loss not in LOSSES:
        raise LoadError(f"loss: {loss!r} is unknown; expected one of {', '.join(LOSSES)}")
    if style.functions and not any(kind.split()[0] == loss for kind in style.functions):
        raise LoadError(f"convention {style.name} has no {loss}: it cannot say how one is called")
    function = load_object(spec)
    if not callable(function):
        raise LoadError(f"{spec} is a {type(function).__name__}, which cannot be called")
    return Candidate(spec, function, style, loss, dtype)


def ask(
    spec: str | Callable[..., Any],
    style: str | Convention,
    loss: str,
    dtype: str,
    x: Array,
    targets: Array | None,
    *,
    arrays: str | None = None,
    upstream: Any = 1.0,
    to_targets: bool = False,
    layout: str = "C",
    **options: Any,
) -> tuple[Array | None, Array | None, Array | None]:
    """Call a candidate on NumPy arrays; return value and gradients as it gives them, or raise."""
    asked = Case(
        "asked",
        loss,
        "",
        np.asarray(x, np.float64),
        targets,
        loss,
        options,
        upstream=upstream,
        to_targets=to_targets,
        layout=layout,
    )
    made = convention(style, arrays)
    if isinstance(spec, str):
        candidate = load(spec, made, loss=loss, dtype=dtype)
    else:
        candidate = Candidate("", spec, made, loss, dtype)
    outcome = candidate.run(asked, stored(asked, dtype))
    if outcome.error is not None:
        raise outcome.error
    return outcome.value, outcome.grad, outcome.grad_targets


def label(function: Callable[..., Any]) -> str:
    """Return what a function is called in reports."""
    name = getattr(function, "__name__", "") or type(function).__name__
    return name if name.isidentifier() else "function"
