"""Linear cross-entropy's inputs, what must come of them, and how far off a library may be.

Features stand in quarters and the weight in eighths, both small: every logit is exact in float32
and in a product of any order, so that the loss keeps its own budget.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

import xloss

ROWS, WIDTH, CLASSES = 7, 5, 11
RNG = np.random.default_rng(0)
X = RNG.integers(-8, 9, (ROWS, WIDTH)) / 4
W = RNG.integers(-16, 17, (CLASSES, WIDTH)) / 8
B = RNG.integers(-8, 9, CLASSES) / 4
Y = np.array([0, 10, -100, 3, 3, 7, 1])
T = RNG.multinomial(64, [1 / CLASSES] * CLASSES, ROWS) / 64
KEEP = np.array([True, True, False, True, True, True, False])
SAMPLE = np.array([1.0, 0.5, 2.0, 0.0, 3.0, 1.25, 1.0])
UP = np.array([1.0, -2.0, 0.5, 3.0, 0.25, -1.5, 2.0])

ALL: dict[str, Any] = {
    "class_weight": np.arange(CLASSES) / 4,
    "sample_weight": SAMPLE,
    "where": KEEP,
    "label_smoothing": 0.125,
    "z_loss": 0.0625,
    "softcap": 8.0,
}


class Made(NamedTuple):
    """The value and the gradients by float64, and the most each may be off."""

    value: np.ndarray
    grads: dict[str, np.ndarray]
    value_off: np.ndarray
    off: dict[str, np.ndarray]
    terms: dict[str, np.ndarray]  # the sums of the sizes of each gradient's terms


def expected(
    x: np.ndarray,
    w: np.ndarray,
    t: np.ndarray,
    b: np.ndarray | None,
    options: dict[str, Any],
    cotangent: np.ndarray | None = None,
    eps: float = 2.0**-23,
) -> Made:
    """cross_entropy of the whole logits, and the chain rule; absent rows hold no NaN here."""
    z = x @ w.T + (0 if b is None else b)
    given = {"weight" if k == "class_weight" else k: v for k, v in options.items()}
    soft = t.dtype.kind == "f"
    loss = xloss.value_and_grad(xloss.cross_entropy, (0, 1) if soft else (0,))
    value, grads = loss(z, t, cotangent=cotangent, **given)
    g = grads[0]
    made = {"x": g @ w, "weight": g.T @ x, "bias": g.sum(0)}
    if soft:
        made["targets"] = grads[1]
    # Of each entry of g: 12 ulp (4 and a softcap of 8) of its largest term, bounded by the row's.
    rows = xloss.cross_entropy(z, t, **{**given, "reduction": "none", "normalizer": None})
    size = np.abs(g).sum(-1, keepdims=True) + np.abs(g).max(initial=0.0)
    off = 12 * eps * size
    count = sum(z.shape) + 4  # roundings of a sum
    terms = {"x": abs(g) @ abs(w), "weight": abs(g).T @ abs(x), "bias": abs(g).sum(0)}
    bounds = {
        "x": off * np.abs(w).sum(0) + count * eps * (np.abs(g) @ np.abs(w)),
        "weight": (off * np.ones_like(g)).T @ np.abs(x) + count * eps * (np.abs(g).T @ np.abs(x)),
        "bias": (off * np.ones_like(g)).sum(0) + count * eps * np.abs(g).sum(0),
    }
    if soft:
        up = np.abs(1.0 if cotangent is None else cotangent)
        up = up[:, None] if np.ndim(up) else up
        bounds["targets"] = 16 * eps * (np.abs(grads[1]).max() + up) * np.ones_like(z)
    each = 16 * eps * np.abs(rows)
    mean = np.abs(value).max(initial=0.0) / max(float(np.abs(rows).sum()), 1e-30)
    value_off = each if options.get("reduction") == "none" else each.sum() * mean
    return Made(np.asarray(value), made, np.asarray(value_off), bounds, terms)


def check(got: Any, want: np.ndarray, off: Any, what: str) -> None:
    """Assert that every entry is within its bound."""
    got = np.asarray(got, np.float64)
    assert got.shape == want.shape, what
    bad = ~(np.abs(got - want) <= off)
    assert not bad.any(), (
        f"{what}: {np.abs(got - want)[bad]} over {np.broadcast_to(off, bad.shape)[bad]}"
    )
