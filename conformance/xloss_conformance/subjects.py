"""xloss itself, on every backend, engine, device and dtype that this machine has."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any, ClassVar

import xloss

from .case import Case, Stored, stored
from .homes import HOMES, Missing, home
from .report.snippet import xloss_call
from .running import Called, run
from .subject import Differs, Outcome, Traits


@dataclass(frozen=True)
class Xloss:
    """One way through xloss: a library, an engine ("" is its own choice), a dtype, a gradient."""

    library: str
    dtype: str
    gradient: str = "closed form"  # or the library's own: "autograd", "jax.vjp"
    engine: str = ""
    kind: ClassVar[str] = "xloss"
    version: ClassVar[str] = xloss.__version__

    @property
    def name(self) -> str:
        way = "" if self.gradient == "closed form" else f" {self.gradient}"
        engine = f" {self.engine}" if self.engine else ""
        return f"xloss {self.library}{engine} {self.dtype}{way}"

    @property
    def traits(self) -> Traits:
        of = home(self.library)
        return Traits(
            self.dtype,
            bad_label="raises" if of.reads else "nan",
            flushes=of.flushes,
            same_bits=of.same_bits and self.engine != "generic",
            gradient=self.gradient,
        )

    def refuses(self, case: Case) -> str | None:
        return home(self.library).refuses(stored(case, self.dtype), case.layout)

    def differs(self, case: Case) -> Differs | None:
        return None

    def run(self, case: Case, arguments: Stored) -> Outcome:
        return run(home(self.library), case, arguments, self._call, warn="error")

    def snippet(self, case: Case) -> list[str]:
        return xloss_call(case, self.library, self.dtype, self.engine, self.gradient)

    def _call(self, case: Case, x: Any, t: Any, options: dict[str, Any], upstream: Any) -> Called:
        loss = getattr(xloss, case.loss)
        targets = () if t is None else (t,)
        if self.engine:
            with xloss.use_engine(self.engine):
                return self._way(case, loss, (x, *targets), options, upstream)
        return self._way(case, loss, (x, *targets), options, upstream)

    def _way(
        self, case: Case, loss: Callable[..., Any], arguments: tuple[Any, ...],
        options: dict[str, Any], upstream: Any,
    ) -> Called:  # fmt: skip
        if case.value_only:
            return loss(*arguments, **options), None, None
        here = home(self.library)
        wanted = 2 if case.to_targets else 1
        if self.gradient != "closed form":
            own = partial(_with, loss, arguments[wanted:], options)
            value, grads = here.differentiate(own, arguments[:wanted], upstream)
            return value, grads[0], grads[1] if wanted == 2 else None
        value = loss(*arguments, **options)
        cotangent = None
        if upstream is not None and not (isinstance(upstream, float) and upstream == 1.0):
            kind = "float64" if self.dtype == "float64" else "float32"
            from .homes.base import rounded

            cotangent = here.array(rounded(upstream, kind))
        both = xloss.value_and_grad(loss, (0, 1) if wanted == 2 else 0)
        value, grads = both(*arguments, cotangent=cotangent, **options)
        return value, *(grads if wanted == 2 else (grads, None))


def _with(
    loss: Callable[..., Any], rest: tuple[Any, ...], options: dict[str, Any], *leading: Any
) -> Any:
    return loss(*leading, *rest, **options)


def every() -> Iterator[Xloss]:
    """List xloss on every library of HOMES, found here or not."""
    for name in HOMES:
        for dtype in ("float32", "float64", "float16", "bfloat16"):
            yield Xloss(name, dtype)


def found() -> tuple[list[Xloss], list[str]]:
    """Return the subjects of this machine, and a line for each library that it lacks."""
    subjects, missing = [], []
    for name in HOMES:
        try:
            here = home(name)
        except Missing as error:
            missing.append(str(error))
            continue
        for dtype in here.dtypes:
            subjects.append(Xloss(name, dtype))
            if here.gradients:
                subjects.append(Xloss(name, dtype, here.gradients))
        if name == "torch":
            subjects += [Xloss(name, dtype, engine="generic") for dtype in here.dtypes[:2]]
    return subjects, missing
