"""Print what each planted mistake breaks: python -m mutants, in conformance/; minutes.

Its own family and rule, how many quick cases of that family catch it, and every family that fails.
"""

from __future__ import annotations

from collections import Counter

from xloss_conformance.cases import catalogue
from xloss_conformance.judge import judge

from . import Mutant
from .mistakes import MISTAKES


def line(mistake: Mutant) -> str:
    subject = mistake.subject()
    cases = [c for c in catalogue() if c.loss == mistake.loss and not c.on_demand]
    failed = [v for v in (judge(subject, case) for case in cases) if v.failed]
    own = [v.case for v in failed if mistake.rule in {f.rule for f in v.findings}]
    quick = sum(case.quick for case in own if case.family == mistake.family)
    families = Counter(v.case.family for v in failed)
    broken = ", ".join(f"{family} {count}" for family, count in families.items())
    return f"| {mistake} | {mistake.family} | {mistake.rule} | {quick} | {broken} |"


if __name__ == "__main__":
    print(
        "| mistake | family | rule | quick | families that fail |\n| --- | --- | --- | --- | --- |"
    )
    for mistake in MISTAKES:
        print(line(mistake), flush=True)
