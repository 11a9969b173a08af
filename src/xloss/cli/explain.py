"""Why a row's loss is NaN or infinite, for the losses that `xloss.diagnose` knows nothing of."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from ..diagnose.report import Findings
from ..evaluation.rows import Measured
from .block_checks import BlockPlace, class_last

Block = npt.NDArray[Any]
Mask = npt.NDArray[np.bool_]


def explain(
    given: Block, targets: Block, got: Measured, found: Findings, place: BlockPlace
) -> None:
    """Add what explains the losses of these rows that are not finite, each by one rule."""
    failed = (got.weights != 0) & ~np.isfinite(got.losses)

    def add(rule: str, mask: Mask, why: str) -> Mask:
        found.marked(rule, why, mask, place.start)
        left: Mask = failed & ~mask
        return left

    undefined = np.isnan(class_last(given, place.task)).any(-1)
    failed = add("nan_input", failed & undefined, "an input is NaN: so is the loss")
    if np.issubdtype(targets.dtype, np.floating):
        odd = ~np.isfinite(class_last(targets, place.task)).all(-1)
        failed = add("bad_target", failed & odd, "a target is NaN or infinite: no probability")
    failed = add(
        "impossible_target",
        failed & np.isposinf(got.losses),
        "the target has weight on a class to which the input gives the probability 0: the loss "
        "is +inf",
    )
    add(
        "overflow",
        failed,
        "the row holds nothing wrong, but its loss is larger than any number of its dtype",
    )
