"""Losses that the suite is tested by: right ones, and wrong ones with one planted mistake each."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

from xloss_conformance.candidates import Candidate
from xloss_conformance.selection import styled


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
        return candidate(self.mistake, self.make(), self.arrays, self.loss, self.dtype)


def candidate(
    label: str, function: Callable[..., Any], arrays: str, loss: str, dtype: str
) -> Candidate:
    return Candidate(label, function, styled("xloss", arrays), loss, dtype)


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
        words = re.sub(r"(?<=[a-z0-9])(?=[A-Z])|_", " ", wrong.__name__).lower()
        MISTAKES.append(Mutant(words, partial(by, wrong), family, rule, loss, arrays, dtype))
        return wrong

    return plant
