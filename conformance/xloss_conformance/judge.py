"""One subject, one case, one verdict: which rules hold, and by how many ulp the numbers are off."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from . import model
from .budget import budget, errors
from .expected import answer
from .formats import accumulated
from .model import BINARY, PARTS, Array, Case, Exact, Expected, Finding, Part, Traits, Verdict
from .packed import TOKENS
from .printable import first_line
from .rounding import stored


def judge(subject: model.Subject, case: Case) -> Verdict:
    """Run a case and judge what came of it."""
    refused = subject.refuses(case)
    dtype = subject.traits.dtype
    if refused is None and dtype not in case.dtypes:
        refused = f"says nothing of {dtype}"
    if refused is not None:
        return Verdict(case, subject.name, "refused", note=refused)
    asked, note, constant = subject.differs(case) or model.Differs(case, "")
    arguments = stored(case, dtype)
    outcome = subject.run(case, arguments)
    may_decline = case.error is None and not subject.traits.strict
    if may_decline and isinstance(outcome.error, NotImplementedError):
        return Verdict(case, subject.name, "refused", note=first_line(outcome.error))
    verdict = Verdict(case, subject.name, "pass", note=note, outcome=outcome)
    verdict.findings += outcome.problems
    if asked.error is not None:
        verdict.findings += _raised(asked, outcome, subject.traits)
    else:
        verdict.expected = answer(asked, dtype)
        if constant is not None:  # 0/0, say, which no case has
            zeros = np.zeros(verdict.expected.value.hi.shape)
            verdict.expected = verdict.expected._replace(value=Exact(zeros + constant, zeros))
        verdict.findings += _compared(asked, stored(asked, dtype), verdict, subject.traits)
    verdict.status = "fail" if verdict.findings else "pass"
    return verdict


def _raised(case: Case, outcome: model.Outcome, traits: Traits) -> Iterator[Finding]:
    error = outcome.error
    if error is None:
        yield Finding("raises", "no error, but a result")
    elif traits.strict:
        assert case.error is not None
        if not isinstance(error, case.error):
            yield Finding("raises", f"{first_line(error)}; expected {case.error.__name__}")
        elif case.names not in str(error):
            yield Finding("raises", f"{first_line(error)}; the message does not name {case.names}")


def _compared(
    case: Case, arguments: model.Stored, verdict: Verdict, traits: Traits
) -> Iterator[Finding]:
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
            yield Finding("runs", first_line(outcome.error))
        return
    allowed = budget(case, arguments, expected, traits)
    verdict.parts = parts(case, outcome, expected, allowed, traits)
    if bad.any() and traits.bad_label == "raises" and read:
        yield Finding("raises", "a label out of range, and a result")
        return
    if outcome.value is None:
        yield Finding("runs", "no value")
    for part in verdict.parts:
        yield from _dtype(part, outcome, traits)
        worst, share, found = _numbers(part)
        yield from found
        if part.name == "value":
            verdict.value_ulp, verdict.value_share = worst, share
            continue
        if worst is not None and share is not None:  # else of another shape
            verdict.grad_ulp = max(worst, verdict.grad_ulp or 0.0)
            verdict.grad_share = max(share, verdict.grad_share or 0.0)
            yield from _leaks(case, part.name, part.got, expected)


def parts(
    case: Case, outcome: model.Outcome, expected: Expected, allowed: model.Budget, traits: Traits
) -> list[Part]:
    """Return what is given and asked for: the value, the gradient, the gradient to targets."""
    dtypes = accumulated(traits.dtype), traits.dtype, traits.dtype
    classes = 1 if case.loss in BINARY else case.classes
    flush = classes * model.FLUSHED.get(traits.dtype, 2.0**-126) if traits.flushes else 0.0
    each = list(zip(PARTS, outcome.parts, expected[:3], dtypes, allowed, strict=True))
    return [
        Part(name, given, want, dtype, most, flush)
        for name, given, want, dtype, most in each[: 1 if case.value_only else 3]
        if given is not None and want is not None
    ]


def _dtype(part: Part, outcome: model.Outcome, traits: Traits) -> Iterator[Finding]:
    dtypes = outcome.value_dtype, outcome.grad_dtype, outcome.targets_dtype
    dtype = dtypes[PARTS.index(part.name)] or part.dtype
    if part.name == "value" and not traits.strict:
        if _narrower(dtype, part.dtype):
            yield Finding("dtype", f"the value is {dtype}, narrower than {part.dtype}")
    elif dtype != part.dtype:
        yield Finding("dtype", f"the {part.name} is {dtype}, not {part.dtype}")


def _narrower(dtype: str, than: str) -> bool:
    order = ["bfloat16", "float16", "float32", "float64"]
    return dtype in order and order.index(dtype) < order.index(than)


def _numbers(part: Part) -> tuple[float | None, float | None, list[Finding]]:
    """Return the worst error, the worst share of a budget, and one finding: of the worst entry."""
    rule, got, want, dtype, (ulp, scale), flush = part
    if got.shape != want.hi.shape:
        problem = f"the {rule} has shape {got.shape}, not {want.hi.shape}"
        return None, None, [Finding("shape", problem)]
    if not got.size:
        return 0.0, 0.0, []
    off = errors(got, want.hi, want.lo, dtype, scale)
    with np.errstate(all="ignore"):
        off = np.where(np.abs(got - want.hi) <= flush, 0.0, off)
        ratio = off / ulp
    worst, share = float(np.max(off)), float(np.max(ratio))
    beyond = off > ulp
    if not beyond.any():
        return worst, share, []
    at = np.unravel_index(int(np.argmax(ratio)), got.shape)
    here, allowed = float(off[at]), float(np.broadcast_to(ulp, got.shape)[at])
    size = f"{here:.3g} ulp, allowed {allowed:.3g}" if np.isfinite(here) else "not that number"
    detail = f"{int(beyond.sum())} of {got.size} beyond the budget; the worst: {size}"
    place = tuple(int(i) for i in at)
    finding = Finding(rule, detail, here, place, float(got[at]), float(want.hi[at]))
    return worst, share, [finding]


def bad_labels(case: Case) -> Array:
    """Return which rows have a label that no reader may take for a class."""
    losses = (*model.CLASS, *BINARY, *model.PACKED, *TOKENS)
    if case.targets is None or case.targets.dtype.kind not in "iu" or case.loss not in losses:
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
    if case.loss in model.PACKED:  # soft targets have no weight below the features
        absent = absent[: len(got)]
    if case.loss not in BINARY:
        absent = np.expand_dims(absent, case.axis)
    leaked = np.broadcast_to(absent, got.shape) & ~(got == 0)
    if leaked.any():
        at = tuple(int(i) for i in np.unravel_index(int(np.argmax(leaked)), got.shape))
        yield Finding("nothing", f"the {rule} of an absent row", None, at, float(got[at]), 0.0)
