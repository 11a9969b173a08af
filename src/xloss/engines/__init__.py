"""Who computes core's row functions: looked up by name, or the first that takes the call."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Protocol

from .._xp import Array, Context, compiling
from ..core.spec import Need, Operands, Result, Spec, Upstream
from . import cpu, cuda, generic

__all__ = ["EngineUnavailable", "asked_for", "choose", "engines", "refuse_compiled", "use_engine"]


class EngineUnavailable(RuntimeError):
    """The engine that was asked for by name cannot take this call; the message says why."""


class Engine(Protocol):
    """What an engine offers."""

    name: str
    RECOMPUTED: int  # classes up to which a gradient reads no saved statistics

    def unavailable(self) -> str | None:
        """Say why no call can be taken on this machine, or None."""

    def refuses(self, o: Operands, spec: Spec, cx: Context) -> str | None:
        """Say why this call cannot be taken, or None."""

    def run(
        self,
        o: Operands,
        spec: Spec,
        cx: Context,
        classes: int,
        need: Need,
        up: Upstream = ...,
        saved: tuple[Array, ...] | None = None,
    ) -> Result:
        """Compute what is needed."""


_ENGINES: dict[str, Engine] = {"generic": generic, "cpu": cpu, "cuda": cuda}
_asked: ContextVar[str | None] = ContextVar("xloss_engine", default=None)
asked_now = _asked.get  # asked_for where nothing is traced


def asked_for() -> str | None:
    """Return the engine asked for in this context; captured into each call's options."""
    # torch.compile cannot trace a context variable, and runs the generic engine anyway.
    return None if compiling() else _asked.get()


def choose(o: Operands, spec: Spec, cx: Context) -> Engine:
    """Return the engine asked for, or the first that takes the call."""
    if spec.engine is None:
        compiled: Engine = cpu if cx.host or cx.library in cpu.TRACED else cuda
        return compiled if compiled.refuses(o, spec, cx) is None else generic
    engine = _ENGINES[spec.engine]
    reason = engine.unavailable() or engine.refuses(o, spec, cx)
    if reason is not None:
        raise EngineUnavailable(f"engine {spec.engine!r} cannot take this call: {reason}")
    return engine


def refuse_compiled(spec: Spec, reason: str) -> None:
    """Raise where a compiled engine is asked for by name, for a call that only core computes."""
    if spec.engine not in (None, "generic"):
        raise EngineUnavailable(f"engine {spec.engine!r} cannot take this call: {reason}")


def engines() -> dict[str, str | None]:
    """Name the engines; the value says why one is not available, None where it is.

    >>> import xloss
    >>> xloss.engines()["generic"] is None
    True
    """
    return {name: engine.unavailable() for name, engine in _ENGINES.items()}


@contextmanager
def use_engine(name: str) -> Iterator[None]:
    """Ask for one engine by name inside a `with` block.

    The choice lives in a context variable: threads of a pool do not inherit it.

    Parameters
    ----------
    name
        One of `engines()`.

    Raises
    ------
    ValueError
        For a name that is none of them.
    EngineUnavailable
        From the calls inside the block that this engine cannot take.

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
