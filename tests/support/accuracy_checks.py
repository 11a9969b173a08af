"""The budget of docs/accuracy.md, and what holds a value and a gradient to it."""

from __future__ import annotations

from contextlib import AbstractContextManager
from typing import Any

import numpy as np

import xloss
from accuracy_cases import Case, answer
from libraries import COMPILER, library
from xloss_conformance.oracle import mp, ulp_error

# (library, path): closed form, and each library's own way to a gradient.
PATHS = [
    ("numpy", "closed"),
    ("strict", "closed"),
    ("dask", "closed"),
    ("torch", "closed"),
    ("torch_generic", "closed"),
    ("torch", "autograd"),
    *([("emulated", "closed")] if COMPILER else []),
    ("jax", "closed"),
    ("jax", "autodiff"),
]


FLUSH = {"float32": 2.0**-126, "float64": 2.0**-1022}  # XLA flushes subnormals


def setting(lib: str, dtype: str) -> AbstractContextManager[Any]:
    """Ask for what the library's tests run in, or for JAX's 64-bit dtypes."""
    if lib != "jax" or dtype != "float64":
        return library(lib).used()
    import jax

    wide: AbstractContextManager[Any] = jax.enable_x64(True)
    return wide


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

    x, y = np.asarray([c.x for c in cases]), np.asarray([c.target for c in cases])
    with setting(lib, dtype):
        z, t = make(x, dtype), make(y, "int32")

        def loss(z: Any) -> Any:
            return xloss.cross_entropy(z, t, reduction="none")

        if path == "autograd":
            z.requires_grad_()
            value = loss(z)
            value.sum().backward()
            grad = z.grad
        elif path == "autodiff":
            import jax

            value, back = jax.vjp(loss, z)
            (grad,) = back(home.xp.ones_like(value))
        else:
            value, grad = xloss.value_and_grad(xloss.cross_entropy)(z, t, reduction="none")
        return home.host(value), home.host(grad)


def grouped(cases: list[Case]) -> list[list[Case]]:
    """Gather the cases that one call can hold: a compiling library pays for each call."""
    groups: dict[str, list[Case]] = {}
    for case in cases:
        groups.setdefault(f"{len(case.x)} {case.options}", []).append(case)
    return list(groups.values())


def check(cases: list[Case], lib: str, path: str, dtype: str, budget: Any) -> None:
    """Hold values and gradients to a budget: (ulp value, label, other, scale)."""
    for group in grouped(cases):
        values, grads = run(group, lib, path, dtype)
        assert values.dtype == grads.dtype == dtype
        for case, value, grad in zip(group, values.tolist(), grads.tolist(), strict=True):
            hold(case, value, grad, dtype, budget, len(case.x) * FLUSH[dtype] * (lib == "jax"))


def hold(case: Case, value: float, grad: Any, dtype: str, budget: Any, flush: float) -> None:
    """Hold one row to a budget, but for what the library makes 0."""
    of_value, of_label, of_other, scale = budget
    want = answer(case)

    def error(got: float, exact: Any, size: Any = None) -> float:
        return 0.0 if abs(got - exact) <= flush else float(ulp_error(got, exact, dtype, size))

    found = [("value", error(value, want.loss), of_value)]
    for j, (got, exact) in enumerate(zip(grad, want.grad, strict=True)):
        name, allowed = ("label", of_label) if j == case.target else ("other", of_other)
        found.append((name, error(got, exact, scale), allowed))
    bad = [(name, off) for name, off, allowed in found if not off <= allowed]
    assert not bad, f"{case}: {bad}"


def largest_term(case: Case) -> Any:
    """Return the largest of p_j·A, a_j and the z term: what cancels in a mixture's gradient."""
    weight = case.options.get("weight", (1.0,) * len(case.x))
    eps = case.options.get("label_smoothing", 0.0)
    a = [w * ((1 - eps) * (j == case.target) + eps / len(case.x)) for j, w in enumerate(weight)]
    s = case.options.get("sample_weight", 1.0)
    return max(s * max(a), *(abs(g) for g in answer(case).grad if mp.isfinite(g)))


def option_budget(case: Case) -> Any:
    ulp = 4.0 + case.options.get("softcap", 0.0)
    return (ulp, ulp, ulp, largest_term(case))
