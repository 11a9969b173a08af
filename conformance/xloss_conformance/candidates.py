"""Anybody's loss as a subject: a callable, and the convention it is called by."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from .case import Case, Stored, stored
from .conventions import Convention
from .homes import home
from .homes.base import rounded
from .running import Called, run
from .subject import Outcome, Traits


@dataclass(frozen=True)
class Candidate:
    """A callable that is said to be one loss."""

    label: str
    function: Callable[..., Any]
    convention: Convention
    loss: str = "cross_entropy"
    dtype: str = "float32"

    @property
    def name(self) -> str:
        return f"{self.label} {self.dtype}"

    @property
    def library(self) -> str:
        return self.convention.home

    @property
    def traits(self) -> Traits:
        of = home(self.library)
        return Traits(self.dtype, flushes=of.flushes, gradient=of.gradients, strict=False)

    def refuses(self, case: Case) -> str | None:
        if case.loss != self.loss:
            return f"is not {case.loss}"
        here = home(self.library).refuses(stored(case, self.dtype), case.layout)
        return here or self.convention.refuses(self.function, case)

    def differs(self, case: Case) -> tuple[Case, str] | None:
        return self.convention.differs(case)

    def run(self, case: Case, arguments: Stored) -> Outcome:
        return run(home(self.library), case, arguments, self._call)

    def _call(self, case: Case, x: Any, t: Any, options: dict[str, Any], upstream: Any) -> Called:
        here = home(self.library)
        given = dict(options)
        takes_cotangent = _takes(self.function, "cotangent")
        one = isinstance(upstream, float) and upstream == 1.0
        if takes_cotangent and not one:
            given["cotangent"] = here.array(
                rounded(upstream, "float64" if self.dtype == "float64" else "float32")
            )
        if here.gradients and not case.value_only:
            leaves = (x, t) if case.to_targets else (x,)

            def function(*leading: Any) -> Any:
                rest = () if t is None else (t,)
                both = leading if len(leading) == 2 else (*leading, *rest)
                return self.convention.call(self.function, case, *_padded(both), given)

            value, grads = here.differentiate(function, leaves, upstream)
            return value, grads[0], grads[1] if case.to_targets else None
        result = self.convention.call(self.function, case, x, t, given)
        if not isinstance(result, tuple):
            return result, None, None
        value, grad = result
        if case.value_only or not (one or takes_cotangent):
            grad = None
        return value, grad, None


def _padded(arguments: tuple[Any, ...]) -> tuple[Any, Any]:
    return (arguments[0], arguments[1] if len(arguments) == 2 else None)


def _takes(function: Callable[..., Any], name: str) -> bool:
    try:
        return name in inspect.signature(function).parameters
    except (TypeError, ValueError):
        return False
