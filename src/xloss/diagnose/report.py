"""The report: which rules were met, how often, where first, and what follows."""

from __future__ import annotations

from dataclasses import dataclass, replace

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

    def marked(
        self, rule: str, explanation: str, mask: npt.NDArray[np.bool_], start: Position
    ) -> None:
        """Add the marked rows of a block whose first row stands at `start`, or marked classes."""
        first = np.argwhere(mask)[:FIRST] + np.array(start, dtype=np.intp)
        positions = tuple(map(tuple, first.tolist()))
        if positions:
            self.add(Finding(rule, int(np.count_nonzero(mask)), positions, explanation))

    def add(self, later: Finding) -> None:
        """Add a finding of rows that come after all of these; its rule's first explanation stays.

        Classes are the same for all rows: they are counted once.
        """
        old = self._found.setdefault(later.rule, later)
        if old is not later and later.rule not in OF_CLASSES:
            positions = (old.positions + later.positions)[:FIRST]
            counted = replace(old, count=old.count + later.count, positions=positions)
            self._found[later.rule] = counted

    def all(self) -> tuple[Finding, ...]:
        """Return the findings in the order in which they were made."""
        return tuple(self._found.values())
