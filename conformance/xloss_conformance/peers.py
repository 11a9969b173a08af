"""The losses of other libraries, judged by the same catalogue: one subject a library and dtype."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from importlib.util import find_spec
from operator import attrgetter
from typing import Any, ClassVar

from .candidates import Candidate, traits
from .conventions import Convention, convention
from .libraries import array_library
from .load_object import among, imported, installed
from .model import Case, Differs, Missing, Outcome, Stored, Traits

PEERS = ("torch", "keras", "optax", "sklearn", "scipy", "tensorflow")


@dataclass(frozen=True)
class Peer:
    """Every loss of one library, each by its own function."""

    convention: Convention
    dtype: str
    kind: ClassVar[str] = "peer"

    @property
    def name(self) -> str:
        return f"{self.convention.name} {self.dtype}"

    @property
    def library(self) -> str:
        return self.convention.home

    @property
    def version(self) -> str:
        own = installed(self.convention.package)
        if self.library in ("numpy", self.convention.name):
            return own
        return f"{own} on {self.library} {array_library(self.library).version()}"

    @property
    def traits(self) -> Traits:
        of = traits(self.library, self.dtype)
        own = "closed form" if self.convention.name == "sklearn" else ""
        return of._replace(gradient=of.gradient or own)

    def of(self, case: Case) -> Candidate:
        """Return the library's own function for a case; KeyError where it has none."""
        spec = self.convention.functions[self.convention.kind(case)]
        return Candidate(spec, _function(spec), self.convention, case.loss, self.dtype)

    def refuses(self, case: Case) -> str | None:
        try:
            return self.of(case).refuses(case)
        except KeyError:
            soft = case.loss in self.convention.functions
            return f"has no {case.loss}" + (" of soft targets" if soft else "")
        except Missing as error:
            return str(error)

    def differs(self, case: Case) -> Differs | None:
        return self.of(case).differs(case)

    def run(self, case: Case, arguments: Stored) -> Outcome:
        return self.of(case).run(case, arguments)

    def snippet(self, case: Case) -> list[str]:
        return self.of(case).snippet(case)


def here() -> tuple[str, ...]:
    """Name the peers, TensorFlow only where it is: it is not installed with the others."""
    return tuple(n for n in PEERS if n != "tensorflow" or find_spec(n) is not None)


@cache
def _function(spec: str) -> Any:
    module, _, name = spec.partition(":")
    return attrgetter(name)(imported(module, module.partition(".")[0]))


def peer(name: str, dtype: str) -> Peer:
    """Return one library's losses in a dtype; Missing says why there are none."""
    style = convention(among("peer", name, PEERS))
    if dtype not in array_library(style.home).dtypes:
        raise Missing(f"{name} has no {dtype}")
    return Peer(style, dtype)
