"""The budget of docs/accuracy.md, and what holds a value and a gradient to it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np

import xloss
from accuracy_cases import Case, answer, binary, plain, variants
from libraries import COMPILER, library
from xloss_conformance.oracle import binary_row, mp, ulp_error

# (library, path): closed form, and each library's own way to a gradient.
PATHS = [
    ("numpy", "closed"),
    ("strict", "closed"),
    ("dask", "closed"),
    ("torch", "closed"),
    ("torch", "generic"),
    ("torch", "autograd"),
    *([("emulated", "closed")] if COMPILER else []),
    ("jax", "closed"),
    ("jax", "autodiff"),
]


FLUSH = {"float32": 2.0**-126, "float64": 2.0**-1022}  # XLA flushes subnormals


PLAIN, VARIANTS, BINARY = list(plain()), list(variants()), list(binary())


ELEMENTWISE = {"binary_cross_entropy_with_logits", "binary_cross_entropy", "sigmoid_focal_loss"}


@contextmanager
def setting(lib: str, dtype: str, path: str) -> Iterator[None]:
    """Ask for the generic engine, or for JAX's 64-bit dtypes."""
    if path == "generic":
        with xloss.use_engine("generic"):
            yield
    elif lib == "jax" and dtype == "float64":
        import jax

        with jax.enable_x64(True):
            yield
    else:
        with library(lib).used():
            yield


def stacked(cases: list[Case]) -> tuple[np.ndarray, np.ndarray]:
    """Return the rows of cases that share their options, one call's x and targets."""
    x, t = np.asarray([c.x for c in cases]), np.asarray([c.target for c in cases])
    return (x[:, 0], t[:, 0]) if cases[0].kind in ELEMENTWISE else (x, t)


