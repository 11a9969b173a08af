"""``log_loss`` with scikit-learn's argument order, and the scorer made of it.

    cross_val_score(model, X, y, scoring=neg_log_loss)
    make_scorer(log_loss, response_method="predict_proba", greater_is_better=False)

Data frames and series are taken as they are: whatever has ``to_numpy``, and lists.
"""

from __future__ import annotations

from typing import Any

import numpy as np

import xloss

__all__ = ["log_loss", "neg_log_loss"]


def log_loss(
    y_true: Any,
    y_proba: Any,
    *,
    normalize: bool = True,
    sample_weight: Any = None,
    labels: Any = None,
    eps: float | None = None,
) -> float:
    """:func:`xloss.log_loss` in the place of ``sklearn.metrics.log_loss``.

    Parameters
    ----------
    y_true
        The true class of each row, numbers or strings; or a row of 0 and 1, or of probabilities,
        of ``y_proba``'s shape.
    y_proba
        (rows, classes), the columns in sorted order of the labels, as in scikit-learn; or
        (rows,), the probability of the second label.
    normalize
        The mean over the rows (by weight), else the sum.
    sample_weight
        One weight a row.
    labels
        The classes of the columns; where absent, what is in ``y_true``, which must then hold every
        class.
    eps
        Clip probabilities into [eps, 1 - eps] first; scikit-learn always clips, at the precision of
        the dtype. None is exact: infinite for a class that occurs and has probability 0.

    Returns
    -------
    float
        The loss. With no row that counts 0, where scikit-learn raises.

    Raises
    ------
    ValueError
        The columns are not the labels', or a class of ``y_true`` is not among them.

    Examples
    --------
    >>> from xloss.adapters.sklearn import log_loss
    >>> round(log_loss(["ham", "spam"], [[0.9, 0.1], [0.25, 0.75]]), 6)
    0.196521
    """
    truth, proba = _plain(y_true), _plain(y_proba)
    if truth.shape[:1] != proba.shape[:1]:
        raise ValueError(f"y_true: has shape {truth.shape}, but y_proba {proba.shape}")
    if proba.dtype.kind != "f":  # integers; a data frame of mixed columns
        proba = proba.astype(np.float64)
    options: dict[str, Any] = {"reduction": "mean" if normalize else "sum", "eps": eps}
    if sample_weight is not None:
        options["sample_weight"] = _plain(sample_weight)
    if proba.ndim == 2 and proba.shape[1] == 1:
        proba = proba[:, 0]
    if truth.ndim == 2 and truth.shape[1] > 1:
        if normalize:  # by rows, whatever a row of the truth adds up to
            options["normalizer"] = float(np.sum(options.get("sample_weight", len(truth))))
        return float(xloss.log_loss(proba, truth.astype(proba.dtype), **options))
    truth = truth.reshape(-1)
    classes = np.unique(truth) if labels is None else np.unique(_plain(labels))
    columns = 2 if proba.ndim == 1 else proba.shape[1]
    if len(classes) != columns:
        where = "y_true" if labels is None else "labels"
        raise ValueError(
            f"y_proba: has {columns} columns, but {where} holds {len(classes)} classes; pass "
            "labels= with the class of each column (an estimator's classes_)"
        )
    at = np.minimum(np.searchsorted(classes, truth), columns - 1)
    strange = classes[at] != truth
    if strange.any():
        raise ValueError(f"y_true: {truth[strange][0]!r} is not among the labels {list(classes)}")
    if proba.ndim == 1:
        return float(xloss.binary_cross_entropy(proba, at, **options))
    return float(xloss.log_loss(proba, at, ignore_index=None, **options))


def neg_log_loss(estimator: Any, X: Any, y: Any, sample_weight: Any = None) -> float:
    """Score a classifier by ``-log_loss``: greater is better, as ``scoring=`` expects.

    The columns are those of ``estimator.classes_``, so that a fold may lack a class.

    Parameters
    ----------
    estimator
        A fitted classifier with ``predict_proba``; a pipeline or a search of one.
    X, y
        Samples and their classes.
    sample_weight
        One weight a row.

    Returns
    -------
    float
        The negative loss.

    Examples
    --------
    >>> from sklearn.dummy import DummyClassifier
    >>> model = DummyClassifier().fit([[0], [1]], [0, 1])
    >>> neg_log_loss(model, [[0]], [0])
    -0.6931471805599453
    """
    return -log_loss(
        y, estimator.predict_proba(X), labels=estimator.classes_, sample_weight=sample_weight
    )


def _plain(x: Any) -> Any:
    """Return the array of a data frame, a series or a list."""
    return np.asarray(x.to_numpy() if hasattr(x, "to_numpy") else x)
