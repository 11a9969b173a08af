"""What ranks of test_spread_libraries.py do: DTensors beside plain tensors, and errors of all."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch.distributed.tensor import Replicate, Shard, distribute_tensor, init_device_mesh

import xloss

LABELS = torch.tensor([0, 1, 2, 3, 4, 5, 6, 1])
Z = (torch.arange(64.0, dtype=torch.float64).reshape(8, 8) * 37 % 11) / 4
PROBS = torch.softmax(Z.flip(0), -1)
ROW = torch.tensor([1.0, 2.0, 0.5, 0.0, 1.0, 3.0, 1.0, 1.0], dtype=torch.float64)
CLASS = torch.linspace(0.5, 2.0, 8, dtype=torch.float64)


def same(got: Any, want: Any, what: Any) -> None:
    got = got.full_tensor() if hasattr(got, "full_tensor") else got
    torch.testing.assert_close(got, want, rtol=1e-14, atol=1e-15, msg=lambda m: f"{what}: {m}")


def bad_labels(mesh: Any) -> None:
    """A bad label on the last rank alone: every rank raises, and names its place in the whole."""
    bad = torch.tensor([0, 1, 2, 3, 4, 5, 6, 9])
    want = r"^targets: label 9 at position \(7,\) is outside \[0, 8\)"
    for placed in ([Shard(0)], [Replicate()], [Shard(1)]):
        x = distribute_tensor(Z, mesh, placed)
        for t in (bad, distribute_tensor(bad, mesh, [Shard(0)])):
            for validate in ("auto", True):
                for loss in (xloss.cross_entropy, xloss.value_and_grad(xloss.cross_entropy)):
                    with pytest.raises(IndexError, match=want):
                        loss(x, t, validate=validate)
            # An absent row is exempt wherever it is.
            where = distribute_tensor(torch.arange(8) < 7, mesh, [Shard(0)])
            same(
                xloss.cross_entropy(x, t, where=where),
                xloss.cross_entropy(Z[:7], LABELS[:7]),
                placed,
            )
    x = distribute_tensor(Z, mesh, [Shard(0)])
    wrong = torch.zeros(8, 8, dtype=torch.int64)
    wrong[7, 0] = 5
    wrong = distribute_tensor(wrong, mesh, [Shard(0)])
    with pytest.raises(ValueError, match=r"^targets: 5 at position \(7, 0\) is neither 0 nor 1"):
        xloss.binary_cross_entropy_with_logits(x, wrong)
    negative = PROBS.clone()
    negative[6, 3] = -1.0
    with pytest.raises(ValueError, match=r"^targets: negative at position \(6, 3\)"):
        xloss.cross_entropy(x, distribute_tensor(negative, mesh, [Shard(0)]), validate=True)
    down = distribute_tensor(-(torch.arange(8.0) > 6).double(), mesh, [Shard(0)])
    with pytest.raises(ValueError, match=r"^sample_weight: negative at position \(7,\)"):
        xloss.cross_entropy(x, LABELS, sample_weight=down, validate=True)


CALLS: dict[str, tuple[Any, Any, dict[str, Any]]] = {
    "cross_entropy": (Z, LABELS, {"weight": CLASS, "sample_weight": ROW, "where": ROW > 0.5}),
    "focal_loss": (Z, LABELS, {"weight": CLASS, "sample_weight": ROW}),
    "nll_loss": (Z.log_softmax(-1), LABELS, {"weight": CLASS, "sample_weight": ROW}),
    "log_loss": (PROBS, LABELS, {"weight": CLASS, "where": ROW > 0.5}),
    "kl_div": (Z.log_softmax(-1), PROBS, {"sample_weight": ROW, "where": ROW > 0.5}),
    "binary_cross_entropy": (PROBS, PROBS.flip(0), {"sample_weight": PROBS}),
    "binary_cross_entropy_with_logits": (Z, PROBS, {"pos_weight": CLASS, "sample_weight": PROBS}),
    "sigmoid_focal_loss": (Z, PROBS, {"sample_weight": PROBS}),
}


def plain_beside(mesh: Any) -> None:
    """Every argument beside DTensor logits, plain or spread; beside plain ones it is named."""
    for name, (x, t, options) in CALLS.items():
        loss = getattr(xloss, name)
        spread_x = distribute_tensor(x, mesh, [Shard(0)])

        def placed(a: Any) -> Any:
            return distribute_tensor(a, mesh, [Shard(0)])

        cases = [dict.fromkeys(options, False), dict.fromkeys(options, True)]
        cases += [{**cases[0], "targets": True}]
        for case in cases:
            given = {k: placed(v) if case[k] else v for k, v in options.items()}
            target = placed(t) if case.get("targets") else t
            for extra in ({}, {"normalizer": torch.tensor(3.0).double()}):
                same(
                    loss(spread_x, target, **given, **extra),
                    loss(x, t, **options, **extra),
                    (name, case),
                )
        given = {"targets": t, **options, "normalizer": torch.tensor(3.0).double()}
        for argument, value in given.items():
            alone = distribute_tensor(value, mesh, [Replicate()])
            more = {k: v for k, v in given.items() if k != "targets"} | {argument: alone}
            target = more.pop("targets", t)
            with pytest.raises(TypeError, match=f"^{argument}: is a DTensor, but "):
                loss(x, target, **more)
    w = torch.linspace(-1, 1, 40, dtype=torch.float64).reshape(5, 8)
    alone = distribute_tensor(LABELS % 5, mesh, [Shard(0)])
    with pytest.raises(TypeError, match=r"^targets: is a DTensor, but features is none"):
        xloss.linear_cross_entropy(Z, w, alone)


def whole_on_each_rank(mesh: Any) -> None:
    """What has no row of its own is of all ranks' rows: counts, records, diagnoses."""
    y = torch.where(LABELS == 3, -100, LABELS)
    x, t, s = (distribute_tensor(a, mesh, [Shard(0)]) for a in (Z, y, ROW))
    same(xloss.effective_count(t), torch.tensor(7.0).double(), "count")
    want = float(ROW[y >= 0].sum())
    same(xloss.effective_count(t, sample_weight=s), torch.tensor(want).double(), "count")
    same(xloss.effective_count(t, sample_weight=ROW), torch.tensor(want).double(), "count")
    soft = distribute_tensor(PROBS, mesh, [Shard(0)])
    same(xloss.effective_count(soft), torch.tensor(8.0).double(), "count")
    for logits in (x, Z):
        for labels in (t, y):
            got = xloss.Evaluation().update(logits, labels, sample_weight=s)
            assert got == xloss.Evaluation().update(Z, y, sample_weight=ROW)
            found = xloss.diagnose(logits, labels, sample_weight=s, normalizer=torch.tensor(2.0))
            assert found.loss == xloss.diagnose(Z, y, sample_weight=ROW, normalizer=2.0).loss
    for op in (xloss.softmax, xloss.log_softmax, xloss.logsumexp, xloss.entropy):
        same(op(x), op(Z), op.__name__)


def meshes() -> None:
    mesh = init_device_mesh("cpu", (torch.distributed.get_world_size(),))
    bad_labels(mesh)
    plain_beside(mesh)
    whole_on_each_rank(mesh)
