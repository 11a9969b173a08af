"""Settings that all tests share: a second run draws the same random numbers as the first."""

import gc
import os
import sys
from collections.abc import Iterator

import pytest
from hypothesis import settings

from libraries import NAMES, Library, library

if "MUTANT_UNDER_TEST" in os.environ:  # mutmut: its faults are in what the generic engine runs
    sys.modules["numba"] = None  # type: ignore[assignment]

# Or PyTorch's compiler tries each set of vector instructions by compiling a program for it, which
# takes as long as a test: what this processor says that it has, its g++ compiles for.
os.environ.setdefault("TORCHINDUCTOR_VEC_ISA_OK", "1")

settings.register_profile("ci", derandomize=True, deadline=None)
settings.load_profile("ci")


@pytest.fixture(params=NAMES)
def lib(request: pytest.FixtureRequest) -> Iterator[Library]:
    """Each array library in turn; `indirect` picks some by name."""
    chosen = library(request.param)
    with chosen.used():
        yield chosen


# The rules that the CUDA engine's kernels are run for by day, on the emulator, beside their own
# tests (engines/cuda) and the quick cases of the suite (conformance/test_emulated.py). Each test
# of another file needs kernels of its own, which g++ compiles for most of a second each.
EMULATED_BY_DAY = {"test_accuracy.py", "test_labels.py"}


@pytest.hookimpl(tryfirst=True)  # before those that are nightly are left out
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Leave the emulator's part in the other rules to the night."""
    for item in items:
        given = getattr(item, "callspec", None)
        emulated = given is not None and given.params.get("lib") == "emulated"
        if emulated and item.path.name not in EMULATED_BY_DAY:
            item.add_marker("nightly")


def pytest_collection_finish() -> None:
    """Keep the garbage collector from going through a million objects time and again.

    Modules and the tests themselves live to the end, and what PyTorch and JAX hold of a trace is
    as much again: to look through it takes most of a second, which was spent every few seconds.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(20_000, 20, 100)
