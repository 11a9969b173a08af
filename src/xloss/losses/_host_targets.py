"""Checks of targets and weights that came as NumPy arrays, on whichever device the logits are."""

from __future__ import annotations

from typing import Any

import numpy as np

from .._arrays import host_data
from .._arrays.context import Context, context, read
from .._arrays.inspect import compiling
from ..core.options import Operands, Options
from ..core.value_checks import axis_back, check_targets, check_values
from . import _check as check


class HostData:
    """Targets and weights as the caller passed them, before they are moved to another device."""

    def __init__(
        self, targets: Any, ignore_index: Any, sample_weight: Any, where: Any, weight: Any = None
    ) -> None:
        self.targets, self.ignore_index, self.weight = targets, ignore_index, weight
        self.sample_weight, self.where = sample_weight, where

    def on_host(self, validate: Any, cx: Context) -> bool:
        """Tell whether all are NumPy arrays, while the logits are where the host cannot read.

        A mask on another device forbids the check, because absent rows must not be checked.
        """
        if cx.on_host or compiling() or not host_data.is_host(self.targets):
            return False
        others = [self.sample_weight, self.where, *([self.weight] if validate is True else [])]
        return all(a is None or host_data.is_host(a) for a in others)

    def check(self, options: Options, classes: int, axis: int = -1, weight: str = "weight") -> None:
        """Raise for the first bad label, and with validate=True for negative weights."""
        if options.validate is False or not (options.indexed or options.validate is True):
            return
        t = np.asarray(self.targets)
        if not options.indexed:
            t = np.moveaxis(t, axis, -1)
        named = axis_back(axis, t.ndim) if classes and not options.indexed else str
        rows = t.shape if options.indexed else t.shape[:-1]
        cx = read(context(np.zeros(0), np))
        options = options._replace(ignore_index=check.ignored(self.ignore_index, options.indexed))
        o = Operands(
            t,
            t,
            self.weight if options.validate is True else None,
            check.row_array("sample_weight", self.sample_weight, rows, cx, "targets"),
            check.row_array("where", self.where, rows, cx, "targets"),
        )
        if classes:
            check_targets(o, options, cx, classes, weight, named)
        else:
            check_values(o, options, cx, 0)
