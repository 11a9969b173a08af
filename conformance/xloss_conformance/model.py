"""What flows through the suite: cases, exact answers, budgets, subjects, outcomes and verdicts."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple, Protocol, TypeAlias

from numpy.typing import NDArray

Array = NDArray[Any]

DTYPES = ("float32", "float64", "float16", "bfloat16")
FROM_LOGITS = ("cross_entropy", "focal_loss", "entropy")
CLASS = ("cross_entropy", "focal_loss", "nll_loss", "log_loss")  # these take class indices
BINARY = ("binary_cross_entropy_with_logits", "binary_cross_entropy", "sigmoid_focal_loss")
PACKED = ("linear_cross_entropy", "linear_token_stats")  # see packed.py
LOSSES = (*CLASS, *BINARY, "kl_div", "entropy", "token_stats", "top_k_cross_entropy", *PACKED)
# How the loss's first argument lies in memory, and targets of its shape ("broadcast": not they).
# "readonly" forbids writing to every argument; "swapped" is of the other byte order, "misaligned"
# at an odd address, "filtered" lazy, of rows whose number is found when they are computed.
LAYOUTS: tuple[str, ...] = ("C", "F", "reversed", "strided", "broadcast", "readonly")
LAYOUTS += ("swapped", "misaligned", "filtered")
# Options that are arrays of the inputs' dtype; `where` is one of bools.
FLOATING = ("weight", "class_weight", "sample_weight", "pos_weight", "normalizer")


@dataclass(frozen=True, eq=False)
class Case:
    """One call of one loss, why it is in the catalogue, and what must come of it.

    Arguments stand in float64 and are rounded to the subject's dtype; labels keep their own.
    """

    family: str
    label: str  # what tells it from the others of its family
    reason: str  # what breaks here, and in whom
    x: Array  # logits, log-probabilities or probabilities
    targets: Array | None  # class indices (any integer dtype) or floats; None: entropy
    loss: str = "cross_entropy"
    options: Mapping[str, Any] = field(default_factory=dict)  # xloss's names; arrays in float64
    # What is handed over in place of "x" or "targets": an array of any dtype, or no array at all.
    instead: Mapping[str, Any] = field(default_factory=dict)
    upstream: float | Array = 1.0  # multiplies the gradient: a number, or one a row of "none"
    to_targets: bool = False  # the gradient to soft targets is wanted too
    layout: str = "C"
    dtypes: tuple[str, ...] = DTYPES  # those in which the case says something
    error: type[Exception] | None = None  # the call must raise it ...
    names: str = ""  # ... and say this word: the argument at fault
    split: bool = False  # every row alone must give the bits that it gives in the batch
    value_only: bool = False  # no gradient is asked for
    gap: float | None = None  # abscissa of the plot: how far the true class is ahead
    see: tuple[str, ...] = ()  # links: published bugs
    quick: bool = False
    on_demand: bool = False  # too large for every run
    tile: int = 1  # leading axis of 0 stride: the rows stand there so many times

    @property
    def name(self) -> str:
        return f"{self.family}/{self.label}"

    @property
    def axis(self) -> int:
        return int(self.options.get("axis", -1))

    @property
    def classes(self) -> int:
        """How many classes there are; of a packed argument, the weight's rows."""
        if self.loss in PACKED and self.targets is not None:
            return len(self.x) - len(self.targets)
        return int(self.x.shape[self.axis])

    @property
    def index(self) -> bool:
        """Whether the targets are class indices."""
        taken = (*CLASS, "token_stats", "top_k_cross_entropy", *PACKED)
        return self.targets is not None and self.loss in taken and self.targets.dtype.kind in "iu"


class Stored(NamedTuple):
    """The arguments as NumPy arrays of one dtype, each the caller's own to lay out and to keep."""

    x: Array
    targets: Array | None
    options: dict[str, Any]  # arrays are NumPy's, the rest as in the case
    upstream: float | Array
    dtype: str


# ---- The exact answer, and how far a subject's may be off ----------------------------------------


class Exact(NamedTuple):
    """A number as the sum of two floats, 106 bits of it: hi is the nearest float64."""

    hi: Array
    lo: Array


class Expected(NamedTuple):
    """The exact answer to a case whose arguments are stored in one dtype."""

    value: Exact  # reduced, or the rows
    grad: Exact  # to the first argument, times the upstream gradient
    grad_targets: Exact | None  # to floating targets, likewise
    absent: Array  # the rows (binary: elements) that contribute exactly nothing


class Allowed(NamedTuple):
    """So many ulp of a scale; each broadcasts to the array of which it is said."""

    ulp: Array
    scale: Array  # 0: of the exact number itself


class Budget(NamedTuple):
    """What the parts of an answer are allowed."""

    value: Allowed
    grad: Allowed
    targets: Allowed


# ---- Subjects, and what comes of asking one ------------------------------------------------------

# What a call returns: the value, and the gradients to the first argument and to the targets.
Called: TypeAlias = tuple[Any, Any, Any]
FLUSHED = {"float64": 2.0**-1022}  # the smallest normal number; 16-bit arithmetic is in float32


