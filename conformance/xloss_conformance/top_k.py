"""cross_entropy of TopKTargets as the suite calls it, and what must come of it.

Its targets are one array of (rows, 2K): the indices, and behind them the probabilities, so that
there is one gradient to targets, of that shape and 0 at the indices. A case has one more option,
`rest`. The answer is the oracle's for the same soft targets written out, by the chain rule.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

import xloss

from .model import Array, Case, Stored, Traits

TOP_K = "top_k_cross_entropy"
IGNORED = -100


def pack(indices: Any, probabilities: Any) -> Array:
    """Put the two into one array."""
    return np.concatenate([np.asarray(indices, np.float64), probabilities], axis=-1)


def slots(targets: Array) -> tuple[Array, Array]:
    """Take packed targets apart: indices and probabilities, (rows, K) each."""
    k = targets.shape[-1] // 2
    return targets[..., :k].astype(np.int64), targets[..., k:].astype(np.float64)


def written_out(targets: Array, classes: int, possible: Array, rest: str) -> Array:
    """Return the soft targets of all classes in float64; targets: (rows, 2K)."""
    out = np.zeros((len(targets), classes))
    for row, (indices, probs) in enumerate(zip(*slots(targets), strict=True)):
        for j, p in zip(indices, probs, strict=True):
            if 0 <= j < classes:
                out[row, j] += p
        others = [j for j in range(classes) if j not in indices and possible[row, j]]
        left = 1.0 - out[row].sum()
        if rest == "uniform" and others and left > 0:
            out[row, others] = left / len(others)
    return out


def dense_case(case: Case, arguments: Stored, traits: Traits) -> tuple[Case, Stored, Traits]:
    """Return the case of soft targets that has the same scales, in float64."""
    assert arguments.targets is not None
    options = {k: v for k, v in arguments.options.items() if k != "rest"}
    rest = arguments.options.get("rest", "zero")
    x = arguments.x.astype(np.float64)
    t = written_out(arguments.targets, case.classes, x > -np.inf, rest)
    # Compiled engines take lists of which nothing is spread evenly.
    listed = rest == "zero" and not options.get("label_smoothing")
    asked = replace(case, loss="cross_entropy", targets=t, options=options)
    given = arguments._replace(targets=t, options=options)
    return asked, given, traits._replace(compiled=traits.compiled and listed)


def absent(targets: Array) -> Array:
    """Return which rows have empty slots alone; targets: (rows, 2K)."""
    return np.asarray((slots(targets)[0] == IGNORED).all(-1))


def row(x: list[Any], targets: Array, rest: str = "zero", **options: Any) -> Any:
    """Return one row by the oracle, its gradient to targets one for each slot, of 2K numbers."""
    from . import oracle

    indices, probs = (v[0].tolist() for v in slots(targets[None]))
    k, n = len(indices), range(len(x))
    t = [oracle.ZERO for _ in n]
    for j, p in zip(indices, probs, strict=True):
        if j in n:
            t[j] += oracle.mp.mpf(p)
    listed = {j for j in indices if j != IGNORED}
    others = [j for j in n if j not in listed and x[j] != -np.inf]
    left = 1 - sum(t)
    spread = rest == "uniform" and bool(others) and left > 0
    if spread:
        for j in others:
            t[j] = left / len(others)
    bad = not listed.issubset(n)
    made = oracle.softmax_row("cross_entropy", x, -1 if bad else t, **options)

    def by_slot(by_class: list[Any] | None) -> list[Any]:
        """A probability that rises moves its class, and takes as much from the rest."""
        if by_class is None:  # a bad index
            by_class = [oracle.NAN for _ in n]
        taken = sum(by_class[j] for j in others) / len(others) if spread else oracle.ZERO
        own = [
            oracle.ZERO if j == IGNORED else by_class[j] - taken if j in n else oracle.NAN
            for j in indices
        ]
        return [oracle.ZERO] * k + own

    total, weight_slope = made.weight, by_slot(made.weight_grad_targets)
    unlisted = [j for j in n if j not in listed]
    if rest == "uniform" and len(others) < len(unlisted) and left > 0 and not bad:
        # The row weight has the rest of masked classes too.
        if options.get("z_loss"):
            raise ValueError("the z term of masked classes that share a rest is not defined here")
        w = [oracle.mp.mpf(v) for v in options.get("weight") or [1] * len(x)]
        s = oracle.mp.mpf(options["sample_weight"])
        mean = sum(w[j] for j in unlisted) / len(unlisted)
        total = s * (sum(w[j] * t[j] for j in listed) + left * mean)
        own = [oracle.ZERO if j == IGNORED else s * (w[j] - mean) for j in indices]
        weight_slope = [oracle.ZERO] * k + own
    return replace(
        made,
        weight=total,
        grad_targets=by_slot(made.grad_targets),
        weight_grad_targets=[oracle.ZERO] * (2 * k) if bad else weight_slope,
    )


def source() -> bytes:
    """Return this file: the answers depend on it."""
    return Path(__file__).read_bytes()


# The call.


def unpack(targets: Any, rest: str) -> Any:
    """Return the TopKTargets that a packed array of any library stands for."""
    k = targets.shape[-1] // 2
    if type(targets).__module__.startswith("tensorflow."):
        import tensorflow

        indices = tensorflow.cast(targets[..., :k], tensorflow.int32)
    else:
        import array_api_compat

        xp = array_api_compat.array_namespace(targets)
        indices = xp.astype(targets[..., :k], xp.int32)
    return xloss.TopKTargets(indices, targets[..., k:], rest)  # type: ignore[arg-type]
