"""The catalogue on the CUDA engine, whose kernels run on the host (tests/emulated.py)."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import AbstractContextManager
from importlib import import_module
from typing import Any

import pytest

from xloss_conformance import homes
from xloss_conformance.case import DTYPES, Case
from xloss_conformance.cases import catalogue
from xloss_conformance.deviations import FILE, read
from xloss_conformance.homes import Home, Missing
from xloss_conformance.report.text import explained
from xloss_conformance.subject import Subject
from xloss_conformance.subjects import COMPILED, DTYPES_OF, Xloss, of
from xloss_conformance.suite import Report, run

pytestmark = pytest.mark.skipif(
    shutil.which("g++") is None,
    reason="the kernels are compiled for the host by g++: install it to run this",
)

CASES = [c for c in catalogue() if c.loss == "cross_entropy" and not c.on_demand]
NAME = "emulated"


@pytest.fixture(autouse=True)
def emulated(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Have a home of that name: PyTorch's tensors, as they would be on a GPU."""
    pytest.importorskip("torch", reason="pip install 'xloss[torch]'")
    from xloss_conformance.homes.torch import Torch

    class Emulated(Torch):
        name = NAME
        reads = False
        same_bits = False

    made, there = Emulated(), homes._made

    def found(name: str) -> Home | Missing:
        return made if name == NAME else there(name)

    monkeypatch.setattr(homes, "_made", found)
    monkeypatch.setitem(COMPILED, NAME, "cuda")
    yield


def gpu(capability: int = 90) -> AbstractContextManager[Any]:
    made: AbstractContextManager[Any] = import_module("emulated").emulated(capability)
    return made


def failures(report: Report) -> str:
    return "\n".join(explained(v) for v in report.failures)


def judged(subject: Subject, cases: list[Case]) -> Report:
    return run([subject], cases, deviations=read(FILE))


@pytest.mark.parametrize("gradient", ["closed form", "autograd"])
@pytest.mark.parametrize("dtype", DTYPES)
def test_the_kernels_keep_the_contract(dtype: str, gradient: str) -> None:
    subject = Xloss(NAME, dtype, gradient)
    with gpu() as device:
        assert subject.traits.compiled
        assert subject.traits.same_bits
        report = judged(subject, CASES)
    assert device.launches
    assert sum(v.status == "pass" for v in report.verdicts) > 100
    assert not report.failures, failures(report)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_so_they_do_in_launches_that_meet_in_memory(dtype: str) -> None:
    long = [c for c in CASES if c.error is None and c.classes * 8 > 32768]
    with gpu(80) as device:
        report = judged(Xloss(NAME, dtype), long)
        assert {dict(c).get("STAGE") for c, _ in device.launches} >= {1, 2, 3}
    assert not report.failures, failures(report)


def test_where_there_is_a_gpu_the_stricter_budget_holds(monkeypatch: pytest.MonkeyPatch) -> None:
    for library in ("cuda", "cupy"):
        own = homes._made(NAME)
        monkeypatch.setattr(homes, "_made", lambda name, own=own: own)
        without = [s.traits.compiled for s in of(library)]
        assert not any(without)
        with gpu():
            subjects = of(library)
            compiled = {s.name: s.traits.compiled for s in subjects}
        assert set(compiled.values()) == {True, False}
        assert [s for s, c in compiled.items() if not c] == [
            f"xloss {library} generic float32", f"xloss {library} generic float64",
        ]  # fmt: skip
        assert {s.dtype for s in subjects} == set(DTYPES_OF.get(library, DTYPES))