class Traits(NamedTuple):
    """What the contract leaves to the library and the engine."""

    dtype: str  # of the logits
    # A bad label: "raises", "nan" (its row), or "either".
    bad_label: str = "either"
    compiled: bool = False  # cross_entropy keeps the budget of the compiled engines
    flushes: bool = False  # subnormals become 0: C · 2^-126 more
    gradient: str = ""  # how it is taken: "closed form", "autograd", ..., "" if not at all
    strict: bool = True  # dtype, device and error types are as xloss's contract has them


class Differs(NamedTuple):
    """What is right by a subject's own definition where it is not ours, and why."""

    case: Case  # its answer is the right one
    note: str
    value: float | None = None  # but for the value, where no case has it: 0/0

    def also(self, note: str, **instead: Any) -> Differs:
        """Return the same with another note, and what it says instead."""
        return self._replace(note=f"{self.note}; {note}" if self.note else note, **instead)


class Finding(NamedTuple):
    """A rule that is broken, by how much, and where."""

    rule: str
    detail: str
    ulp: float | None = None
    at: tuple[int, ...] | None = None
    got: float | None = None
    want: float | None = None


PARTS = ("value", "gradient", "targets gradient")  # of an answer, as findings name them


class Part(NamedTuple):
    """A part of an answer that was given, what it should be, and how far it may be off."""

    name: str  # one of PARTS
    got: Array
    want: Exact
    dtype: str
    allowed: Allowed
    flush: float  # as far off it may be too: where the library takes subnormals for 0


@dataclass
class Outcome:
    """What came out, read back to the host: floats exactly, in float64; None is "not given"."""

    value: Array | None = None
    grad: Array | None = None
    grad_targets: Array | None = None
    value_dtype: str = ""
    grad_dtype: str = ""
    targets_dtype: str = ""
    error: Exception | None = None
    problems: list[Finding] = field(default_factory=list)  # what the run itself saw broken

    @property
    def parts(self) -> tuple[Array | None, Array | None, Array | None]:
        """The three of PARTS."""
        return self.value, self.grad, self.grad_targets


class Subject(Protocol):
    """An implementation on one backend, engine, device and dtype, or a candidate."""

    @property
    def name(self) -> str:
        """Such as "xloss numpy float32" or "torch float32"."""

    @property
    def library(self) -> str:
        """The library whose arrays it is given."""

    @property
    def traits(self) -> Traits: ...

    def refuses(self, case: Case) -> str | None:
        """Return why the case is not this subject's to answer, or None."""

    def differs(self, case: Case) -> Differs | None:
        """Return what is right by the subject's own definition, where it is not ours."""

    def run(self, case: Case, arguments: Stored) -> Outcome:
        """Call it; what it raises is an outcome."""

    def snippet(self, case: Case) -> list[str]:
        """Return the lines of Python that call it on `x`, `targets` and the options as named."""


class SubjectInfo(NamedTuple):
    """What a subject is, without what it takes to run it."""

    name: str
    kind: str  # "xloss", "peer", "candidate"
    library: str
    engine: str
    device: str
    dtype: str
    gradient: str
    version: str


@dataclass(frozen=True)
class Source:
    """A subject that whoever runs it makes: no array library is imported before that."""

    library: str
    make: Callable[[], Subject]  # picklable; Missing says why there is none here
    required: bool = False  # asked for by name: Missing ends the run
    cost: int = 0  # the higher, the earlier it begins: the longest must not come last
    stranger: bool = False  # a candidate: it may hang
    before: Callable[[], object] | None = None  # picklable: imports what is no stranger's


# ---- Verdicts ------------------------------------------------------------------------------------

STATUSES = ("pass", "fail", "declared", "refused")
# Rule -> what it says; findings name one of these.
RULES = {
    "value": "the value is within its error budget",
    "gradient": "every gradient entry is within its error budget",
    "targets gradient": "so is the gradient to soft targets",
    "nothing": "an absent row contributes exactly nothing",
    "raises": "a call that cannot be right raises, naming the argument at fault",
    "runs": "a call that can be answered is answered",
    "shape": "value and gradient have the shape of rows and argument",
    "dtype": "the loss is float32 at least, the gradient of its argument's dtype",
    "device": "results stay on the inputs' device, in their library",
    "input": "no argument is written to",
    "repeat": "a second call gives the same bits",
    "split": "a row has the same bits alone and in a batch",
}


@dataclass
class Verdict:
    """What came of judging a subject by a case."""

    case: Case
    subject: str
    status: str  # one of STATUSES: "declared" is a known deviation, "refused" is not offered
    findings: list[Finding] = field(default_factory=list)
    value_ulp: float | None = None  # worst errors, where there were numbers to compare
    grad_ulp: float | None = None
    # The same as a share of what that entry is allowed: beyond 1 it fails.
    value_share: float | None = None
    grad_share: float | None = None
    note: str = ""  # why refused or declared; by what other definition it was judged
    outcome: Outcome | None = None
    expected: Expected | None = None
    parts: list[Part] = field(default_factory=list)  # what was compared
    # As text, for a report: value, gradient, ...; and the lines that call the subject.
    got: dict[str, str] = field(default_factory=dict)
    want: dict[str, str] = field(default_factory=dict)
    call: str = ""

    @property
    def failed(self) -> bool:
        return self.status == "fail"


# ---- What cannot be had --------------------------------------------------------------------------


class Missing(Exception):
    """A library that this machine has not; the message says what would bring it."""


class LoadError(ValueError):
    """What was named cannot be had; the message says why in one line."""
