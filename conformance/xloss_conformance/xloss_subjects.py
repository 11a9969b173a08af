"""xloss itself, on every backend, engine, device and dtype that this machine has."""

from __future__ import annotations

from contextlib import nullcontext
from dataclasses import dataclass
from importlib.util import find_spec
from typing import Any, ClassVar

import numpy as np

import xloss

from . import packed
from .call_subject import differentiated, run
from .formats import accumulated
from .libraries import LIBRARIES, array_library
from .model import DTYPES, Called, Case, Differs, Missing, Outcome, Stored, Traits
from .packed import TOKENS
from .rounding import rounded, stored
from .snippet import asking, one
from .top_k import TOP_K


@dataclass(frozen=True)
class Xloss:
    """One way through xloss: a library, an engine ("" is its own choice), a dtype, a gradient."""

    library: str
    dtype: str
    gradient: str = "closed form"  # or the library's own: "autograd", "jax.vjp"
    engine: str = ""
    kind: ClassVar[str] = "xloss"
    version: ClassVar[str] = xloss.__version__

    @property
    def name(self) -> str:
        way = "" if self.gradient == "closed form" else f" {self.gradient}"
        engine = f" {self.engine}" if self.engine else ""
        return f"xloss {self.library}{engine} {self.dtype}{way}"

    @property
    def traits(self) -> Traits:
        of, generic = array_library(self.library), self.engine == "generic"
        engine = None if generic else COMPILED.get(self.library)
        compiled = engine is not None and xloss.engines()[engine] is None
        flushes = of.flushes + of.flushes_generic if generic else of.flushes
        label = "raises" if of.reads else "nan"
        return Traits(self.dtype, label, compiled, self.dtype in flushes, self.gradient)

    def refuses(self, case: Case) -> str | None:
        if self.few and not case.quick:
            return "JAX compiles every call anew: autodiff but in float32 answers the quick cases"
        of, arguments = array_library(self.library), stored(case, self.dtype)
        if self.traits.flushes and _subnormal(arguments):
            return f"{self.library} takes a subnormal argument for 0"
        return of.refuses(arguments, case.layout)

    @property
    def few(self) -> bool:
        """Whether it is judged by the quick cases alone: the same rules as of another subject."""
        return self.gradient == "jax.vjp" and self.dtype != "float32"

    def differs(self, case: Case) -> Differs | None:
        return None

    def run(self, case: Case, arguments: Stored) -> Outcome:
        of = array_library(self.library)
        alone = of.same_bits or (self.traits.compiled and case.loss in ("cross_entropy", TOP_K))
        return run(of, case, arguments, self._call, warn="error", same_bits=alone)

    def snippet(self, case: Case) -> list[str]:
        return asking(case, ["from xloss_conformance.xloss_subjects import Xloss"], repr(self))

    def _call(self, case: Case, x: Any, t: Any, options: dict[str, Any], upstream: Any) -> Called:
        lib, closed = array_library(self.library), self.gradient == "closed form"

        def value(x: Any, t: Any = t) -> Any:
            return packed.value(case.loss, x, t, options)

        with xloss.use_engine(self.engine) if self.engine else nullcontext():
            if case.value_only or (closed and case.loss in TOKENS):  # these have no closed form
                return value(x), None, None
            if not closed:
                return differentiated(lib, case, value, x, t, upstream)
            cotangent = None
            if not one(upstream):
                cotangent = lib.array(rounded(upstream, accumulated(self.dtype)))
            given = {**options, "cotangent": cotangent}
            made, *grads = packed.value_and_grad(case.loss, x, t, given, case.to_targets)
            return made if lib.compiles else value(x), grads[0], grads[1]


def _subnormal(arguments: Stored) -> bool:
    """Tell whether the first argument holds numbers below the smallest normal one."""
    least = 2.0**-1022 if arguments.dtype == "float64" else 2.0**-126
    size = np.abs(np.asarray(arguments.x, np.float64))
    return bool(np.any((size > 0) & (size < least)))


# What the libraries say too, for those who must not import a library to know.
DTYPES_OF = {
    "strict": ("float32", "float64"),
    "dask": ("float32", "float64"),
    "cupy": ("float32", "float64", "float16"),
}
# Which compiled engine takes a library's cross_entropy, where it can run; generic does it on any.
COMPILED = dict.fromkeys(("numpy", "torch", "jax", "tensorflow"), "cpu")
COMPILED |= {"cuda": "cuda", "cupy": "cuda"}
AUTODIFF = {"torch": "autograd", "cuda": "autograd", "jax": "jax.vjp", "tensorflow": "GradientTape"}


def of(library: str, dtypes: tuple[str, ...] = DTYPES) -> list[Xloss]:
    """List xloss on a library, which need not be here, in dtypes that it has."""
    found = []
    for dtype in DTYPES_OF.get(library, DTYPES):
        if dtype not in dtypes:
            continue
        found.append(Xloss(library, dtype))
        if library in AUTODIFF:
            found.append(Xloss(library, dtype, AUTODIFF[library]))
        if library in COMPILED and dtype in ("float32", "float64"):
            found.append(Xloss(library, dtype, engine="generic"))
            if library == "tensorflow":  # what tf.function traces
                found.append(Xloss(library, dtype, AUTODIFF[library], "generic"))
    return found


def known() -> dict[str, str]:
    """Return every xloss subject's name, whether it is here or not, and its library."""
    return {subject.name: library for library in LIBRARIES for subject in of(library)}


def present(subject: Xloss) -> Xloss:
    """Return the subject; Missing says why its library is not here."""
    array_library(subject.library)
    if subject.dtype == "bfloat16" and find_spec("ml_dtypes") is None:
        raise Missing('bfloat16: ml_dtypes is not installed: pip install "xloss[conformance]"')
    return subject
