"""What a convention says; the base calls as xloss does."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any, ClassVar, TypeAlias

import numpy as np

from ..model import BINARY, CLASS, Array, Case, Differs
from ..packed import call, public

Loss: TypeAlias = Callable[..., Any]
Options: TypeAlias = dict[str, Any]


class Convention:
    """How a function is called on a case, and where it differs by its own definition.

    Only definitions differ. Lost digits, a NaN that leaks from one row into others and a wrong
    gradient are never a convention.
    """

    name: ClassVar[str] = "xloss"
    package: ClassVar[str] = ""  # the peer's distribution, whose version a report names
    home: str = "numpy"  # the library whose arrays the function takes
    origin: str = ""  # its name, or the file that it was loaded from
    # Kind of call -> the peer's own function, "module:function"; empty where there is no such peer.
    # A kind is a loss, or "loss soft" where floating targets go to another function.
    functions: ClassVar[Mapping[str, str]] = {}
    # Kind of call -> {xloss's option: its own keyword, or "" where `call` arranges it}.
    takes: ClassVar[Mapping[str, Mapping[str, str]]] = {}
    ignores: ClassVar[bool] = True  # whether labels of -100 are left out where nothing is said

    def kind(self, case: Case) -> str:
        """Return which of `functions` and `takes` the case is for."""
        own = f"{case.loss} soft"
        return own if own in self.functions and not case.index else case.loss

    def needs(self, case: Case) -> set[str]:
        """Return the options that the case cannot do without: those that are no default."""
        own = inspect.signature(public(case.loss)).parameters

        def default(name: str, value: Any) -> bool:
            return not isinstance(value, np.ndarray) and name in own and value == own[name].default

        needed = {k for k, v in case.options.items() if not default(k, v)}
        ignoring = not self.ignores and ignored(case).any()
        return needed | {"ignore_index"} if ignoring else needed

    def refuses(self, function: Loss, case: Case) -> str | None:
        """Return what of the case the convention, or this function, does not offer; or None."""
        if self.functions and self.kind(case) not in self.functions:
            return f"{self.name} has no {case.loss}"
        converted = [v for v in case.instead.values() if not isinstance(v, np.ndarray)]
        if converted and type(self) is not Convention:
            return "is handed arrays alone"
        if case.error is not None and case.names == "reduction" and self.takes:
            return "names its reductions itself"
        known = parameters(function)
        for option in sorted(self.needs(case)):
            own = self.theirs(case, option)
            arranged = own == "" and case.error is not None and option == case.names
            if own is None or arranged:
                return f"has no {option}"
            if own and known is not None and own not in known:
                return f"does not take {own}"
        return None if case.error is not None else self.lacks(case)

    def theirs(self, case: Case, option: str) -> str | None:
        """Return the function's own name of an option, "" where `call` arranges it, or None."""
        return self.takes.get(self.kind(case), {}).get(option) if self.takes else option

    def given(self, function: Loss, case: Case, options: Mapping[str, Any]) -> Options:
        """Return the options without defaults that the function has no parameter for."""
        known, needed = parameters(function), self.needs(case)
        if known is None:
            return dict(options)
        taken = {*known, ""}
        return {k: v for k, v in options.items() if k in needed or self.theirs(case, k) in taken}

    def lacks(self, case: Case) -> str | None:
        """Return what else of a case that has an answer is not offered, or None."""
        return None

    def differs(self, case: Case, dtype: str) -> Differs | None:
        """Return what is right by this definition, with a note, where it is not ours."""
        return None

    def keywords(self, case: Case, options: Mapping[str, Any]) -> Options:
        """Return the options under the function's own names, without those that `call` arranges."""
        takes = self.takes.get(self.kind(case), {})
        return {takes[k]: v for k, v in options.items() if takes.get(k)}

    def call(self, function: Loss, case: Case, x: Any, t: Any, options: Options) -> Any:
        """Return the value, or (value, gradient to x)."""
        return call(function, case.loss, x, t, options)


