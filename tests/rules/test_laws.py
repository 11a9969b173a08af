"""Laws that hold for every input: index = one-hot, scale, merge.

That micro-batches add up to the whole is tests/distributed/test_data_parallel.py.
"""

from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

import xloss
from expected import CLASS, FROM_PROBS, loss, near
from xloss.core.class_slices import FIELDS, merged, stats
from xloss.core.options import Operands, Options

EXAMPLES = settings(max_examples=80)
EIGHTHS = st.integers(0, 24).map(lambda n: n / 8)


@dataclass
class Batch:
    """A loss, its logits, labels, and a combination of its options."""

    name: str
    x: np.ndarray
    y: np.ndarray
    options: dict[str, Any]

    def run(self, t=None, **changed):
        """Value and gradient; `t` in place of the labels."""
        options = {k: v for k, v in {**self.options, **changed}.items() if v is not None}
        return xloss.value_and_grad(loss(self.name))(self.x, self.y if t is None else t, **options)


@st.composite
def batches(draw, reduction=None):
    """Logits on a 2^-10 grid (subtractions are exact) with gaps up to 80, some classes masked."""
    name = draw(st.sampled_from(CLASS))
    rows, classes = draw(st.integers(1, 5)), draw(st.integers(1, 6))
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    spread = draw(st.sampled_from([1, 8, 20, 80])) * 1024
    x = rng.integers(-spread // 2, spread // 2 + 1, (rows, classes)) / 1024
    y = rng.integers(0, classes, rows)
    x[np.arange(rows), y] += draw(st.sampled_from([0, 0, 8, 17, 40]))
    if name == "nll_loss":
        x = -abs(x)
    elif name in FROM_PROBS:
        x = rng.integers(1, 1025, (rows, classes)) / 1024
    if draw(st.booleans()):
        out = rng.random((rows, classes)) < 0.3
        out[np.arange(rows), y] = False
        x[out] = 0 if name in FROM_PROBS else -np.inf
    x = x.astype(draw(st.sampled_from(["float32", "float64"])))
    given = {"reduction": reduction or draw(st.sampled_from(["mean", "sum", "none"]))}
    for option, count in (("weight", classes), ("sample_weight", rows)):
        some = st.lists(EIGHTHS, min_size=count, max_size=count).map(np.array)
        given[option] = draw(st.none() | some)
    given["where"] = draw(st.none() | st.just(rng.random(rows) < 0.7))
    given["label_smoothing"] = draw(st.sampled_from([0.0, 0.0, 0.125, 1.0]))
    if name == "cross_entropy":
        given["z_loss"] = draw(st.sampled_from([0.0, 0.25]))
    if name in ("cross_entropy", "focal_loss"):
        given["softcap"] = draw(st.sampled_from([None, 4.0]))
    if name == "focal_loss":
        given["gamma"] = draw(st.sampled_from([0.0, 0.5, 2.0]))
    if given["reduction"] == "mean":
        given["normalizer"] = draw(st.sampled_from([None, 3.0]))
    return Batch(name, x, y, {k: v for k, v in given.items() if v is not None})


def one_hot(batch: Batch) -> np.ndarray:
    return (np.arange(batch.x.shape[1]) == batch.y[:, None]).astype(batch.x.dtype)


@EXAMPLES
@given(batches())
def test_index_is_one_hot(batch):
    """Two answers, each within section 4's budget: twice the budget apart, tail included."""
    (value, gradient), (soft_value, soft_gradient) = batch.run(), batch.run(one_hot(batch))
    near(value, soft_value, 8)
    options = batch.options
    mixed = options.get("label_smoothing") or options.get("z_loss") or options.get("softcap")
    # Entry by entry where each is one term; else against the largest term of any row.
    scale = abs(gradient[np.isfinite(gradient)]).max(initial=0) if mixed else 0.0
    near(gradient, soft_gradient, 8 + 2 * options.get("softcap", 2), scale)


@EXAMPLES
@given(batches(reduction="mean"), st.integers(-30, 30), EIGHTHS)
def test_scaling_all_weights_changes_no_mean(batch, power, factor):
    batch.options.pop("normalizer", None)
    assume(factor > 0)
    s = batch.options.get("sample_weight", np.ones(len(batch.y)))
    want = batch.run(sample_weight=s)
    for scale, ulps in ((2.0**power, 0), (factor, 8)):
        got = batch.run(sample_weight=s * scale)
        near(got[0], want[0], ulps)
        near(got[1], want[1], ulps, abs(want[1][np.isfinite(want[1])]).max(initial=0))


@st.composite
def pieces_of_rows(draw):
    """Rows with masked classes, ties, infinities and NaN, and where to cut their classes."""
    classes, count = draw(st.integers(1, 12)), draw(st.integers(1, 4))
    values = st.sampled_from([-np.inf, -40.0, 0.0, 0.0, 0.25, 17.5, 40.0, 40.0])
    x = np.array([[draw(values) for _ in range(classes)] for _ in range(count)])
    places = st.integers(0, classes - 1)
    for row in x:
        row[draw(places)] = draw(st.sampled_from([0.0, 1.0, np.inf, np.nan]))
    cuts = sorted(draw(st.sets(places, max_size=4)) - {0})
    weight = draw(st.none() | st.just(np.arange(classes) / 4))
    y = np.array([draw(places) for _ in range(count)])
    t = (np.arange(classes) == y[:, None]) * 0.75 + (np.arange(classes) % 2) * 0.25
    return x, [0, *cuts, classes], y, t, weight


@pytest.mark.parametrize("soft", [False, True], ids=["index", "soft"])
@EXAMPLES
@given(pieces_of_rows(), st.sampled_from([0.0, 0.25]))
def test_merging_pieces_is_associative_and_equal_to_the_whole(soft, rows, smoothing):
    x, cuts, y, t, weight = rows
    options = Options(
        "cross_entropy", indexed=not soft, label_smoothing=smoothing, ignore_index=None
    )

    def piece(start, stop):
        cut = slice(start, stop)
        return stats(
            Operands(x[:, cut], t[:, cut] if soft else y, weight), options, x.shape[1], start
        )

    whole = piece(0, x.shape[1])
    parts = [piece(a, b) for a, b in pairwise(cuts)]
    left = parts[0]
    for part in parts[1:]:
        left = merged([left, part], options, x)
    right = parts[-1]
    for part in parts[-2::-1]:
        right = merged([part, right], options, x)
    fields = list(FIELDS)
    tail = fields.index("tail_sum")
    for got in (merged(parts, options, x), left, right):
        np.testing.assert_array_equal(got[:, fields.index("max")], whole[:, fields.index("max")])
        near(got[:, tail], whole[:, tail], 16)
        shown = np.isfinite(x).any(-1) & ~np.isnan(x).any(-1) & ~np.isposinf(x).any(-1)
        near(got[shown], whole[shown], 16)
