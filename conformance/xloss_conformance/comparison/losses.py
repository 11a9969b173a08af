"""Two losses on the same cases: where they first differ, by how much, and which is right."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Any, TypeAlias

from ..answers import describe
from ..candidates import PEERS, Candidate, load, peer
from ..conventions import Convention
from ..libraries import LIBRARIES, array_library
from ..load_object import among
from ..model import LoadError, Subject
from ..printable import visible_lines
from ..selection import chosen, dtypes, styled
from ..xloss_subjects import Xloss
from .pair import pair
from .result import Comparison, record

Given: TypeAlias = str | Callable[..., Any]
# What a loss may be named by, beside these.
FORMS = ("xloss:LIBRARY", "FILE.py:FUNCTION", "MODULE:FUNCTION", "MODULE:FUNCTION@CONVENTION")


def compare(
    a: Given,
    b: Given,
    *,
    convention: str | Convention = "xloss",
    arrays: str | None = None,
    loss: str | None = None,
    dtype: str = "float32",
    families: Iterable[str] | None = None,
    quick: bool = False,
) -> Comparison:
    """Ask two losses the same cases.

    Parameters
    ----------
    a, b : str or callable
        A peer ("torch", "keras", "optax", "sklearn", "scipy"), xloss on NumPy or another library
        ("xloss", "xloss:jax"), "path/file.py:function" or "package.module:function", with
        "@convention" after it if it has its own; or a function.
    convention, arrays
        As in `check`, of functions which name none.
    loss : str, optional
        The loss to compare. Of two libraries all that both have are compared; a function is
        cross_entropy if nothing else is said.
    dtype, families, quick
        As in `check`.

    Raises
    ------
    ValueError
        A name that is none; no case that both offer.
    Missing
        A library that is not here.
    """
    how = {"convention": convention, "arrays": arrays, "dtype": dtype}
    *_, (found, _) = steps(a, b, loss, families, quick, **how)
    return found


def compared(a: str, b: str, **options: Any) -> Iterator[tuple[int, int, str, dict[str, Any]]]:
    """Yield how many cases are done, and of how many; in the end the text and the record too."""
    for found, total in steps(a, b, **options):
        yield len(found.pairs), total, "", {}
    yield total, total, visible_lines(str(found)), record(found)


def steps(
    a: Given, b: Given, loss: str | None, families: Iterable[str] | None, quick: bool, **how: Any
) -> Iterator[tuple[Comparison, int]]:
    """Yield the comparison as it grows, and how many cases there will be."""
    one, two = (subject(given, loss or "cross_entropy", **how) for given in (a, b))
    if loss is None and (isinstance(one, Candidate) or isinstance(two, Candidate)):
        loss = "cross_entropy"
    cases = chosen(loss, families, quick, on_demand=families is not None)
    found = Comparison(describe(one), describe(two))
    yield found, len(cases)
    for case in cases:
        found.pairs.append(pair(one, two, case))
        if len(found.pairs) == len(cases) and not found.compared:
            raise LoadError(f"{found.a.name} and {found.b.name} have no case in common")
        yield found, len(cases)


def subject(
    given: Given, loss: str, convention: str | Convention, arrays: str | None, dtype: str
) -> Subject:
    """Return what a name or a function stands for."""
    (dtype,) = dtypes(dtype)
    if not isinstance(given, str):
        return load(given, styled(convention, arrays), loss=loss, dtype=dtype)
    first, _, rest = given.partition(":")
    if first == "xloss" and (not rest or rest in LIBRARIES):
        made = Xloss(rest or "numpy", dtype)
        if dtype not in array_library(made.library).dtypes:
            raise LoadError(f"{given} has no {dtype}")
        return made
    if given in PEERS:
        return peer(given, dtype)
    if not rest:
        among("loss", given, ("xloss", *PEERS, *FORMS))
    spec, _, own = given.partition("@")
    style = styled(own) if own else styled(convention, arrays)
    return load(spec, style, loss=loss, dtype=dtype)
