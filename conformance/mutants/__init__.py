"""Losses that the suite is tested by: right ones, and wrong ones with one planted mistake each."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar

from xloss_conformance.candidates import Candidate
from xloss_conformance.selection import styled


@dataclass(frozen=True)
class Mutant:
    """A wrong loss; the family of cases that is meant to catch it, and the rule that it breaks."""

    mistake: str
    make: Callable[[], Callable[..., Any]]  # anew for every test: some have a state
    family: str
    rule: str
    arrays: str = "numpy"
    dtype: str = "float32"
    loss: str = "cross_entropy"

    def __str__(self) -> str:
        return self.mistake

    def subject(self) -> Candidate:
        return candidate(self.mistake, self.make(), self.arrays, self.loss, self.dtype)


def candidate(
    label: str, function: Callable[..., Any], arrays: str, loss: str, dtype: str
) -> Candidate:
    return Candidate(label, function, styled("xloss", arrays), loss, dtype)


PLANTED: list[Mutant] = []


class Planted:
    """A loss whose subclasses say which family catches them, and which rule they break.

    What a mistake is called is the name of its class, in words.
    """

    arrays: ClassVar[str] = "numpy"
    prefix: ClassVar[str] = ""

    def __init_subclass__(cls, family: str = "", rule: str = "", dtype: str = "float32") -> None:
        if family:
            words = re.sub(r"(?<=[a-z0-9])(?=[A-Z])", " ", cls.__name__).lower()
            make: Any = cls
            PLANTED.append(Mutant(cls.prefix + words, make, family, rule, cls.arrays, dtype))
