"""scikit-learn: the loss inside LogisticRegression, on as many threads as the others."""

from __future__ import annotations

import numpy as np
from sklearn._loss import HalfMultinomialLoss

from .clock import Call
from .contenders import SOME, Contender, NotOffered
from .work import Data, Work


def _call(work: Work, given: Data, threads: int) -> Call:
    x, y, _ = given
    if work.features or len(work.shape) != 2 or work.axis not in (-1, 1):
        raise NotOffered("takes rows in one axis, classes in the last")
    if work.dtype not in ("float32", "float64"):
        raise NotOffered(f"has no {work.dtype}")
    loss = HalfMultinomialLoss(n_classes=work.classes)
    labels = y.astype(x.dtype)  # its own dtype of labels
    if not work.gradient:
        return Call(lambda: loss(labels, x, n_threads=threads))

    def run() -> tuple[float, np.ndarray[tuple[int, ...], np.dtype[np.float32]]]:
        rows, gradient = loss.loss_gradient(labels, x, n_threads=threads)
        gradient /= len(rows)
        return rows.mean(), gradient

    return Call(run, answer=lambda got: (float(got[0]), got[1].reshape(-1)[:SOME]))


SAID = "HalfMultinomialLoss (of LogisticRegression); its loss_gradient"
CONTENDERS = {"sklearn": Contender("sklearn", "numpy", SAID, _call, True)}
