"""Quack and Liger as they are called on a GPU, by stand-ins that have their signatures."""

from __future__ import annotations

import importlib
import sys
from types import ModuleType
from typing import Any

import pytest

pytest.importorskip("torch", reason="pip install 'xloss[torch]'")
import torch
import torch.nn.functional as F

from benchmarks import ahead, tasks
from benchmarks.work import Work
from xloss_conformance import bench, load_object

PACE: dict[str, Any] = {"seconds": 1e-4, "least": 2, "most": 2}
NAMES = ("xloss torch", "Quack", "Quack, autograd", "Liger")


def cross_entropy_fwd(
    x: Any,
    target: Any,
    target_logit: Any = None,
    weight: Any = None,
    ignore_index: int = -100,
    return_lse: bool = False,
    return_dx: bool = False,
    inplace_backward: bool = False,
) -> Any:
    """Quack's: losses in float32, and with `return_dx` the gradient of their sum."""
    losses = F.cross_entropy(x.float(), target, reduction="none")
    if not return_dx:
        return losses
    gradient = torch.softmax(x.float(), -1)
    gradient[torch.arange(len(target)), target] -= 1
    return losses, gradient.to(x.dtype)


def cross_entropy(x: Any, target: Any, *options: Any, reduction: str = "mean") -> Any:
    return F.cross_entropy(x.float(), target, reduction=reduction)


class Over(torch.autograd.Function):  # type: ignore[misc, no-untyped-call, unused-ignore]
    """Liger's: a tuple of four, and the gradient over the logits."""

    @staticmethod
    def forward(
        ctx: Any,
        _input: Any,
        target: Any,
        weight: Any,
        ignore_index: int = -100,
        lse_square_scale: float = 0.0,
        label_smoothing: float = 0.0,
        reduction: str = "mean",
    ) -> Any:
        z = _input.detach().float()
        if ctx.needs_input_grad[0]:
            _, gradient = cross_entropy_fwd(z, target, return_dx=True)
            _input.detach().copy_(gradient / len(target))
            ctx.save_for_backward(_input.detach())
        return F.cross_entropy(z, target, reduction=reduction), None, None, None

    @staticmethod
    def backward(ctx: Any, upstream: Any, *others: Any) -> Any:
        return (ctx.saved_tensors[0] * upstream, *(None,) * 6)


class Fused:
    @staticmethod
    def apply(_input: Any, weight: Any, target: Any, bias: Any = None) -> Any:
        return F.cross_entropy((_input @ weight.T).float(), target), None, None, None


@pytest.fixture
def installed(monkeypatch: pytest.MonkeyPatch) -> None:
    made: dict[str, dict[str, Any]] = {
        "quack": {},
        "quack.cross_entropy": {
            "cross_entropy": cross_entropy,
            "cross_entropy_fwd": cross_entropy_fwd,
        },
        "liger_kernel": {},
        "liger_kernel.ops": {},
        "liger_kernel.ops.cross_entropy": {"LigerCrossEntropyFunction": Over},
        "liger_kernel.ops.fused_linear_cross_entropy": {
            "LigerFusedLinearCrossEntropyFunction": Fused
        },
    }
    for name, of in made.items():
        module = ModuleType(name)
        vars(module).update(of)
        monkeypatch.setitem(sys.modules, name, module)
    monkeypatch.setattr(bench, "version", lambda name: "0.6.5")


def times(works: list[Work]) -> tuple[dict[str, Any], list[Any]]:
    groups = [
        tasks.Group([work], [n for n in NAMES if not (work.features and "Quack" in n)], PACE)
        for work in works
    ]
    found = list(tasks.times(1, groups, "cpu"))
    return {of["name"]: of for kind, of in found if kind == "contenders"}, found


@pytest.mark.usefixtures("installed")
def test_they_take_turns_with_xloss() -> None:
    # Liger's loss of a 16-bit row may be of 16 bits: its own logits are read before they go.
    works = [Work("gradient", (32, 60), gradient, "bfloat16") for gradient in (True, False)]
    works.append(Work("linear", (8, 50), True, features=16))
    told, found = times(works)
    assert told["Quack"]["version"] == "0.6.5"
    entries = [of for kind, of in found if kind == "works"]
    assert [entry["refused"] for entry in entries] == [[], [], []]
    runs = [{run["contender"]: run for run in entry["runs"]} for entry in entries]
    assert [list(of) for of in runs] == [
        list(NAMES),
        ["xloss torch", "Quack", "Liger"],
        ["xloss torch", "Liger"],
    ]
    # Quack's gradient is the sum's: as the mean's it is right, and each loss is compared.
    assert runs[0]["Quack"]["gradient_ulp"] <= 1
    assert runs[0]["Quack"]["tail"] is not None


def test_those_that_are_not_installed_or_broken_are_a_line_each(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def finding(name: str, *given: Any) -> Any:
        if name == "quack.cross_entropy":
            raise ImportError("libtvm_ffi_testing.so: no such file")
        return importlib.import_module(name, *given)

    monkeypatch.setitem(sys.modules, "liger_kernel", None)
    monkeypatch.setattr(load_object, "import_module", finding)
    told, found = times([Work("forward", (32, 60))])
    assert list(told) == ["xloss torch"]
    broken = "cannot be imported: ImportError: libtvm_ffi_testing.so: no such file"
    assert [of for kind, of in found if kind == "missing"] == [
        f"Quack: {broken}",
        f"Quack, autograd: {broken}",
        "Liger: liger_kernel is not installed: pip install liger-kernel",
    ]


@pytest.mark.usefixtures("installed")
def test_first_calls_are_made_ahead_or_say_what_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    assert ahead.first_call("cpu", "xloss torch", "bfloat16", 16) == ""
    assert ahead.first_call("cpu", "Quack", "float32", 16) == ""
    assert ahead.first_call("cpu", "Quack, autograd", "float32", 16) == ""

    def broken(*arguments: Any, **options: Any) -> Any:
        raise RuntimeError("no kernel image\nis available")

    monkeypatch.setattr(sys.modules["quack.cross_entropy"], "cross_entropy_fwd", broken)
    said = ahead.first_call("cpu", "Quack", "float32", 16)
    assert said == "fails: RuntimeError: no kernel image"


def test_what_fails_ahead_for_one_reason_is_one_line() -> None:
    calls = [(name, "float32", 16) for name in ("torch linear", "torch", "torch linear, chunked")]
    found = dict(ahead.compile_ahead(1, "cpu", calls))
    assert found["compiled"]["calls"] == 3
    assert found["missing"].startswith("compiling ahead, torch linear float32 at 16 classes and ")
    assert ": is for linear_cross_entropy" in found["missing"]
