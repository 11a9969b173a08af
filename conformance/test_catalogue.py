"""The catalogue under pytest: xloss on every library of this machine, one item a family."""

from __future__ import annotations

from itertools import product

import pytest

from held import held
from nightly import core
from xloss_conformance.cases import catalogue
from xloss_conformance.libraries import LIBRARIES, array_library
from xloss_conformance.model import Case, Missing
from xloss_conformance.xloss_subjects import Xloss, of, present

FAMILIES: dict[str, list[Case]] = {}
for case in catalogue():
    if not case.on_demand:
        FAMILIES.setdefault(case.family, []).append(case)


def here(library: str) -> bool:
    try:
        array_library(library)
    except Missing:
        return False
    return True


@pytest.mark.parametrize("library", LIBRARIES)
def test_a_library_is_here(library: str) -> None:
    try:
        for subject in of(library):
            present(subject)
    except Missing as missing:
        pytest.skip(str(missing))


SUBJECTS = [s for name in LIBRARIES if here(name) for s in of(name)]
# JAX compiles every operation of every shape, and Dask makes a graph of every call: minutes of it.
SLOW = [s for s in SUBJECTS if s.library in ("jax", "dask")]
NOT_QUICK = [name for name, cases in FAMILIES.items() if not all(case.quick for case in cases)]


# Where float64 is another path than float32: what is saved of a row, which integers stay exact, the
# tail, and a product of matrices.
WIDE = ("labels", "linear", "soft gradient", "tail")


# The compiled engine takes none of these: its subject is that of the generic engine once more.
ELEMENTWISE = ("binary logits", "binary probabilities", "sigmoid focal")
OTHER_LOSSES = ("entropy", "focal", "kl", "log loss", "nll", "top k", *ELEMENTWISE)
GENERIC = ("errors", "layouts", *OTHER_LOSSES)


def by_day(subject: Xloss, family: str) -> bool:
    """Leave to the night what other tests hold, and JAX compiles once more.

    Those are the vjp and 16 bits, which have tests of their own, of float64, whose program is
    float32's in another dtype, most families, and what the generic engine computes in any case.
    The generic engine on NumPy has all cases in test_generic.py.
    """
    if subject.library != "jax":
        return subject.name not in ("xloss numpy generic float32", "xloss numpy generic float64")
    if family in GENERIC and subject.engine != "generic":
        return False
    held_by_day = subject.dtype == "float32" or (subject.dtype == "float64" and family in WIDE)
    return subject.gradient == "closed form" and held_by_day


def asked(subject: Xloss, cases: list[Case]) -> None:
    report = held(subject, cases)
    if all(verdict.status == "refused" for verdict in report.verdicts):
        pytest.skip(f"{subject.name}: {report.verdicts[0].note}")


@pytest.mark.parametrize(
    ("subject", "family"),
    core(product(SUBJECTS, FAMILIES), by_day),
    ids=lambda given: getattr(given, "name", given),
)
def test_xloss_keeps_its_contract(subject: Xloss, family: str) -> None:
    asked(subject, [case for case in FAMILIES[family] if case.quick or subject not in SLOW])


@pytest.mark.nightly
@pytest.mark.parametrize("family", NOT_QUICK)
@pytest.mark.parametrize("subject", SLOW, ids=lambda s: s.name)
def test_in_every_case(subject: Xloss, family: str) -> None:
    asked(subject, [case for case in FAMILIES[family] if not case.quick])
