"""One subject, one case, one verdict: which rules hold, and by how many ulp the numbers are off."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np

from .budget import budget, errors
from .case import BINARY, CLASS, LINEAR, Array, Case, Stored, stored
from .expected import Exact, Expected, answer
from .formats import accumulated
from .subject import FLUSHED, Differs, Outcome, Subject, Traits
from .token_rows import TOKENS
from .visible import visible

# Rule -> what it says; findings name one of these.
RULES = {
    "value": "the value is within its error budget",
    "gradient": "every gradient entry is within its error budget",
    "targets gradient": "so is the gradient to soft targets",
    "nothing": "an absent row contributes exactly nothing",
    "raises": "a call that cannot be right raises, naming the argument at fault",
    "runs": "a call that can be answered is answered",
    "shape": "value and gradient have the shape of rows and argument",
    "dtype": "the loss is float32 at least, the gradient of its argument's dtype",
    "device": "results stay on the inputs' device, in their library",
    "input": "no argument is written to",
    "repeat": "a second call gives the same bits",
    "split": "a row has the same bits alone and in a batch",
}


class Finding(NamedTuple):
    """A rule that is broken, by how much, and where."""

    rule: str
    detail: str
    ulp: float | None = None
    at: tuple[int, ...] | None = None
    got: float | None = None
    want: float | None = None


@dataclass
class Verdict:
    """What came of judging a subject by a case."""

    case: Case
    subject: str
    status: str  # "pass", "fail", "declared" (a known deviation), "refused" (not offered)
    findings: list[Finding] = field(default_factory=list)
    value_ulp: float | None = None  # worst errors, where there were numbers to compare
    grad_ulp: float | None = None
    note: str = ""  # why refused or declared; by what other definition it was judged
    outcome: Outcome | None = None
    expected: Expected | None = None
    # The same as text, for a report: value, gradient, ...; and the lines that call the subject.
    got: dict[str, str] = field(default_factory=dict)
    want: dict[str, str] = field(default_factory=dict)
    call: str = ""

    @property
    def failed(self) -> bool:
        return self.status == "fail"


def judge(subject: Subject, case: Case) -> Verdict:
    """Run a case and judge what came of it."""
    refused = subject.refuses(case)
    dtype = subject.traits.dtype
    if refused is None and dtype not in case.dtypes:
        refused = f"says nothing of {dtype}"
    if refused is not None:
        return Verdict(case, subject.name, "refused", note=refused)
    asked, note, constant = subject.differs(case) or Differs(case, "")
    arguments = stored(case, dtype)
    outcome = subject.run(case, arguments)
    may_decline = case.error is None and not subject.traits.strict
    if may_decline and isinstance(outcome.error, NotImplementedError):
        return Verdict(case, subject.name, "refused", note=said(outcome.error))
    verdict = Verdict(case, subject.name, "pass", note=note, outcome=outcome)
    verdict.findings += [Finding(rule, detail) for rule, detail in outcome.problems]
    if asked.error is not None:
        verdict.findings += _raised(asked, outcome, subject.traits)
    else:
        verdict.expected = answer(asked, dtype)
        if constant is not None:
            verdict.expected = constantly(verdict.expected, constant)
        verdict.findings += _compared(asked, stored(asked, dtype), verdict, subject.traits)
    verdict.status = "fail" if verdict.findings else "pass"
    return verdict


def constantly(expected: Expected, value: float) -> Expected:
    """Return an answer with that value: 0/0, say, which no case has."""
    zeros = np.zeros(expected.value.hi.shape)
    return expected._replace(value=Exact(zeros + value, zeros))


def _raised(case: Case, outcome: Outcome, traits: Traits) -> Iterator[Finding]:
    error = outcome.error
    if error is None:
        yield Finding("raises", "no error, but a result")
    elif traits.strict:
        assert case.error is not None
        if not isinstance(error, case.error):
            yield Finding("raises", f"{said(error)}; expected {case.error.__name__}")
        elif case.names not in str(error):
            yield Finding("raises", f"{said(error)}; the message does not name {case.names}")


def said(error: Exception) -> str:
    """Return an error's type and first line."""
    lines = str(error).strip().splitlines() or [""]
    return visible(f"{type(error).__name__}: {lines[0][:200]}")


