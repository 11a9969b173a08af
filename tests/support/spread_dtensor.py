"""What ranks of test_spread_libraries.py do with DTensors: the suite's cases, and errors of all."""

from __future__ import annotations

from itertools import product
from typing import Any

import numpy as np
import pytest
import torch
import torch.distributed as dist
from torch.distributed.tensor import (
    DTensor,
    Partial,
    Replicate,
    Shard,
    distribute_tensor,
    init_device_mesh,
)

import array_adapters
import xloss
from expected import BINARY, LOSSES, near
from judged import hold
from spread import GROUP
from xloss_conformance.cases import catalogue
from xloss_conformance.libraries.torch import Torch
from xloss_conformance.model import Case

LABELS = torch.tensor([0, 1, 2, 3, 4, 5, 6, 1])
Z = (torch.arange(64.0, dtype=torch.float64).reshape(8, 8) * 37 % 11) / 4
PROBS = torch.softmax(Z.flip(0), -1)
ROW = torch.tensor([1.0, 2.0, 0.5, 0.0, 1.0, 3.0, 1.0, 1.0], dtype=torch.float64)
CLASS = torch.linspace(0.5, 2.0, 8, dtype=torch.float64)
NORMALIZER = torch.tensor(3.0, dtype=torch.float64)
BY_ROW = {"sample_weight": ROW, "where": ROW > 0.5}


def close(got: Any, want: Any) -> None:
    near(got.full_tensor(), want, 45, float(want.abs().max()))


# ---- The suite -----------------------------------------------------------------------------------


class Spread(Torch):
    """DTensors of which these axes are cut along the dimensions of the mesh; None: no axis is."""

    name = "dtensor"
    types = DTensor
    same_bits = False
    layouts = ("C",)

    def __init__(self, mesh: Any, axes: tuple[int | None, ...]) -> None:
        self.mesh, self.axes = mesh, axes

    def array(self, values: Any, layout: str = "C") -> Any:
        made = super().array(values)
        placed = [Replicate() if n is None or n >= made.ndim else Shard(n) for n in self.axes]
        return distribute_tensor(made, self.mesh, placed, src_data_rank=None)

    def read(self, x: Any) -> Any:
        return super().read(x.full_tensor())

    def differentiate(self, function: Any, arguments: Any, upstream: Any) -> Any:
        leaves = [x.detach().requires_grad_() for x in arguments]
        value = function(*leaves)
        cotangent = np.full(value.shape, upstream, self.dtype(value))
        grads = torch.autograd.grad(
            value, leaves, self.array(cotangent), allow_unused=True, materialize_grads=True
        )
        return value.detach(), grads


def is_offered(case: Case, axes: tuple[int | None, ...]) -> bool:
    """Whether ranks offer it: classes that are spread, of class indices; what gloo sends."""
    if case.loss not in LOSSES or case.targets.dtype.name in (
        "int16",
        "uint16",
        "uint32",
        "uint64",
    ):
        return False
    if 0 in axes and case.to_targets and case.options.get("reduction", "mean") == "mean":
        return False
    return 1 not in axes or case.loss in BINARY or (case.loss == "cross_entropy" and case.index)


def every_case(mesh: Any, axes: tuple[int | None, ...]) -> None:
    """Judge values and gradients, closed and of autograd, that keep their placements."""
    array_adapters.ADAPTERS["dtensor"] = lambda: Spread(mesh, axes)
    cases = [c for c in catalogue() if c.quick and not c.on_demand and is_offered(c, axes)]
    for gradient in ("closed form", "autograd"):
        assert hold("dtensor", "float32", cases, gradient) > len(cases) / 2


# ---- Beside plain tensors ------------------------------------------------------------------------

# A loss, its arguments, and the axes that the first may be cut along.
MIXED: list[tuple[Any, Any, Any, dict[str, Any], tuple[int, ...]]] = [
    (xloss.cross_entropy, Z, LABELS, {"weight": CLASS, **BY_ROW}, (0, 1)),
    (xloss.kl_div, Z.log_softmax(-1), PROBS, BY_ROW, (0,)),
    (xloss.sigmoid_focal_loss, Z, PROBS, {"sample_weight": PROBS}, (0, 1)),
]


def beside_plain_ones(mesh: Any) -> None:
    """Each argument beside DTensor logits, plain or spread; beside plain ones it is named."""
    for loss, x, t, options, axes in MIXED:
        both = xloss.value_and_grad(loss)
        want, slope = both(x, t, **options)
        for axis, also in product(axes, ((), tuple(options), ("targets",))):
            given = {"targets": t, **options}
            given |= {k: distribute_tensor(given[k], mesh, [Shard(0)]) for k in also}
            mine = distribute_tensor(x, mesh, [Shard(axis)])
            value, grad = both(mine, given.pop("targets"), **given)
            assert value.placements == (Replicate(),)
            assert grad.placements == mine.placements
            close(value, want)
            close(grad, slope)
        given = {**options, "targets": t, "normalizer": NORMALIZER}
        for argument, value in given.items():
            more = {**given, argument: distribute_tensor(value, mesh, [Replicate()])}
            with pytest.raises(TypeError, match=f"^{argument}: is a DTensor, but "):
                loss(x, more.pop("targets"), **more)