def run(cases: list[Case], lib: str, path: str, dtype: str) -> tuple[np.ndarray, np.ndarray]:
    """Return the row losses and the gradient to x of their sum."""
    home = library(lib)

    def make(values: Any, name: str) -> Any:
        if lib == "dask":  # some five chunks along every axis
            chunks = tuple(max(2, n // 5) for n in np.shape(values))
            return home.xp.from_array(np.asarray(values, name), chunks=chunks)
        return (
            home.xp.asarray(np.asarray(values, name)) if lib == "jax" else home.array(values, name)
        )

    loss: Callable[..., Any] = getattr(xloss, cases[0].kind)
    x, t = stacked(cases)
    with setting(lib, dtype, path):
        z = make(x, dtype)
        target = make(t, "int32" if t.dtype.kind == "i" else dtype)
        options = {**cases[0].options, "reduction": "none"}
        if "weight" in options:
            options["weight"] = make(np.asarray(options["weight"]), dtype)
        if "sample_weight" in options:
            options["sample_weight"] = make(np.full(len(x), options["sample_weight"]), dtype)
        if path == "autograd":
            z.requires_grad_()
            value = loss(z, target, **options)
            value.sum().backward()
            grad = z.grad
        elif path == "autodiff":
            import jax

            value, back = jax.vjp(lambda v: loss(v, target, **options), z)
            (grad,) = back(home.xp.ones_like(value))
        else:
            value, grad = xloss.value_and_grad(loss)(z, target, **options)
        return home.host(value), home.host(grad)


def grouped(cases: list[Case]) -> list[list[Case]]:
    """Gather the cases that one call can hold: a compiling library pays for each call."""
    groups: dict[str, list[Case]] = {}
    for case in cases:
        key = f"{case.kind} {len(case.x)} {type(case.target)} {case.options}"
        groups.setdefault(key, []).append(case)
    return list(groups.values())


def answers(
    cases: list[Case], lib: str, path: str, dtype: str
) -> Iterator[tuple[Case, float, Any, float]]:
    """Each case with the value and gradient that came, and what the library makes 0."""
    for group in grouped(cases):
        values, grads = run(group, lib, path, dtype)
        assert values.dtype == grads.dtype == dtype
        for case, value, grad in zip(group, values.tolist(), grads.tolist(), strict=True):
            yield case, value, grad, len(case.x) * FLUSH[dtype] * (lib == "jax")


def check(
    cases: list[Case], lib: str, path: str, dtype: str, budget: Callable[[Case], Any]
) -> None:
    """Hold values and gradients to a budget: (ulp value, label, other, value scale, scale)."""
    for case, value, grad, flush in answers(cases, lib, path, dtype):
        hold(case, value, grad, dtype, budget(case), flush)


def errors(
    case: Case, value: float, grad: Any, dtype: str, budget: Any, flush: float
) -> Iterator[tuple[str, float, float]]:
    """Each number of an answer: value, label or other entry; how many ulp it is off, and may be."""
    of_value, of_label, of_other, value_scale, scale = budget
    want = answer(case)

    def error(got: float, exact: Any, size: Any) -> float:
        return 0.0 if abs(got - exact) <= flush else float(ulp_error(got, exact, dtype, size))

    yield "value", error(value, want.loss, value_scale), of_value
    wanted = want.grad if isinstance(want.grad, list) else [want.grad]
    for j, (got, exact) in enumerate(zip(np.atleast_1d(grad).tolist(), wanted, strict=True)):
        name, allowed = ("label", of_label) if j == case.target else ("other", of_other)
        yield name, error(got, exact, scale), allowed


def hold(case: Case, value: float, grad: Any, dtype: str, budget: Any, flush: float) -> None:
    found = errors(case, value, grad, dtype, budget, flush)
    bad = [(name, off) for name, off, allowed in found if not off <= allowed]
    assert not bad, f"{case}: {bad}"


def largest_term(case: Case) -> Any:
    """Return the largest of p_j·A, a_j and the z term: what cancels in a mixture's gradient."""
    weight = case.options.get("weight", (1.0,) * len(case.x))
    eps = case.options.get("label_smoothing", 0.0)
    t = case.target
    probs = [float(j == t) for j in range(len(case.x))] if isinstance(t, int) else t
    a = [w * ((1 - eps) * q + eps / len(probs)) for w, q in zip(weight, probs, strict=True)]
    s = case.options.get("sample_weight", 1.0)
    return max(s * max(a), *(abs(g) for g in answer(case).grad if mp.isfinite(g)))


def option_budget(case: Case) -> Any:
    ulp = 4.0 + case.options.get("softcap", 0.0)
    if case.kind == "focal_loss":
        ulp *= 1 + case.options.get("gamma", 2.0)  # the condition of (1-p)^γ
    scale = None if case.kind in ("log_loss", "nll_loss") else largest_term(case)
    return (ulp, ulp, ulp, None, scale)


def element_budget(case: Case) -> Any:
    ulp = 4.0
    if case.kind == "kl_div":
        terms = [abs(g * lp) for g, lp in zip(answer(case).grad, case.x, strict=True)]
        return (ulp, ulp, ulp, max(terms), None)
    if case.kind == "sigmoid_focal_loss":
        ulp *= 1 + case.options.get("gamma", 2.0)
    assert isinstance(case.target, tuple)
    t = case.target[0] * (1 - (eps := case.options.get("label_smoothing", 0.0))) + eps / 2
    if t in (0.0, 1.0):
        return (ulp, ulp, ulp, None, None)
    # Between its ends the gradient is a difference: of the gradients at the ends, or for the
    # focal loss, whose factor bends it, of something no larger than its own factor.
    bare = {k: v for k, v in case.options.items() if k in ("gamma", "alpha", "sample_weight")}
    ends = [abs(binary_row(case.kind, case.x[0], end, **bare).grad) for end in (0.0, 1.0)]
    return (ulp, ulp, ulp, None, max((1 - t) * ends[0], t * ends[1], abs(answer(case).grad)))