def named(*same: str, **others: str) -> dict[str, str]:
    """Return options under their own keywords, as `takes` has them, the first under xloss's names.

    "" stands for an option that `call` arranges.
    """
    return dict(zip(same, same, strict=True)) | others


def on_last_axis(case: Case) -> bool:
    """Whether the classes are on the last axis."""
    return case.x.ndim == 0 or case.axis % case.x.ndim == case.x.ndim - 1


def parameters(function: Loss) -> set[str] | None:
    """Return the names that a function takes; None where it tells nothing, or takes any."""
    try:
        found = inspect.signature(function).parameters.values()
    except (TypeError, ValueError):  # a builtin
        return None
    if any(p.kind is p.VAR_KEYWORD for p in found):
        return None
    return {p.name for p in found}


def taken(function: Loss, **keywords: Any) -> Options:
    """Return those of the keywords that a function takes."""
    known = parameters(function)
    return {k: v for k, v in keywords.items() if known is None or k in known}


# What conventions ask of a case.


def rows(case: Case) -> tuple[int, ...]:
    """Return the shape of the rows: one of classes each, or one element of a binary loss."""
    shape = case.x.shape
    if case.loss in BINARY or not shape:
        return shape
    axis = case.axis % len(shape)
    return shape[:axis] + shape[axis + 1 :]


def ignored(case: Case) -> Array:
    """Return which labels are the ignored one."""
    index = case.options.get("ignore_index", -100)
    if not case.index or index is None:
        return np.zeros(rows(case), bool)
    assert case.targets is not None
    flat = [label == index for label in case.targets.ravel().tolist()]
    return np.asarray(flat, bool).reshape(case.targets.shape)


def averages(case: Case) -> bool:
    """Whether the loss is a mean whose denominator nobody names."""
    return (
        case.loss != "entropy"
        and case.options.get("reduction", "mean") == "mean"
        and case.options.get("normalizer") is None
    )


def with_options(case: Case, **options: Any) -> Case:
    return replace(case, options={**case.options, **options})


def over(asked: Differs, count: float, note: str) -> Differs:
    """Return the mean over so many rows, beside what differs already; of none it is 0/0."""
    if not count:
        return asked.also(f"{note}: 0/0 is NaN", value=np.nan)
    return asked.also(note, case=with_options(asked.case, normalizer=float(count)))


def reduced(value: Any, options: Options, mean: Loss, total: Loss) -> Any:
    """Return the rows' losses, or their mean or sum by the library's own functions."""
    reduction = options.get("reduction", "mean")
    return value if reduction == "none" else {"mean": mean, "sum": total}[reduction](value)


def weighs(case: Case) -> bool:
    """Whether the mean of soft targets, or its gradient, is another than that over the rows."""
    if case.index or case.loss not in CLASS:
        return False
    assert case.targets is not None
    return case.to_targets or bool(np.any(case.targets.sum(case.axis) != 1))


def outside(values: Array) -> bool:
    """Whether a probability is none, NaN among them."""
    return not bool(np.all((values >= 0) & (values <= 1)))


def near_certain(case: Case) -> bool:
    """Whether a log-probability is lost in the probability that it is of."""
    return bool(np.any((case.x < 0) & (case.x > -(2.0**-10))))


def smoothed_plainly(case: Case) -> Differs:
    """Return the case whose soft targets are t (1 - ε) + ε/C, where that is not our smoothing.

    Of -inf masks nothing is said: smoothing over a masked class is infinite in any definition.
    """
    epsilon = case.options.get("label_smoothing", 0.0)
    if not epsilon or not weighs(case) or np.isneginf(case.x).any():
        return Differs(case, "")
    assert case.targets is not None
    asked = replace(case, to_targets=False)  # which know nothing of the sum
    if np.any(case.targets.sum(case.axis) != 1):
        targets = case.targets * (1 - epsilon) + epsilon / case.x.shape[case.axis]
        asked = replace(with_options(asked, label_smoothing=0.0), targets=targets)
    return Differs(asked, "adds ε/C to every class, whatever the targets' sum")