def refused(mesh: Any) -> None:
    """Values and placements that are no good, on every rank, and what ranks have no part of."""
    x, columns = (distribute_tensor(Z, mesh, [Shard(axis)]) for axis in (0, 1))
    partial = DTensor.from_local(Z, mesh, [Partial()], run_check=False)
    down = distribute_tensor(-(torch.arange(8) > 6).double(), mesh, [Shard(0)])
    some, kept = (distribute_tensor(a, mesh, [Shard(0)]) for a in (LABELS % 5, CLASS))
    w = torch.linspace(-1, 1, 40).double().reshape(5, 8)
    loss, linear, group = xloss.cross_entropy, xloss.linear_cross_entropy, dist.group.WORLD
    shard, grad = xloss.vocab_parallel_cross_entropy, xloss.value_and_grad(xloss.cross_entropy)
    negative = {"sample_weight": down, "validate": True}
    of_rows, by_class = {"reduction": "none", "cotangent": kept}, {"weight": kept, "group": group}
    soft = distribute_tensor(PROBS, mesh, [Shard(0)]).requires_grad_()
    last = torch.arange(8) + 2 * (torch.arange(8) > 6)  # the label on the last rank alone is bad
    cut, bad = distribute_tensor(last, mesh, [Shard(0)]), r"targets: label 9 at position \(7,\) is "
    cases: list[tuple[Any, str, tuple[Any, ...], dict[str, Any]]] = [
        *((call, bad, arrays, {}) for call in (loss, grad) for arrays in ((x, last), (x, cut))),
        (loss, bad, (columns, cut), {"validate": True}),
        (loss, "targets: of a mean over rows on several ranks", (x, soft), {}),
        (loss, r"sample_weight: negative at position \(7,\)", (x, LABELS), negative),
        (loss, "logits: is .*; redistribute", (partial, LABELS), {}),
        (loss, "logits: sharded along the class axis", (columns, PROBS), {}),
        (linear, "features, weight: DTensors are not taken", (x, w, LABELS), {}),
        (linear, "targets: is a DTensor, but features is none", (Z, w, some), {}),
        (linear, "bias: is a DTensor, but features", (Z, w, LABELS % 5), {"bias": kept[:5]}),
        (shard, "logits_shard: is a DTensor, but with group=", (x, LABELS), {"group": group}),
        (shard, "weight: is a DTensor, but logits_shard", (Z, LABELS), by_class),
        (grad, "cotangent: is a DTensor, but logits is none", (Z, LABELS), of_rows),
    ]
    for call, message, arrays, options in cases:
        with pytest.raises((IndexError, TypeError, ValueError), match=f"^{message}"):
            call(*arrays, **options)
    # An absent row is exempt, wherever it is.
    there = distribute_tensor(torch.arange(8) < 7, mesh, [Shard(0)])
    for z in (x, columns):
        close(loss(z, cut, where=there), loss(Z[:7], LABELS[:7]))


def whole_on_each_rank(mesh: Any) -> None:
    """What has no row of its own is of all ranks' rows: counts, records, diagnoses."""
    y = torch.where(LABELS == 3, -100, LABELS)
    x, t, s = (distribute_tensor(a, mesh, [Shard(0)]) for a in (Z, y, ROW))
    for weight in (s, ROW):
        assert xloss.effective_count(t, sample_weight=weight) == float(ROW[y >= 0].sum())
    for logits, labels in product((x, Z), (t, y)):
        got = xloss.Evaluation().update(logits, labels, sample_weight=s)
        assert got == xloss.Evaluation().update(Z, y, sample_weight=ROW)
        found = xloss.diagnose(logits, labels, sample_weight=s, normalizer=torch.tensor(2.0))
        assert found.loss == xloss.diagnose(Z, y, sample_weight=ROW, normalizer=2.0).loss
    for op in (xloss.softmax, xloss.log_softmax, xloss.logsumexp, xloss.entropy):
        close(op(x), op(Z))


def dtensors() -> None:
    ranks = GROUP[2]
    mesh = init_device_mesh("cpu", (ranks,))
    for axes in ((0,), (1,), (None,)):
        every_case(mesh, axes)
    if ranks == 4:
        every_case(init_device_mesh("cpu", (2, 2)), (0, 1))
    for held in (beside_plain_ones, refused, whole_on_each_rank):
        held(mesh)
