"""scikit-learn's argument order, its labels and its scorers; expected values are its own log_loss.

scikit-learn's loss is its formula in double precision; where the two differ, closed forms.
"""

import math
from types import SimpleNamespace

import numpy as np
import pytest

from xloss.adapters.sklearn import log_loss, neg_log_loss

pytest.importorskip("sklearn", reason="scikit-learn is not installed; the `test` extra has it")
from sklearn import datasets, linear_model, metrics, model_selection

ROWS, CLASSES = 40, 3
RNG = np.random.default_rng(11)
PROBS = RNG.dirichlet(np.ones(CLASSES), ROWS)
LABELS = RNG.integers(0, CLASSES, ROWS)
NAMES = np.array(["pear", "apple", "quince"])[LABELS]
SOFT = RNG.dirichlet(np.ones(CLASSES), ROWS)
WEIGHT = RNG.uniform(0.5, 2.0, ROWS)
BITS = RNG.integers(0, 2, ROWS)

CASES = {
    "labels": (LABELS, PROBS, {}),
    "weights, sum": (LABELS, PROBS, {"sample_weight": WEIGHT, "normalize": False}),
    "strings as objects": (NAMES.astype(object), PROBS, {"sample_weight": WEIGHT}),
    "lists": (NAMES.tolist(), PROBS.tolist(), {"sample_weight": WEIGHT.tolist()}),
    "a column": (LABELS[:, None], PROBS, {}),
    "labels left out": (LABELS[:1], PROBS[:1], {"labels": [0, 1, 2]}),
    "one number a row": (BITS, PROBS[:, 0], {}),
    "one column": (BITS, PROBS[:, :1], {"sample_weight": WEIGHT}),
    "one-hot": (np.eye(CLASSES, dtype=int)[LABELS], PROBS, {"sample_weight": WEIGHT}),
    "certain and right": (np.array([0, 1]), np.array([[1, 0], [0, 1]]), {}),
}


@pytest.mark.parametrize("case", CASES)
def test_the_loss_is_scikit_learns(case):
    truth, proba, options = CASES[case]
    got = log_loss(truth, proba, **options)
    assert type(got) is float
    # Certain and right is exactly 0 here, and the rounding of its clipping there.
    expected = metrics.log_loss(truth, proba, **options)
    assert got == pytest.approx(expected, rel=4e-15, abs=4e-16)


def test_several_bits_a_row_count_as_one_row():
    bits = np.array([[1, 1, 0], [0, 1, 0]])
    expected = -(math.log(PROBS[0, 0]) + math.log(PROBS[0, 1]) + math.log(PROBS[1, 1]))
    assert log_loss(bits, PROBS[:2]) == pytest.approx(expected / 2, rel=4e-15)
    weighted = log_loss(bits, PROBS[:2], sample_weight=[0, 2])
    assert weighted == pytest.approx(-math.log(PROBS[1, 1]), rel=4e-15)
    soft = -(SOFT * np.log(PROBS)).sum() / ROWS
    assert log_loss(SOFT, PROBS) == pytest.approx(soft, rel=4e-14)


def framed(values):
    """Return what data frames and series have in common: `to_numpy`, and no Array API."""
    return SimpleNamespace(to_numpy=lambda: np.array(values))


def test_data_frames_and_series():
    for weight in (WEIGHT, np.ones(ROWS)):
        expected = metrics.log_loss(NAMES, PROBS, sample_weight=weight)
        got = log_loss(
            framed(NAMES[:, None]),
            framed(PROBS),
            sample_weight=framed(weight),
            labels=framed(NAMES),
        )
        assert got == pytest.approx(expected, rel=4e-15)


def test_what_differs_exactness():
    certain = np.array([[0.0, 1.0], [0.5, 0.5]])
    assert log_loss([0, 1], certain) == math.inf
    assert math.isfinite(metrics.log_loss([0, 1], certain))
    clipped = log_loss([0, 1], certain, eps=1e-15)
    assert clipped == pytest.approx((-math.log(1e-15) + math.log(2)) / 2, rel=4e-15)
    assert log_loss([0, 1], certain, sample_weight=[0, 0]) == 0.0
    assert log_loss([[1, 0], [0, 1]], certain, sample_weight=[0, 0]) == 0.0


@pytest.mark.parametrize(
    ("truth", "options", "message"),
    [
        ([0, 0], {}, r"^y_proba: has 3 columns, but y_true holds 1 classes; pass labels="),
        ([0, 1], {"labels": [0, 1]}, "but labels holds 2 classes"),
        (["b", "x"], {"labels": ["a", "b", "c"]}, r"^y_true: .*'x'.* is not among the labels"),
        ([0, 1, 2], {}, r"^y_true: has shape \(3,\), but y_proba \(2, 3\)"),
        (np.eye(3), {}, r"^y_true: has shape \(3, 3\), but y_proba \(2, 3\)"),
    ],
)
def test_labels_that_do_not_fit_are_named(truth, options, message):
    with pytest.raises(ValueError, match=message):
        log_loss(truth, PROBS[:2], **options)


def scored():
    """Return a fitted classifier, its samples, and their classes."""
    x, y = datasets.make_classification(n_samples=120, n_classes=3, n_informative=4, random_state=0)
    names = np.array(["a", "b", "c"])[y]
    return linear_model.LogisticRegression().fit(x, names), x, names


SCORER = metrics.make_scorer(log_loss, response_method="predict_proba", greater_is_better=False)


@pytest.mark.parametrize("scorer", [SCORER, neg_log_loss], ids=["make_scorer", "neg_log_loss"])
def test_cross_validation_scores_as_scikit_learns(scorer):
    ours = model_selection.cross_val_score(*scored(), scoring=scorer)
    theirs = model_selection.cross_val_score(*scored(), scoring="neg_log_loss")
    assert ours.mean() < 0
    np.testing.assert_allclose(ours, theirs, rtol=1e-14)


def test_a_fold_may_lack_a_class():
    """The estimator says which classes the columns are; a metric of a scorer cannot know."""
    model, x, y = scored()
    fold = np.flatnonzero(y != "b")[:20]
    proba = model.predict_proba(x[fold])
    at = np.searchsorted(model.classes_, y[fold])
    weight = np.linspace(0.0, 1.0, len(fold))
    rows = -np.log(proba[np.arange(len(fold)), at])
    weighted = neg_log_loss(model, x[fold], y[fold], sample_weight=weight)
    assert weighted == pytest.approx(-np.average(rows, weights=weight), rel=1e-14)
    with pytest.raises(ValueError, match=r"^y_proba: has 3 columns, but y_true holds 2"):
        SCORER(model, x[fold], y[fold])
