"""What ranks of test_spread_libraries.py do with DTensors: values, gradients, and errors of all."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import product
from typing import Any

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

import xloss
from spread import GROUP
from spread_torch import close, drawn

LABELS = torch.tensor([0, 1, 2, 3, 4, 5, 6, 1])
Z = (torch.arange(64.0, dtype=torch.float64).reshape(8, 8) * 37 % 11) / 4
PROBS = torch.softmax(Z.flip(0), -1)
ROW = torch.tensor([1.0, 2.0, 0.5, 0.0, 1.0, 3.0, 1.0, 1.0], dtype=torch.float64)
CLASS = torch.linspace(0.5, 2.0, 8, dtype=torch.float64)
NORMALIZER = torch.tensor(3.0, dtype=torch.float64)
BY_ROW = {"sample_weight": ROW, "where": ROW > 0.5}
BOTH = {"weight": CLASS, **BY_ROW}
CALLS: dict[str, tuple[Any, Any, dict[str, Any]]] = {
    "cross_entropy": (Z, LABELS, BOTH),
    "focal_loss": (Z, LABELS, {"weight": CLASS, "sample_weight": ROW}),
    "nll_loss": (Z.log_softmax(-1), LABELS, {"weight": CLASS, "sample_weight": ROW}),
    "log_loss": (PROBS, LABELS, {"weight": CLASS, "where": ROW > 0.5}),
    "kl_div": (Z.log_softmax(-1), PROBS, BY_ROW),
    "binary_cross_entropy": (PROBS, PROBS.flip(0), {"sample_weight": PROBS}),
    "binary_cross_entropy_with_logits": (Z, PROBS, {"pos_weight": CLASS, "sample_weight": PROBS}),
    "sigmoid_focal_loss": (Z, PROBS, {"sample_weight": PROBS}),
}


def hold(
    loss: Any,
    x: Any,
    t: Any,
    options: dict[str, Any],
    mesh: Any,
    placed: list[Any],
    also: tuple[str, ...] = (),
    ulp: float = 8,
) -> None:
    """Hold a call on DTensors to that on plain tensors; `also` names further arguments spread."""
    what = loss.__name__, placed, list(options), also
    given = {"targets": t, **options}
    given |= {k: distribute_tensor(given[k], mesh, [Shard(0)]) for k in also}
    target = given.pop("targets")
    mine, whole = distribute_tensor(x, mesh, placed).requires_grad_(), x.clone().requires_grad_()
    got, want = loss(mine, target, **given), loss(whole, t, **options)
    got.sum().backward()
    want.sum().backward()
    assert isinstance(got, DTensor), what
    assert mine.grad.placements == tuple(placed), what
    if "reduction" not in options:
        assert got.placements == (Replicate(),) * len(placed), what
    value, grad = xloss.value_and_grad(loss)(mine.detach(), target, **given)
    ulp += options.get("softcap", 0.0)
    for a, b in ((got, want), (mine.grad, whole.grad), (value, want), (grad, whole.grad)):
        close(a, b, ulp, what)


def layouts(number: int) -> Iterator[tuple[Any, list[Any]]]:
    line = init_device_mesh("cpu", (number,))
    for placement in (Shard(2), Shard(0), Replicate()):
        yield line, [placement]
    if number == 4:
        square = init_device_mesh("cpu", (2, 2))
        yield square, [Shard(0), Shard(2)]
        yield square, [Shard(2), Shard(1)]


def every_layout() -> None:
    """Values and gradients of every layout and option are the dense ones, and spread alike."""
    z, y, weight, sample = drawn()
    weighted = {"weight": weight, "sample_weight": sample}
    options: list[dict[str, Any]] = [
        {"axis": 1},
        {"reduction": "none"},
        {**weighted, "label_smoothing": 0.1, "z_loss": 0.1, "softcap": 8.0},
        {"sample_weight": sample, "reduction": "sum"},
        {"normalizer": 7.0},
    ]
    for (mesh, placed), given in product(layouts(GROUP[2]), options):
        x = z
        if "axis" in given:
            x = z.movedim(2, 1).contiguous()
            placed = [Shard((0, 2, 1)[p.dim]) if p.is_shard() else p for p in placed]
        hold(xloss.cross_entropy, x, y, given, mesh, placed)


def every_argument(mesh: Any) -> None:
    """Each argument beside DTensor logits, plain or spread; beside plain ones it is named."""
    for name, (x, t, options) in CALLS.items():
        loss = getattr(xloss, name)
        for also in ((), tuple(options), ("targets",)):
            hold(loss, x, t, options, mesh, [Shard(0)], also, ulp=45)
        hold(loss, x, t, {**options, "normalizer": NORMALIZER}, mesh, [Shard(0)], ulp=45)
        if "bin" in name or "sigmoid" in name:  # no class axis: every axis may be spread
            hold(loss, x, t, {**options, "reduction": "none"}, mesh, [Shard(1)])
        given = {**options, "targets": t, "normalizer": NORMALIZER}
        for argument, value in given.items():
            more = {**given, argument: distribute_tensor(value, mesh, [Replicate()])}
            with pytest.raises(TypeError, match=f"^{argument}: is a DTensor, but "):
                loss(x, more.pop("targets"), **more)
    z, y, weight, _ = drawn()
    hold(xloss.cross_entropy, z, y, {"weight": weight}, mesh, [Shard(2)], ("targets", "weight"))


def soft_targets(mesh: Any) -> None:
    """Soft targets that are DTensors have a gradient of a sum, none of a mean over all rows."""
    x, soft = distribute_tensor(Z, mesh, [Shard(0)]), PROBS.clone().requires_grad_()
    theirs = distribute_tensor(PROBS, mesh, [Shard(0)]).requires_grad_()
    got, want = (xloss.cross_entropy(*a, reduction="sum") for a in ((x, theirs), (Z, soft)))
    got.backward()
    want.backward()
    close(got, want, 8, "soft")
    close(theirs.grad, soft.grad, 8, "soft")
    with pytest.raises(ValueError, match="targets: of a mean over rows on several ranks"):
        xloss.cross_entropy(x, theirs)


def bad_labels(mesh: Any) -> None:
    """A bad label on the last rank alone: every rank raises, and names its place in the whole."""
    bad = torch.tensor([0, 1, 2, 3, 4, 5, 6, 9])
    spread = distribute_tensor(bad, mesh, [Shard(0)])
    where = distribute_tensor(torch.arange(8) < 7, mesh, [Shard(0)])
    want = r"^targets: label 9 at position \(7,\) is outside \[0, 8\)"
    for placed, t in product(([Shard(0)], [Replicate()], [Shard(1)]), (bad, spread)):
        x = distribute_tensor(Z, mesh, placed)
        losses = xloss.cross_entropy, xloss.value_and_grad(xloss.cross_entropy)
        for validate, loss in product(("auto", True), losses):
            with pytest.raises(IndexError, match=want):
                loss(x, t, validate=validate)
        # An absent row is exempt wherever it is.
        got = xloss.cross_entropy(x, t, where=where)
        close(got, xloss.cross_entropy(Z[:7], LABELS[:7]), 45, placed)
        assert torch.isnan(xloss.cross_entropy(x, t, validate=False).full_tensor())


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
    cases: list[tuple[Any, str, tuple[Any, ...], dict[str, Any]]] = [
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
        with pytest.raises((TypeError, ValueError), match=f"^{message}"):
            call(*arrays, **options)


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
        close(op(x), op(Z), 45, op.__name__)


def dtensors() -> None:
    every_layout()
    mesh = init_device_mesh("cpu", (GROUP[2],))
    for held in (every_argument, soft_targets, bad_labels, refused, whole_on_each_rank):
        held(mesh)
