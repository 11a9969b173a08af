"""SciPy: the row of log_softmax at the label; no gradient."""

from __future__ import annotations

import numpy as np
from scipy.special import log_softmax

from .clock import Call
from .contenders import Contender, NotOffered
from .work import Data, Work


def _call(work: Work, given: Data, threads: int) -> Call:
    x, y, _ = given
    if work.features:
        raise NotOffered("has no linear_cross_entropy")
    if work.gradient:
        raise NotOffered("gives no gradient")
    if work.dtype == "bfloat16":
        raise NotOffered("has no bfloat16")
    axis = work.axis
    if axis == -1 and x.ndim == 2:
        return Call(lambda: -log_softmax(x, axis=-1)[np.arange(len(y)), y].mean())
    return Call(
        lambda: -np.take_along_axis(log_softmax(x, axis=axis), np.expand_dims(y, axis), axis).mean()
    )


SAID = "-scipy.special.log_softmax(z, axis=-1)[np.arange(len(y)), y].mean()"
CONTENDERS = {"scipy": Contender("scipy", "numpy", SAID, _call, True)}
