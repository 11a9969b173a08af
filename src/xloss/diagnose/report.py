"""The report: which rules were met, how often, where first, and what follows."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Position = tuple[int, ...]
FIRST = 5  # positions that a finding names
OF_CLASSES = frozenset({"bad_weight"})  # rules about classes instead of rows


@dataclass(frozen=True, slots=True)
class Finding:
    """One rule that the arguments meet."""

    rule: str  # "nan_logit", ...: stable, for programs
    count: int  # rows; for bad_weight: classes
    positions: tuple[Position, ...]  # the first few of them
    explanation: str

    def __str__(self) -> str:
        noun = "class" if self.rule in OF_CLASSES else "row"
        many = {"class": "classes", "row": "rows"}[noun]
        head = f"{self.rule}: {self.count:,} {noun if self.count == 1 else many}"
        if self.positions:
            names = [str(p[0]) if len(p) == 1 else str(p) for p in self.positions]
            more = ", ..." if self.count > len(names) else ""
            head += f" ({', '.join(names)}{more})"
        return f"{head}\n    {self.explanation}"


@dataclass(frozen=True, slots=True)
class Report:
    """Why a loss has the value that it has; ``str(report)`` says it in words.

    Nothing is found in arguments whose loss is finite and counts at least one row, but for
    negative weights and targets, which are named though they make no loss infinite.
    """

    loss: float | None  # the value of the call; None for reduction="none"
    rows: int
    not_finite: int  # rows whose loss is NaN or infinite
    findings: tuple[Finding, ...]

    def __str__(self) -> str:
        value = "row losses" if self.loss is None else f"loss {self.loss:.9g}"
        head = f"{value}: {self.not_finite:,} of {self.rows:,} rows are not finite"
        return "\n".join([head, *map(str, self.findings)])


class Findings:
    """Collects findings block by block."""

    def __init__(self) -> None:
        self._found: dict[str, Finding] = {}

    def rows(self, rule: str, explanation: str, positions: Iterable[Position], count: int) -> None:
        """Add rows of one block to a rule; its first explanation is kept."""
        if not count:
            return
        old = self._found.get(rule) or Finding(rule, 0, (), explanation)
        places = old.positions + tuple(positions)
        self._found[rule] = Finding(rule, old.count + count, places[:FIRST], old.explanation)

    def once(self, rule: str, explanation: str, count: int, positions: Iterable[Position]) -> None:
        """Add a finding that does not depend on the block."""
        self._found.setdefault(rule, Finding(rule, count, tuple(positions)[:FIRST], explanation))

    def merge(self, later: Iterable[Finding]) -> None:
        """Add the findings of rows that come after all of these."""
        for found in later:
            if found.rule in OF_CLASSES:
                self.once(found.rule, found.explanation, found.count, found.positions)
            else:
                self.rows(found.rule, found.explanation, found.positions, found.count)

    def all(self) -> tuple[Finding, ...]:
        """Return the findings in the order in which they were made."""
        return tuple(self._found.values())

    def __len__(self) -> int:
        return len(self._found)


def places(
    mask: npt.NDArray[np.bool_], shape: tuple[int, ...], start: tuple[int, ...]
) -> list[Position]:
    """Return the first positions of a flat mask over a block of this shape and start."""
    flat = np.flatnonzero(mask)[:FIRST]
    columns = np.unravel_index(flat, shape) if shape else ()
    return [
        tuple(int(c[i]) + s for c, s in zip(columns, start, strict=True)) for i in range(len(flat))
    ]
