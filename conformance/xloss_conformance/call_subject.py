"""Calling something on a case's arrays, and watching what it does to them."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np

from .cases.making import made
from .libraries.base import ArrayLibrary, Function
from .model import BINARY, PARTS, Array, Called, Case, Finding, Outcome, Stored, Subject
from .packed import TOKENS, fields_of, upstream_of
from .rounding import stored

WITHOUT_REDUCTION = ("entropy", "token_stats", "linear_token_stats")  # rows come of them always
LARGE = 2**28  # beyond it an argument is not copied to see whether it changed
Call = Callable[[Case, Any, Any, dict[str, Any], Any], Called]


class Arguments:
    """A case's arguments as one library's arrays, and what stood in them before the call."""

    def __init__(self, library: ArrayLibrary, case: Case, given: Stored) -> None:
        layout = case.layout
        other = "readonly" if layout == "readonly" else "C"
        self.library, self.case, self.upstream = library, case, given.upstream

        def made(value: Any, layout: str) -> Any:
            return library.array(value, layout) if isinstance(value, np.ndarray) else value

        self.x = made(case.instead.get("x", given.x), layout)
        alike = given.targets is not None and given.targets.shape == given.x.shape
        like_x = layout if alike and layout != "broadcast" else other
        self.targets = made(case.instead.get("targets", given.targets), like_x)
        self.options = {k: made(v, other) for k, v in given.options.items()}
        self.before = self._read()

    def _read(self) -> dict[str, Array]:
        named = {"the first argument": self.x, "targets": self.targets, **self.options}
        arrays = {k: v for k, v in named.items() if hasattr(v, "dtype")}
        small = {k: v for k, v in arrays.items() if np.prod(v.shape) < LARGE}
        return {k: self.library.host(v).copy() for k, v in small.items()}

    def changed(self) -> list[Finding]:
        """Return which arguments the call has written to."""
        after = self._read()
        return [
            Finding("input", f"{name} was written to")
            for name, was in self.before.items()
            if not same(was, after[name])
        ]


def same(a: Array | None, b: Array | None) -> bool:
    """Whether two arrays have the same bits; every NaN is the same."""
    if a is None or b is None:
        return a is b
    if a.shape != b.shape or a.dtype != b.dtype:
        return False
    if a.dtype.kind != "f":
        return bool(np.array_equal(a, b))
    equal = (a == b) & (np.signbit(a) == np.signbit(b))
    return bool(np.all(equal | (np.isnan(a) & np.isnan(b))))


def run(
    library: ArrayLibrary,
    case: Case,
    given: Stored,
    call: Call,
    *,
    warn: str = "ignore",
    same_bits: bool | None = None,
) -> Outcome:
    """Call once for the outcome, again for the same bits, and row by row where the case says so.

    same_bits: whether rows are to have the same bits alone; None: as the library says.
    """
    alone = library.same_bits if same_bits is None else same_bits
    with library.setting(given.dtype), warnings.catch_warnings(), np.errstate(all="ignore"):
        warnings.simplefilter(warn)  # type: ignore[arg-type]
        arguments = Arguments(library, case, given)
        outcome = once(arguments, call)
        outcome.problems += arguments.changed()
        if outcome.error is None and not case.on_demand:
            again = once(arguments, call)
            outcome.problems += [
                Finding("repeat", f"a second call gives another {what}")
                for what, a, b in zip(PARTS, outcome.parts, again.parts, strict=True)
                if not same(a, b)
            ]
        if outcome.error is None and case.split and alone:
            outcome.problems += split(library, case, given, call)
    return outcome


def once(of: Arguments, call: Call) -> Outcome:
    """Call, and read the results back."""
    outcome, library = Outcome(), of.library
    try:
        value, grad, to_targets = call(of.case, of.x, of.targets, of.options, of.upstream)
        array = value if hasattr(value, "dtype") else None
        for what, result in zip(PARTS, (array, grad, to_targets), strict=True):
            if result is not None and (wrong := library.misplaced(result)):
                outcome.problems.append(Finding("device", f"the {what} is {wrong}"))
        outcome.value_dtype = "" if array is None else library.dtype(array)
        outcome.value = np.asarray(value, float) if array is None else library.host(array)
        if grad is not None:
            outcome.grad_dtype, outcome.grad = library.dtype(grad), library.host(grad)
        if to_targets is not None:
            outcome.targets_dtype = library.dtype(to_targets)
            outcome.grad_targets = library.host(to_targets)
    except Exception as error:
        return Outcome(error=error, problems=outcome.problems)
    return outcome


def differentiated(
    library: ArrayLibrary, case: Case, function: Function, x: Any, targets: Any, upstream: Any
) -> Called:
    """Return function(x), or function(x, targets), and its gradients by the library's autodiff."""
    if case.loss in TOKENS:
        upstream = upstream_of(upstream, len(fields_of(case)))
    leaves = (x, targets) if case.to_targets else (x,)
    value, grads = library.differentiate(function, leaves, upstream)
    return value, grads[0], grads[1] if case.to_targets else None


def split(library: ArrayLibrary, case: Case, given: Stored, call: Call) -> list[Finding]:
    """Run every row alone, and compare its bits with the batch's."""
    by_row = {} if case.loss in WITHOUT_REDUCTION else {"reduction": "none"}
    options = {**given.options, **by_row}
    alone = replace(case, options={**case.options, **by_row}, value_only=True)
    given = given._replace(options=options, upstream=1.0)
    whole = once(Arguments(library, alone, given), call)
    if whole.value is None or case.axis != -1 or given.x.ndim != (1 if case.loss in BINARY else 2):
        return [Finding("split", "cannot be run row by row")]
    rows, found = len(given.x), []
    weights = [k for k in ("sample_weight", "where") if np.shape(options.get(k, 0))[:1] == (rows,)]
    for i in range(rows):
        one = slice(i, i + 1)
        targets = None if given.targets is None else given.targets[one]
        own = options | {k: options[k][one] for k in weights}
        part = Arguments(library, alone, Stored(given.x[one], targets, own, 1.0, given.dtype))
        if not same(once(part, call).value, whole.value[one]):
            found.append(f"row {i}")
    if not found:
        return []
    return [Finding("split", f"{len(found)} of {rows} rows have other bits alone: {found[0]}")]


def ask(subject: Subject, loss: str, x: Any, targets: Any, /, **given: Any) -> dict[str, Array]:
    """Call a subject on NumPy arrays; return the value and gradients that it gives, or raise.

    given: options of the loss, and fields of a case: `upstream`, `to_targets`, `layout`, ...
    What is no array of floats, or of targets, is handed over as it is.
    """
    arrays = {"x": np.zeros((1, 1)), "targets": None}
    instead = {}
    for name, value, kinds in (("x", x, "f"), ("targets", targets, "fiub")):
        if isinstance(value, np.ndarray) and value.dtype.kind in kinds:
            arrays[name] = value
        elif value is not None:
            instead[name] = value
    case = made("asked", loss, "", loss=loss, **arrays, instead=instead, **given)
    outcome = subject.run(case, stored(case, subject.traits.dtype))
    if outcome.error is not None:
        raise outcome.error
    return {k: v for k, v in zip(PARTS, outcome.parts, strict=True) if v is not None}
