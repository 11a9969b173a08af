"""Print the table of docs/accuracy.md: python tests/support/accuracy_report.py."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent))

import accuracy_checks as accuracy
from accuracy_cases import Case, answer
from xloss_conformance.oracle import ulp_error


def worst(cases: list[Case], lib: str, path: str, dtype: str, budget: Any) -> dict[str, float]:
    """Return the largest errors of value, label and other entries, in ulp."""
    found = {"value": 0.0, "label": 0.0, "other": 0.0}
    for group in accuracy.grouped(cases):
        values, grads = accuracy.run(group, lib, path, dtype)
        for case, value, grad in zip(group, values.tolist(), grads.tolist(), strict=True):
            *_, value_scale, scale = budget(case)
            want = answer(case)
            flush = len(case.x) * accuracy.FLUSH[dtype] * (lib == "jax")
            exact = want.grad if isinstance(want.grad, list) else [want.grad]
            row = grad if isinstance(grad, list) else [grad]
            pairs = [("value", value, want.loss, value_scale)]
            for j, (g, e) in enumerate(zip(row, exact, strict=True)):
                pairs.append(("label" if j == case.target else "other", g, e, scale))
            for name, got, wanted, size in pairs:
                if abs(got - wanted) > flush:
                    error = float(ulp_error(got, wanted, dtype, size))
                    found[name] = max(found[name], error)
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
            rows = list(accuracy.divided(dtype))
            e = worst(rows, "emulated", "closed", dtype, lambda c: (4, 4, 4, None, None))
            print(f"rows as a GPU divides them, {dtype}: {e}")


if __name__ == "__main__":
    main()
