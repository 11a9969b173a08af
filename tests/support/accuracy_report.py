"""Print the table of docs/accuracy.md: python tests/support/accuracy_report.py."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent))

import accuracy_checks as accuracy
from accuracy_cases import Case, divided


def worst(cases: list[Case], lib: str, path: str, dtype: str, budget: Any) -> dict[str, float]:
    """Return the largest errors of value, label and other entries, in ulp."""
    found = {"value": 0.0, "label": 0.0, "other": 0.0}
    for case, value, grad, flush in accuracy.answers(cases, lib, path, dtype):
        for name, off, _ in accuracy.errors(case, value, grad, dtype, budget(case), flush):
            found[name] = max(found[name], off)
    return found


def main() -> None:
    """Print worst errors: one row a path, one column a group of cases."""

    def kind(*names: str) -> list[Case]:
        return [c for c in (*accuracy.VARIANTS, *accuracy.BINARY) if c.kind in names]

    groups = {
        "index targets": (accuracy.PLAIN, lambda c: (4, 4, 6, None, None)),
        "cross_entropy, options": (kind("cross_entropy"), accuracy.option_budget),
        "nll_loss, log_loss": (kind("nll_loss", "log_loss"), accuracy.option_budget),
        "focal_loss": (kind("focal_loss"), accuracy.option_budget),
        "binary, kl_div": (list(accuracy.BINARY), accuracy.element_budget),
    }
    print("| path | dtype | " + " | ".join(groups) + " |")
    print("| --- |" + " --- |" * (len(groups) + 1))
    for lib, path in accuracy.PATHS:
        for dtype in ("float32", "float64"):
            cells = []
            for cases, budget in groups.values():
                e = worst(cases, lib, path, dtype, budget)
                cells.append(" / ".join(f"{e[n]:.1f}" for n in ("value", "label", "other")))
            print(f"| {lib} {path} | {dtype} | " + " | ".join(cells) + " |", flush=True)
    if accuracy.COMPILER is not None:
        for dtype in ("float32", "float64"):
            rows = list(divided(dtype))
            e = worst(rows, "emulated", "closed", dtype, lambda c: (4, 4, 4, None, None))
            print(f"rows as a GPU divides them, {dtype}: {e}")


if __name__ == "__main__":
    main()
