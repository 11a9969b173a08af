"""What the tests of PyTorch's backend share."""

from __future__ import annotations

import sys
from typing import Any

import pytest

import xloss
from xloss.engines import generic
from xloss.engines.cpu import engine as cpu


@pytest.fixture(autouse=True)
def _forgotten() -> None:
    """Have no graph of another test's, and none that is traced once more for its order.

    xloss is imported before PyTorch here. Until it has seen a tensor it looks for PyTorch each
    time, and a graph traced before that is traced anew after it: the counts of graphs depended on
    which test came first.
    """
    if torch := sys.modules.get("torch"):
        xloss.logsumexp(torch.zeros(1, 2))
    if dynamo := sys.modules.get("torch._dynamo"):
        dynamo.reset()


@pytest.fixture
def wanted(monkeypatch: pytest.MonkeyPatch) -> dict[str, list[Any]]:
    """Record what each engine is asked for, under its name."""
    seen: dict[str, list[Any]] = {"cpu": [], "generic": []}

    def recorded(engine: Any) -> Any:
        run = engine.run

        def call(*given: Any, **how: Any) -> Any:
            seen[engine.name].append(given[1])
            return run(*given, **how)

        return call

    for engine in (cpu, generic):
        monkeypatch.setattr(engine, "run", recorded(engine))
    return seen


@pytest.fixture
def _no_engine(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have the host's compiled engine missing."""
    monkeypatch.setattr(cpu, "unavailable", lambda: "not here")
