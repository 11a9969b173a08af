"""Losses that the suite is tested by: right ones, and wrong ones with one planted mistake each."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
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
