"""Calls of any kind of array that may or may not fit, run where a crash is seen: a process alone.

``main(seed, count)`` prints a line for each outcome that is neither a result nor an error of one of
the kinds that name an argument.
"""

from __future__ import annotations

import itertools
import tempfile
import warnings
from pathlib import Path
from typing import Any

import numpy as np

from page_edge import at_page_edge
from xloss._arrays.context import context, read
from xloss.core.call import LossCall
from xloss.core.options import Cotangent, Operands, Options, Outputs
from xloss.engines.cpu import engine as cpu
from xloss_conformance.libraries.base import laid_out

# What an engine's error names first.
NAMES = ["logits", "targets", "class weight", "sample_weight", "where", "cotangent"]
NAMES += ["saved statistics"]
DTYPES = ["f2", "f4", "f8", "i1", "i4", "i8", "u1", "u8", "?", "c8", "O", "U3"]


class Arrays:
    """Arrays drawn by chance: as they should be, stored oddly, or not as they should be."""

    def __init__(self, seed: int) -> None:
        self.rng = np.random.default_rng(seed)
        self.folder = Path(tempfile.mkdtemp())
        self.files = itertools.count()

    def chance(self, p: float) -> bool:
        return bool(self.rng.random() < p)

    def stored_oddly(self, a: np.ndarray) -> np.ndarray:
        """Return the same values, elsewhere in memory."""
        kind = self.rng.integers(12)
        layouts = ("swapped", "misaligned", "readonly", "F", "reversed", "strided")
        if kind < (len(layouts) if a.ndim else 3):
            return laid_out(a, layouts[kind])
        if kind == 6 and a.size:
            file = self.folder / f"{next(self.files)}"
            a.tofile(file)
            return np.memmap(file, a.dtype, "r", shape=a.shape)
        if kind == 7:  # a field of a record: strides that are no multiple of the item's size
            records = np.zeros(a.shape, [("pad", "u1"), ("value", a.dtype)])
            records["value"] = a
            return records["value"]
        return at_page_edge(a, begins=kind == 9) if kind in (8, 9) else a

    def misfit(self, a: np.ndarray) -> Any:
        """Return something else."""
        flat = a.reshape(-1)
        made = (
            lambda: a[:-1] if a.ndim else a[None],
            lambda: np.concatenate([flat, flat]),
            lambda: a[None],
            lambda: flat[:0],
            lambda: flat[:1],
            lambda: a.T,
            lambda: a.astype(self.rng.choice(DTYPES)),
            lambda: a.astype(self.rng.choice(DTYPES)),
            lambda: np.ma.masked_array(a),
            lambda: a.tolist(),
            lambda: np.broadcast_to(a, (2, *a.shape)),
        )
        return made[self.rng.integers(len(made))]()

    def drawn(self, a: np.ndarray, spoilt: float) -> Any:
        """Return an array, more or less as it is."""
        return self.misfit(a) if self.chance(spoilt) else self.stored_oddly(a)


def engine_call(arrays: Arrays) -> None:
    """Go in at the engine's own door, past every check of the public functions."""
    rng, chance = arrays.rng, arrays.chance
    classes = int(rng.choice([1, 3, 96, 97, 300, 4100]))
    rows = ((int(rng.choice([1, 2, 5, 300])),), (2, 3), ())[rng.integers(3)]
    x = rng.random((*rows, classes)).astype(rng.choice(["f2", "f4", "f8"]))
    by_label = chance(0.6)
    labels = rng.integers(0, classes, rows)
    t = labels if by_label else rng.random((*rows, classes))
    given = {
        "class_weight": rng.random(classes),
        "sample_weight": rng.random(rows),
        "where": np.asarray(rng.random(rows) > 0.3),
    }
    given = {k: arrays.drawn(np.asarray(v), 0.2) for k, v in given.items() if chance(0.4)}
    x = arrays.stored_oddly(x) if chance(0.9) else x[..., :-1].copy()
    o = Operands(x, arrays.drawn(np.asarray(t), 0.3), **given)
    options = Options(
        "cross_entropy",
        indexed=by_label,
        ignore_index=None,
        label_smoothing=float(rng.choice([0.0, 0.1])),
        z_loss=float(rng.choice([0.0, 0.1])),
        softcap=5.0 if chance(0.3) else None,
    )
    cx = read(context(x, np), chance(0.3))
    saved = None
    if chance(0.4):
        saved = arrays.drawn(np.ones(rows, cx.compute_dtype), 0.2), arrays.drawn(np.ones(rows), 0.2)
    cotangent: Any = 1.0 if chance(0.4) else arrays.drawn(np.asarray(rng.random(rows)), 0.3)
    live = None if chance(0.7) else arrays.drawn(np.asarray(True), 0.3)
    outputs = Outputs(
        *(chance(0.5) for _ in range(4)), grad_targets=not by_label, stats=chance(0.3)
    )
    call = LossCall("", options, cx, o, classes)
    cpu.run(call, outputs, Cotangent(cotangent, None, live), saved)


def main(seed: int, count: int) -> None:
    arrays = Arrays(seed)
    outcomes = {"computed": 0, "refused": 0}
    warnings.simplefilter("ignore")
    for _ in range(count):
        try:
            with np.errstate(all="ignore"):
                engine_call(arrays)
            outcomes["computed"] += 1
        except (TypeError, ValueError) as error:
            outcomes["refused"] += 1
            if str(error).partition(":")[0] not in NAMES:
                print("unnamed:", type(error).__name__, error)
        except Exception as error:
            print("odd:", type(error).__name__, error)
    # Both must happen, or the draw tests nothing.
    assert min(outcomes.values()) > count // 10, outcomes
