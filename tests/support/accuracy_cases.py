"""Rows on which cross-entropies lose digits, as cases of the suite, whose budget they are held to.

Logits stand on a 2^-10 grid, so that every subtraction of two of them is exact, but for those that
a GPU divides. Rows of one length are one case: a library that compiles pays for each call.
"""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np

from xloss_conformance.cases.arrays import confident, grid, logits
from xloss_conformance.judge import judge
from xloss_conformance.model import Case, Outcome, Traits
from xloss_conformance.result import explained

GAPS = (0.5, 5, 8, 12, 17, 20, 40, 80, 82)
OFFSETS = (0.0, 1e3, -1e3, 6e4)
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


def plain() -> list[Case]:
    """Cross-entropy on class indices: the tail, offsets, many classes, masks."""
    rows: list[Row] = [
        (confident(gap, offset, classes)[0], 0)
        for gap in GAPS
        for offset in OFFSETS
        for classes in (2, 10)
    ]
    rows += [(confident(gap)[0], 1) for gap in GAPS]
    rows += [(np.zeros(1), 0), (np.full(1000, 3.0), 17)]
    for classes in (1000, 4096):
        z = logits(1, classes)[0]
        tail = -8 - grid(np.random.default_rng(classes).random(classes))
        tail[3] = 0
        rows += [(z, 5), (z, int(z.argmax())), (tail, 3)]
    z = logits(1, 12)[0]
    ties = z.copy()
    ties[[4, 7]] = z.max() + 9
    rows += [(masked(z, slice(0, None, 3)), 1), (ties, 4)]
    return of_rows("plain", rows)


WEIGHT = np.arange(1, 13) / 8
OPTIONS: dict[str, dict[str, Any]] = {
    "none": {},
    "weight": {"weight": WEIGHT},
    "smooth": {"label_smoothing": 0.1},
    "smooth all": {"label_smoothing": 1.0},
    "sample weight": {"sample_weight": np.full(4, 0.375)},
    "weight smooth": {"weight": WEIGHT, "label_smoothing": 0.25},
    "z": {"z_loss": 2.0**-7},
    "z smooth": {"z_loss": 0.125, "label_smoothing": 0.1},
    "softcap": {"softcap": 8.0},
}


def with_options() -> list[Case]:
    """Every option of cross-entropy on a spread row, a masked one and two confident ones."""
    spread, other = logits(2, 12)
    far = confident(17, classes=12), confident(40, 1e3, 12)
    rows = [(x, 1) for x in (spread, masked(other, [2, 7]), far[0][0], far[1][0])]
    return [case for name, options in OPTIONS.items() for case in of_rows(name, rows, **options)]


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


def hold(case: Case, dtype: str, value: Any, grad: Any, flushes: bool = False) -> None:
    """Hold a value and a gradient to the budget of a case in a dtype."""
    dtypes = {"value_dtype": value.dtype.name, "grad_dtype": grad.dtype.name}
    outcome = Outcome(value.astype(float), grad.astype(float), **dtypes)
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
