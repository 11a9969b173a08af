"""Losses that the suite is tested by: wrong ones with one planted mistake each.

Most are xloss's own loss asked about other arguments, or with its answer changed: so nothing else
about them is wrong, and what catches them catches the mistake.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from inspect import Parameter, signature
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

import xloss
from xloss_conformance.candidates import Candidate
from xloss_conformance.model import BINARY, CLASS
from xloss_conformance.packed import public, value_and_grad
from xloss_conformance.selection import styled

Array: TypeAlias = NDArray[Any]
Options: TypeAlias = dict[str, Any]
Asked: TypeAlias = tuple[Any, Any, Options]  # logits or probabilities, targets, options
Terms: TypeAlias = tuple[Any, Array]  # the value and its gradient

WITH_GRADIENT = (*CLASS, *BINARY, "kl_div", "entropy")  # those that `right` answers


@dataclass(frozen=True)
class Mutant:
    """A wrong loss; the family of cases that is meant to catch it, and the rule that it breaks."""

    mistake: str
    make: Callable[[], Callable[..., Any]]  # anew for every test: some have a state
    family: str
    rule: str
    loss: str
    arrays: str
    dtype: str

    def __str__(self) -> str:
        return f"{self.arrays} {self.loss}: {self.mistake}"

    def subject(self) -> Candidate:
        function: Any = self.make()
        if self.arrays == "numpy" and self.loss in WITH_GRADIENT:
            own = signature(public(self.loss))
            given = [*own.parameters.values(), Parameter("cotangent", Parameter.KEYWORD_ONLY)]
            function.__signature__ = own.replace(parameters=given)  # else no cotangent is given
        style = styled("xloss", self.arrays)
        return Candidate(self.mistake, function, style, self.loss, self.dtype)


MISTAKES: list[Mutant] = []


def planted(
    family: str,
    rule: str = "value",
    loss: str = "cross_entropy",
    *,
    by: Callable[[Any], Callable[..., Any]] = lambda wrong: wrong,
    arrays: str = "numpy",
    dtype: str = "float32",
) -> Callable[[Any], Any]:
    """Return a decorator that plants what `by` makes of a function, under the function's name."""

    def plant(wrong: Any) -> Any:
        words = wrong.__name__.replace("_", " ")
        MISTAKES.append(Mutant(words, partial(by, wrong), family, rule, loss, arrays, dtype))
        return wrong

    return plant


def right(loss: str, x: Any, t: Any, options: Options) -> Terms:
    """Return xloss's own answer, by the engine that all libraries share."""
    with xloss.use_engine("generic"):
        value, grad, _ = value_and_grad(loss, x, t, options, both=False)
    return value, grad


def otherwise(
    change: Callable[[Any, Any, Options], Asked], loss: str, whole: bool = True
) -> Callable[..., Any]:
    """Return the loss that answers what `change` makes of its arguments; or its gradient alone."""

    def wrong(x: Any, t: Any = None, /, **options: Any) -> Terms:
        made = right(loss, *change(x, t, dict(options)))
        return made if whole else (right(loss, x, t, options)[0], made[1])

    return wrong


def asked(
    family: str, rule: str = "value", loss: str = "cross_entropy", **more: Any
) -> Callable[[Any], Any]:
    """Plant a loss that is asked otherwise; where the gradient is wrong, the value is not."""
    by = partial(otherwise, loss=loss, whole=rule != "gradient")
    return planted(family, rule, loss, by=by, **more)


def plain(value: Any, like: Any) -> Any:
    """Return a value in the dtype that the right one has."""
    return np.asarray(value).astype(like.dtype)[()]


def instead(grad: Array, wrong: Array, exact: Array) -> Array:
    """Return a gradient whose entries were derived from `wrong` where `exact` is right."""
    with np.errstate(all="ignore"):
        ratio = np.where(exact == 0, 1.0, wrong / exact)
    return np.asarray(grad * ratio).astype(grad.dtype)


def count_of(t: Array, options: Options, *names: str) -> Any:
    """Return the mean's denominator by those of the options that are named."""
    names = (*names, "axis") if t.dtype.kind == "f" else names
    return xloss.effective_count(t, **{k: v for k, v in options.items() if k in names})
