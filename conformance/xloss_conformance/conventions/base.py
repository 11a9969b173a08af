"""What a convention says; the base calls as xloss does."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from typing import Any, ClassVar

from ..case import Case


class Convention:
    """How a function is called on a case, and where it differs by its own definition.

    Only definitions differ. Lost digits, a NaN that leaks from one row into others and a wrong
    gradient are never a convention.
    """

    name: ClassVar[str] = "xloss"
    home: str = "numpy"  # the library whose arrays the function takes
    # Loss -> the peer's own function, "module:function"; empty where there is no such peer.
    functions: ClassVar[Mapping[str, str]] = {}

    def refuses(self, function: Callable[..., Any], case: Case) -> str | None:
        """Return what of the case the convention, or this function, does not offer; or None."""
        try:
            parameters = inspect.signature(function).parameters.values()
        except (TypeError, ValueError):  # a builtin tells nothing
            return None
        if any(p.kind is p.VAR_KEYWORD for p in parameters):
            return None
        known = {p.name for p in parameters}
        unknown = [name for name in case.options if name not in known]
        return f"does not take {', '.join(unknown)}" if unknown else None

    def differs(self, case: Case) -> tuple[Case, str] | None:
        """Return the case whose answer is right by this convention's definition, and why."""
        return None

    def call(
        self, function: Callable[..., Any], case: Case, x: Any, t: Any, options: dict[str, Any]
    ) -> Any:
        """Return the value, or (value, gradient to x)."""
        return function(x, **options) if t is None else function(x, t, **options)
