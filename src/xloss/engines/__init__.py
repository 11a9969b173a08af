"""The engines, which compute core's row functions: one is chosen by name, or by what it takes."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Protocol

from .._arrays.inspect import Array, compiling
from ..core.call import LossCall
from ..core.options import Cotangent, Options, Outcome, Outputs, Saved
from . import few_classes, generic
from .cpu import engine as cpu
from .cuda import engine as cuda

__all__ = ["EngineUnavailable", "asked_for", "choose", "engines", "refuse_compiled", "use_engine"]


class EngineUnavailable(RuntimeError):
    """The engine that was asked for by name cannot take this call; the message says why."""


class Engine(Protocol):
    """What an engine offers."""

    name: str
    compiled: bool  # False: it runs core's own functions
    save_stats_from: int  # classes from which a gradient starts from saved statistics

    def unavailable(self) -> str | None:
        """Return the reason why it can take no call on this machine, or None."""

    def refuses(self, call: LossCall) -> str | None:
        """Return the reason why it cannot take this call, or None."""

    def run(
        self, call: LossCall, outputs: Outputs, cotangent: Cotangent = ..., saved: Saved = None
    ) -> Outcome:
        """Compute the outputs; the class axis of every array is the last."""


class ReducingEngine(Engine, Protocol):
    """What an engine also offers that goes all the way to the sum or the mean."""

    def reduces(self, call: LossCall) -> bool:
        """Return whether it does so for this call."""

    def reduced(
        self, call: LossCall, cotangent: Array | None = None, *, grad: bool, keep: bool
    ) -> tuple[Array, Array | None, Array | None]:
        """Return the mean or the sum, and if `grad` its gradient times the cotangent.

        Third, if `keep`, what a later gradient starts from.
        """


_ENGINES: dict[str, Engine] = {"generic": generic, "cpu": cpu, "cuda": cuda}
_asked: ContextVar[str | None] = ContextVar("xloss_engine", default=None)
asked_now = _asked.get  # for callers that know that nothing is traced: it costs less


def asked_for() -> str | None:
    """Return the engine asked for in this context; captured into each call's options."""
    # torch.compile cannot trace a context variable: what it keeps whole looks when it runs.
    return None if compiling() else _asked.get()


def choose(call: LossCall) -> Engine:
    """Return the engine that the options name, or the first that takes the call."""
    cx, name = call.cx, call.options.engine
    if name is None:
        candidate = _engine("cpu" if cx.on_host or cx.library in cpu.TRACED else "cuda", call)
        return candidate if candidate.refuses(call) is None else generic
    engine = _engine(name, call)
    reason = engine.unavailable() or engine.refuses(call)
    if reason is not None:
        raise EngineUnavailable(f"engine {name!r} cannot take this call: {reason}")
    return engine


def _engine(name: str, call: LossCall) -> Engine:
    """Return the engine of a name, as it takes these operands."""
    engine = _ENGINES[name]
    by_list = call.operands.indices is not None and engine.compiled
    return few_classes.FewClasses(engine) if by_list else engine


def refuse_compiled(options: Options, reason: str) -> None:
    """Raise where a compiled engine is asked for by name, for a call that only core computes."""
    if options.engine not in (None, "generic"):
        raise EngineUnavailable(f"engine {options.engine!r} cannot take this call: {reason}")


def engines() -> dict[str, str | None]:
    """Return each engine's name with the reason why it is not available, None where it is.

    >>> import xloss
    >>> xloss.engines()["generic"] is None
    True
    """
    return {name: engine.unavailable() for name, engine in _ENGINES.items()}


@contextmanager
def use_engine(name: str) -> Iterator[None]:
    """Compute the calls inside a `with` block by the engine of this name.

    The choice lives in a context variable: threads of a pool do not inherit it. A function that
    torch.compile compiles inside the block for another engine than the compiled one keeps plain
    operations; one compiled outside the block obeys it where it calls the compiled engine.

    Parameters
    ----------
    name
        One of `engines()`.

    Raises
    ------
    ValueError
        If there is no engine of this name.
    EngineUnavailable
        From a call inside the block that this engine cannot take.

    Examples
    --------
    >>> import numpy as np, xloss
    >>> with xloss.use_engine("generic"):
    ...     float(xloss.cross_entropy(np.zeros((1, 2)), np.array([0])))
    0.6931471805599453
    """
    if name not in _ENGINES:
        raise ValueError(f"name: expected one of {sorted(_ENGINES)}, got {name!r}")
    token = _asked.set(name)
    try:
        yield
    finally:
        _asked.reset(token)
