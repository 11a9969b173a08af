"""A call of the host engine that also asks for what a training log needs beside the losses."""

from __future__ import annotations

from typing import Any

import numpy as np

from ...core.call import LossCall
from ...core.options import Cotangent, Outcome, Outputs, Saved
from ...core.row_stats import RowStats
from ...core.targets import Targets, prepare, target_sum
from ...core.token_stats import Scan, finished, mapped
from ..row_layout import RowLayout, element_address
from .arguments import RowRange, ScanIn
from .call import REQUIRED, HostCall

# Logits of a block, unless one row has more: both sweeps over it must find it in the cache.
CACHED_LOGITS = 2**17


class TokenCall(HostCall):
    """A call whose blocks of rows are swept twice: for the losses, then for what is beside them.

    The first sweep is the one of every loss, so that a loss has the same bits here. It reads the
    block from memory and the second one from the cache.
    """

    def __init__(
        self, kernels: Any, call: LossCall, outputs: Outputs, cotangent: Cotangent, saved: Saved
    ) -> None:
        outputs = outputs._replace(rows=True, stats=True)
        super().__init__(kernels, call, outputs, cotangent, saved)
        self.scanner = kernels.scan_rows if self.by_rows else kernels.scan_columns
        with np.errstate(all="ignore"):
            # Of soft targets the row weights follow, a block of rows at a time.
            t = prepare(self.operands, self.options, self.host_cx, self.classes)
        flat: list[Any] = [None if a is None else np.asarray(a).reshape(-1) for a in t[3:9]]
        self.t = Targets(None, None, None, *flat)
        self.present = self.t.row_present
        if self.present is not None:
            self.present = np.require(self.present, np.bool_, REQUIRED)
        self.gaps = np.empty(self.count) if outputs.entropy else None
        self.ahead = np.empty(self.count, np.int64)
        if t.labels is not None:
            self.target_classes = np.require(t.labels, np.int64, REQUIRED).reshape(-1)
        else:
            self.target_classes = np.empty(self.count, np.int64)
            self.masses = np.empty(self.count)

    def block_rows(self) -> int:
        """Return how many rows a block has at most: a block must stay in the cache."""
        return max(1, min(super().block_rows(), CACHED_LOGITS // self.classes))

    def run_block(self, block: tuple[slice, ...], first: int, count: int, totals: Any) -> None:
        """Compute `count` rows from row `first` on, which are `block` of the rows' axes."""
        if self.soft is not None:
            rows = slice(first, first + count)
            with np.errstate(all="ignore"):
                t = self.in_compute_dtype(self.soft[block]).reshape(count, self.classes)
                self.target_classes[rows] = np.argmax(t, axis=-1)
                self.masses[rows] = target_sum(t, self.class_weight, self.host_cx)
        super().run_block(block, first, count, totals)

    def scan(self, first: int, count: int, logits: RowLayout) -> None:
        """Sweep rows again whose maxima are known."""
        self.scanner(
            self.like,
            *RowRange(first, count, self.classes),
            *logits,
            *ScanIn(
                element_address(self.target_classes, first),
                element_address(self.present, first),
                element_address(self.maxima, first),
                self.option_values.softcap,
                self.outputs.rank,
                element_address(self.gaps, first),
                element_address(self.ahead, first),
            ),
        )

    def outcome(self, totals: Any) -> Outcome:
        """Return what was asked for; totals: (blocks, 4)."""
        host_cx, t = self.host_cx, self.t
        assert self.losses is not None
        assert self.maxima is not None
        assert self.tail_sums is not None
        with np.errstate(all="ignore"):
            if self.soft is not None:
                weight = self.masses if t.sample_weight is None else t.sample_weight * self.masses
                present = t.row_present
                t = t._replace(
                    row_weight=weight if present is None else np.where(present, weight, 0.0)
                )
            s, scan = RowStats(self.maxima, self.tail_sums), Scan(self.gaps, self.ahead)
            made = finished(self.losses, s, scan, t, self.options, host_cx, self.classes)
        made = made if self.outputs.rank else made._replace(rank=None)
        return super().outcome(totals)._replace(tokens=mapped(self.shaped, made))
