"""What came of comparing two losses as one record of plain values: what `--json` prints."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

from ..printable import visible_lines
from ..report.record import SCHEMA, machine, plain, versions
from ..snippet import setup
from .losses import steps
from .pair import Pair
from .result import Comparison, counts, text


def record(comparison: Comparison) -> dict[str, Any]:
    """Return the same as what JSON can hold; numbers that are not finite as "nan", "inf"."""
    first = comparison.first
    made: dict[str, Any] = plain(
        {
            "schema": SCHEMA,
            "a": comparison.a._asdict(),
            "b": comparison.b._asdict(),
            "machine": machine(),
            "versions": versions(),
            "first": None if first is None else first.case.name,
            "counts": counts(comparison),
            "pairs": [_pair(pair) for pair in comparison.pairs],
            "ok": comparison.ok,
        }
    )
    return made


class Compared(NamedTuple):
    """A comparison as what another process can be sent."""

    text: str
    record: dict[str, Any]


def compared(a: str, b: str, **options: Any) -> Iterator[tuple[int, int] | Compared]:
    """Yield how many cases are done, and of how many; in the end what came of it."""
    for found, total in steps(a, b, **options):
        yield len(found.pairs), total
    yield Compared(visible_lines(text(found)), record(found))


def _pair(pair: Pair) -> dict[str, Any]:
    case = pair.case
    made: dict[str, Any] = {"case": case.name, "family": case.family, "reason": case.reason}
    made |= {k: v for k, v in vars(pair).items() if k not in ("case", "calls")}
    if pair.calls:
        made["setup"] = setup(case)
        made["calls"] = {letter: "\n".join(lines) for letter, lines in pair.calls.items()}
    return made
