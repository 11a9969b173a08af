"""Rows on which cross-entropies lose digits, as cases of the suite, whose budget they are held to.

Rows of one length are one case: a library that compiles pays for each call.
"""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np

from xloss_conformance.judge import judge
from xloss_conformance.model import Case, Outcome, Traits
from xloss_conformance.result import explained

Row = tuple[Any, int]  # logits, and the label


def of_rows(name: str, rows: list[Row], **options: Any) -> list[Case]:
    """Return rows of any length as cases, one for each number of classes."""
    by_length: dict[int, list[Row]] = {}
    for x, y in rows:
        by_length.setdefault(len(x), []).append((x, y))
    why = "what a loss of single rows loses is seen in each of them"
    return [
        Case(
            "accuracy",
            f"{name}, {classes} classes",
            why,
            np.asarray([x for x, _ in same], np.float64),
            np.asarray([y for _, y in same]),
            options={**options, "reduction": "none"},
        )
        for classes, same in by_length.items()
    ]


def masked(row: Any, classes: Any) -> Any:
    """Return the row with these classes ruled out."""
    row = row.copy()
    row[classes] = -np.inf
    return row


# To one thread, a few, a warp, a block; to two blocks, four and eight: by how many bytes they take.
CLASSES = (3, 7, 60, 127, 500, 2000, 8203, 16387, 32771)


def divided(dtype: str) -> list[Case]:
    """Rows as a GPU divides them, their logits on no grid; gaps down to where numbers end."""
    rows: list[Row] = []
    draw = np.random.default_rng(11)
    for classes in CLASSES:
        z = np.float32(draw.standard_normal(classes) * 3)
        rows += [(z, classes // 2), (z, int(z.argmax()))]
        if classes < 9000:
            tail = np.float32(-12 - draw.random(classes))
            tail[classes - 1] = 0.0
            rows += [(z - 9e3, classes - 1), (tail, classes - 1)]
    for gap in (60.3, 69.4, 87.7, 95.1, 103.9) + (400.7, 740.2) * (dtype == "float64"):
        for offset in (0.0, 77.7, -8190.3, 9e3):
            z = np.asarray([offset, offset - gap, offset - gap - 0.3, -np.inf], dtype)
            rows += [(z, 0), (z, 2)]
    return of_rows("divided", rows)


def hold(
    case: Case, dtype: str, value: Any, grad: Any, to_targets: Any = None, flushes: bool = False
) -> None:
    """Hold a value and its gradients to the budget of a case in a dtype."""
    parts = [None if a is None else np.asarray(a) for a in (value, grad, to_targets)]
    floats = (None if a is None else a.astype(float) for a in parts)
    outcome = Outcome(*floats, *("" if a is None else a.dtype.name for a in parts))
    answered = SimpleNamespace(
        name="answered",
        library="numpy",
        traits=Traits(dtype, flushes=flushes),
        refuses=lambda case: None,
        differs=lambda case: None,
        run=lambda case, arguments: outcome,
    )
    verdict = judge(answered, case)
    assert verdict.status == "pass", explained(verdict)
