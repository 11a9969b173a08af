"""Two losses on the same cases: where they first differ, by how much, and which is right."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any

from .candidates import Candidate, load
from .checking import chosen, dtypes, label, styled
from .conventions import Convention
from .homes import HOMES, home
from .pairs import Pair, pair
from .peers import PEERS, peers
from .subject import Subject
from .subjects import Xloss
from .suite import Told, told


@dataclass
class Comparison:
    """Every case, answered by both, in the catalogue's order."""

    a: Told
    b: Told
    pairs: list[Pair] = field(default_factory=list)

    @property
    def differences(self) -> list[Pair]:
        """The cases on which they differ, those left out in which their definitions do."""
        return [pair for pair in self.pairs if pair.status == "differ"]

    @property
    def first(self) -> Pair | None:
        """The first of them."""
        return next(iter(self.differences), None)

    @property
    def compared(self) -> int:
        """How many cases both offer."""
        return sum(pair.status != "not offered" for pair in self.pairs)

    @property
    def ok(self) -> bool:
        """Whether they agree, but for their definitions."""
        return not self.differences

    def __str__(self) -> str:
        from .report.versus import text

        return text(self)


def compare(
    a: str | Callable[..., Any],
    b: str | Callable[..., Any],
    *,
    convention: str | Convention = "xloss",
    arrays: str | None = None,
    loss: str | None = None,
    dtype: str = "float32",
    families: Iterable[str] | None = None,
    quick: bool = False,
    progress: Callable[[int, int], None] = lambda done, total: None,
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
    progress : callable
        Told how many cases are done, and of how many.

    Raises
    ------
    ValueError
        A name that is none; no case that both offer.
    Missing
        A library that is not here.
    """
    one, two = (
        subject(given, convention, arrays, loss or "cross_entropy", dtype) for given in (a, b)
    )
    if loss is None and (isinstance(one, Candidate) or isinstance(two, Candidate)):
        loss = "cross_entropy"
    cases = chosen(loss, families, quick)
    found = Comparison(told(one), told(two))
    progress(0, len(cases))
    for case in cases:
        found.pairs.append(pair(one, two, case))
        progress(len(found.pairs), len(cases))
    if not found.compared:
        raise ValueError(f"{found.a.name} and {found.b.name} have no case in common")
    return found


def subject(
    given: str | Callable[..., Any],
    convention: str | Convention,
    arrays: str | None,
    loss: str,
    dtype: str,
) -> Subject:
    """Return what a name or a function stands for."""
    (dtype,) = dtypes(dtype)
    if not isinstance(given, str):
        return Candidate(label(given), given, styled(convention, arrays), loss, dtype)
    first, _, rest = given.partition(":")
    if first == "xloss" and (not rest or rest in HOMES):
        made = Xloss(rest or "numpy", dtype)
        if dtype not in home(made.library).dtypes:
            raise ValueError(f"{given} has no {dtype}")
        return made
    if given in PEERS:
        found = peers(given, [dtype])
        if not found:
            raise ValueError(f"{given} has no {dtype}")
        return found[0]
    if not rest:
        raise ValueError(
            f"{given!r} is unknown; expected xloss, xloss:LIBRARY, {', '.join(PEERS)}, "
            "FILE.py:FUNCTION or MODULE:FUNCTION, with @CONVENTION after it if need be"
        )
    spec, _, own = given.partition("@")
    style = styled(own) if own else styled(convention, arrays)
    return load(spec, style, loss=loss, dtype=dtype)
