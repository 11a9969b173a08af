"""Many rows in 16 bits, many classes, and more elements than 32 bits can count."""

from __future__ import annotations

from functools import partial

import numpy as np

from ..model import Case
from .arrays import INF, ONE
from .making import github, made, torch

ROWS = 70_001  # more than float16 can count, and float16 and bfloat16 can sum
CLASSES = 128_256


def cases() -> list[Case]:
    """Return the families."""
    return [*_sixteen_bits(), *_vocabulary(), *_size()]


def _sixteen_bits() -> list[Case]:
    # Seven rows, again and again: logits that every dtype holds.
    x = np.array(
        [[0, 1, 2], [3, -1, 0.5], [-2, -2, 4], [8, 0, 1], [1, 1, 1], [0, -8, 0], [6, 5, 4]]
    )
    y = np.array([0, 1, 2, 1, 0, 0, 2])
    x, y = np.resize(x, (ROWS, 3)), np.resize(y, ROWS)
    reason = "a sum in 16 bits stops at 256 or 2048 and overflows at 65504; so does a count"
    case = partial(made, "sixteen bits", reason=reason, x=x, targets=y)
    case = partial(case, see=torch(85791) + github("pytorch/executorch/pull/20090"))
    case = partial(case, dtypes=("float16", "bfloat16", "float32"))
    few = partial(case, x=x[:6] / 3, targets=np.resize(y, 6), reduction="none")
    return [
        case("mean", quick=True),
        case("sum", reduction="sum"),
        case("mean, ignored", targets=np.where(np.arange(ROWS) % 3 == 0, -100, y)),
        case("mean, weighted", sample_weight=np.resize([0.5, 1, 2, 4], ROWS)),
        few("rows"),
        few("upstream", upstream=np.array([1, -2, 0.25, 0, 3, 1024])),
    ]


def _vocabulary() -> list[Case]:
    x = np.resize([-1, -8, -3, -5.5, -2, -30], (2, CLASSES))
    x[1] = np.roll(x[1], 1)
    x[0, 100_000] = 14.0
    x[1, :256] = -INF
    y = np.array([100_000, CLASSES - 1])
    reason = "a vocabulary takes more than one block: the pieces of a row are merged"
    case = partial(made, "vocabulary", reason=reason)
    case = partial(case, see=github("unslothai/unsloth/issues/91"))
    return [
        case("128,256 classes", x=x, targets=y, quick=True, dtypes=("float32", "bfloat16")),
        case("smoothed", x=x[:1], targets=np.array([5]), label_smoothing=0.1, dtypes=ONE),
    ]


def _size() -> list[Case]:
    # A tile whose size divides no power of 2: an index that wraps meets another element.
    rng = np.random.default_rng(31)
    x = np.round(rng.standard_normal((7, 293)) * 8) / 2
    reason = "beyond 2^31 elements a 32-bit index wraps, and reads or counts another row"
    case = partial(made, "size", reason=reason, x=x, targets=rng.integers(0, 293, 7))
    case = partial(case, see=torch(111484) + github("PaddlePaddle/Paddle/pull/30590"))
    case = partial(case, value_only=True, on_demand=True, dtypes=("float16", "float32"))
    case = partial(case, tile=2**31 // x.size + 1)
    return [case(f"2^31 elements, {how}", reduction=how) for how in ("mean", "sum")]