def _compared(case: Case, arguments: Stored, verdict: Verdict, traits: Traits) -> Iterator[Finding]:
    outcome, expected = verdict.outcome, verdict.expected
    assert outcome is not None
    assert expected is not None
    bad = bad_labels(case)
    read = arguments.options.get("validate") is not False
    if outcome.error is not None:
        right = traits.bad_label != "nan" and bool(bad.any())
        if traits.strict:
            kind = IndexError if case.index else ValueError
            right = right and read and isinstance(outcome.error, kind)
            assert case.targets is not None
            right = right and str(case.targets[bad].ravel()[0]) in str(outcome.error)
        if not right:
            yield Finding("runs", said(outcome.error))
        return
    if bad.any() and traits.bad_label == "raises" and read:
        yield Finding("raises", "a label out of range, and a result")
        return
    allowed = budget(case, arguments, expected, traits)
    loss_dtype = accumulated(traits.dtype)
    flush = 0.0
    if traits.flushes:
        classes = 1 if case.loss in BINARY else case.classes
        flush = classes * FLUSHED.get(traits.dtype, 2.0**-126)
    if outcome.value is None:
        yield Finding("runs", "no value")
    else:
        dtype = outcome.value_dtype or loss_dtype
        if traits.strict and dtype != loss_dtype:
            yield Finding("dtype", f"the value is {dtype}, not {loss_dtype}")
        elif not traits.strict and _narrower(dtype, loss_dtype):
            yield Finding("dtype", f"the value is {dtype}, narrower than {loss_dtype}")
        verdict.value_ulp, found = _numbers(
            "value",
            outcome.value,
            expected.value,
            loss_dtype,
            np.asarray(allowed.value),
            allowed.value_scale,
            flush,
        )
        yield from found
    if case.value_only:
        return
    pairs = [
        ("gradient", outcome.grad, expected.grad, allowed.grad, allowed.grad_scale),
        (
            "targets gradient",
            outcome.grad_targets,
            expected.grad_targets,
            np.asarray(allowed.targets),
            allowed.targets_scale,
        ),
    ]
    for rule, got, want, ulp, scale in pairs:
        if got is None or want is None:
            continue
        if rule == "gradient" and outcome.grad_dtype not in ("", traits.dtype):
            yield Finding("dtype", f"the gradient is {outcome.grad_dtype}, not {traits.dtype}")
        worst, found = _numbers(rule, got, want, traits.dtype, ulp, scale, flush)
        verdict.grad_ulp = max(worst or 0.0, verdict.grad_ulp or 0.0)
        yield from found
        if got.shape == want.hi.shape:
            yield from _leaks(case, rule, got, expected)


def _narrower(dtype: str, than: str) -> bool:
    order = ["bfloat16", "float16", "float32", "float64"]
    return dtype in order and order.index(dtype) < order.index(than)


def _numbers(
    rule: str, got: Array, want: Exact, dtype: str, ulp: Array, scale: Array, flush: float
) -> tuple[float | None, list[Finding]]:
    """Return the worst error and what is beyond the budget: one finding, of the worst entry."""
    if got.shape != want.hi.shape:
        return None, [Finding("shape", f"the {rule} has shape {got.shape}, not {want.hi.shape}")]
    if not got.size:
        return 0.0, []
    off = errors(got, want.hi, want.lo, dtype, scale)
    with np.errstate(all="ignore"):
        off = np.where(np.abs(got - want.hi) <= flush, 0.0, off)
        excess = off - ulp
    worst = float(np.max(off))
    beyond = excess > 0
    if not beyond.any():
        return worst, []
    ratio = np.where(beyond, off / ulp, -1.0)
    at = np.unravel_index(int(np.argmax(ratio)), got.shape)
    here, allowed = float(off[at]), float(np.broadcast_to(ulp, got.shape)[at])
    size = f"{here:.3g} ulp, allowed {allowed:.3g}" if np.isfinite(here) else "not that number"
    detail = f"{int(beyond.sum())} of {got.size} beyond the budget; the worst: {size}"
    place = tuple(int(i) for i in at)
    return worst, [Finding(rule, detail, here, place, float(got[at]), float(want.hi[at]))]


def bad_labels(case: Case) -> Array:
    """Return which rows have a label that no reader may take for a class."""
    if (
        case.targets is None
        or case.targets.dtype.kind not in "iu"
        or case.loss not in (*CLASS, *BINARY, *LINEAR, *TOKENS)
    ):
        return np.zeros((), bool)
    classes, ignore = 2, None  # the binary losses take 0 and 1
    if case.index:
        classes, ignore = case.classes, case.options.get("ignore_index", -100)
    flat = [not 0 <= v < classes and v != ignore for v in case.targets.ravel().tolist()]
    keep = np.broadcast_to(case.options.get("where", True), case.targets.shape)
    keep = keep & (np.asarray(case.options.get("sample_weight", 1.0)) != 0)
    return np.asarray(np.asarray(flat, bool).reshape(case.targets.shape) & keep)


def _leaks(case: Case, rule: str, got: Array, expected: Expected) -> Iterator[Finding]:
    absent = expected.absent
    if case.loss in LINEAR:  # below the features stands the weight, which soft targets have not
        absent = absent[: len(got)]
    if case.loss not in BINARY:
        absent = np.expand_dims(absent, case.axis)
    leaked = np.broadcast_to(absent, got.shape) & ~(got == 0)
    if leaked.any():
        at = tuple(int(i) for i in np.unravel_index(int(np.argmax(leaked)), got.shape))
        yield Finding("nothing", f"the {rule} of an absent row", None, at, float(got[at]), 0.0)
