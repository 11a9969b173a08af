"""Losses and ops as functions of float64 arrays, whose derivatives finite differences must be."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

import xloss
from expected import BINARY, CLASS, FROM_PROBS, SOFT_ONLY

LABELS = np.array([0, -100, 3])


def draw(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng([seed, 9]).normal(size=shape)


def probabilities(*shape: int, seed: int = 0) -> np.ndarray:
    e = np.exp(draw(*shape, seed=seed))
    return e / e.sum(-1, keepdims=True)


def given(name: str) -> np.ndarray:
    """Logits, log-probabilities or probabilities, as the loss takes them."""
    if name in FROM_PROBS:
        return probabilities(3, 4)
    return np.log(probabilities(3, 4)) if name in ("nll_loss", "kl_div") else draw(3, 4)


def of_labels(loss: Any, **options: Any) -> Callable[..., Any]:
    return lambda x: loss(x, LABELS, **options)


def of_soft(loss: Any, **options: Any) -> Callable[..., Any]:
    return lambda x, t: loss(x, t, **options)


def of_logits(op: Any) -> Callable[..., Any]:
    return lambda z: op(z, axis=0)


T = probabilities(3, 4, seed=5)
SMOOTH = {"label_smoothing": 0.1, "weight": np.array([0.5, 1.0, 2.0, 0.25])}
CASES: dict[str, tuple[Callable[..., Any], tuple[np.ndarray, ...]]] = {}
for _name in CLASS:
    _loss, _more = getattr(xloss, _name), {}
    if _name == "cross_entropy":
        _more = {"z_loss": 0.1, "softcap": 3.0}
    CASES[f"{_name} of labels"] = of_labels(_loss, **_more), (given(_name),)
    CASES[f"{_name} of soft targets"] = of_soft(_loss, **SMOOTH, **_more), (given(_name), T)
for _name in (*BINARY, *SOFT_ONLY):
    CASES[_name] = getattr(xloss, _name), (given(_name), T)
for _name in ("logsumexp", "softmax", "log_softmax", "entropy"):
    CASES[_name] = of_logits(getattr(xloss, _name)), (draw(3, 4, seed=1),)
