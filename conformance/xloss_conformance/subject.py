"""What is judged: anything that runs cases; and what came of running one."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import NamedTuple, Protocol

from .case import Array, Case, Stored

FLUSHED = {"float64": 2.0**-1022}  # the smallest normal number; 16-bit arithmetic is in float32


class Traits(NamedTuple):
    """What the contract leaves to the library and the engine."""

    dtype: str  # of the logits
    # A bad label: "raises", "nan" (its row), or "either".
    bad_label: str = "either"
    compiled: bool = False  # cross_entropy keeps the budget of the compiled engines
    flushes: bool = False  # subnormals become 0: C · 2^-126 more
    same_bits: bool = False  # a row has the same bits whatever the batch around it
    gradient: str = ""  # how it is taken: "closed form", "autograd", ..., "" if not at all
    strict: bool = True  # dtype, device and error types are as xloss's contract has them


class Differs(NamedTuple):
    """What is right by a subject's own definition where it is not ours, and why."""

    case: Case  # its answer is the right one
    note: str
    value: float | None = None  # but for the value, where no case has it: 0/0


class Problem(NamedTuple):
    """A rule that the run itself saw broken: "input", "device", "repeat", "split", ..."""

    rule: str
    detail: str


@dataclass
class Outcome:
    """What came out, read back to the host: floats exactly, in float64; None is "not given"."""

    value: Array | None = None
    grad: Array | None = None
    grad_targets: Array | None = None
    value_dtype: str = ""
    grad_dtype: str = ""
    error: Exception | None = None
    problems: list[Problem] = field(default_factory=list)


class Subject(Protocol):
    """An implementation on one backend, engine, device and dtype, or a candidate."""

    @property
    def name(self) -> str:
        """Such as "xloss numpy float32" or "torch float32"."""
        ...

    @property
    def library(self) -> str:
        """The library whose arrays it is given."""
        ...

    @property
    def traits(self) -> Traits: ...

    def refuses(self, case: Case) -> str | None:
        """Return why the case is not this subject's to answer, or None."""
        ...

    def differs(self, case: Case) -> Differs | None:
        """Return what is right by the subject's own definition, where it is not ours."""
        ...

    def run(self, case: Case, arguments: Stored) -> Outcome:
        """Call it; what it raises is an outcome."""
        ...

    def snippet(self, case: Case) -> list[str]:
        """Return the lines of Python that call it on `x`, `targets` and the options as named."""
        ...
