"""A verdict whose arrays have become text: what crosses processes, and what is recorded."""

from __future__ import annotations

from dataclasses import replace

from ..case import Case
from ..formats import accumulated
from ..subject import Subject
from ..verdict import Verdict, said
from .snippet import text


def light(subject: Subject, verdict: Verdict) -> Verdict:
    """Return a verdict whose arrays have become text, as it crosses processes and is recorded."""
    case, outcome, expected = verdict.case, verdict.outcome, verdict.expected
    dtype = subject.traits.dtype
    loss = accumulated(dtype)
    got, want = {}, {}
    if outcome is not None and outcome.error is not None:
        got["error"] = said(outcome.error)
    elif outcome is not None:
        got["value"] = text(case, outcome.value, outcome.value_dtype or loss)
        got["gradient"] = text(case, outcome.grad, outcome.grad_dtype or dtype)
        got["targets gradient"] = text(case, outcome.grad_targets, dtype)
    if case.error is not None:
        want["error"] = f"{case.error.__name__} naming {case.names}".removesuffix(" naming ")
    elif expected is not None:
        want["value"] = text(case, expected.value.hi, loss)
        if not case.value_only:
            want["gradient"] = text(case, expected.grad.hi, dtype)
        if expected.grad_targets is not None:
            want["targets gradient"] = text(case, expected.grad_targets.hi, dtype)
    lines = [] if verdict.status == "refused" else _snippet(subject, case)
    return replace(
        verdict,
        outcome=None,
        expected=None,
        call="\n".join(lines),
        got={k: v for k, v in got.items() if v},
        want={k: v for k, v in want.items() if v},
    )


def _snippet(subject: Subject, case: Case) -> list[str]:
    made = getattr(subject, "snippet", None)
    return made(case) if made else [f"# {subject.name}: nothing can be copied"]
