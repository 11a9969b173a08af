"""PyTorch on the GPU: xloss with and without autograd, eager, and torch.compile."""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import partial
from typing import Any

import torch

import xloss

from ..conventions.torch import F
from ..homes import home
from . import by_torch, gpu
from .clock import Call
from .contenders import Contender, SameValue, function
from .work import Data, Work


class Device:
    """PyTorch's current GPU, or the host in a rehearsal."""

    library = "torch"
    most = 200  # calls in one turn

    def __init__(self, device: str) -> None:
        self.on_gpu = device == "cuda"
        if self.on_gpu:
            home("cuda")  # or Missing, which says why there is none
        self.device = torch.device(device)
        self.versions = dict.fromkeys(("torch", "torch.compile"), str(torch.__version__))
        # A rehearsal has no events: the host's clock stands in for the GPU's.
        event: Any = torch.cuda.Event
        self.marks = [event(enable_timing=True) for _ in range(2)] if self.on_gpu else []

    def arrays(self, work: Work, given: Data) -> Data:
        x, y = (a.to(self.device) for a in by_torch.tensors(work, given)[:2])
        if len(x) < work.shape[0]:
            x = x.repeat(work.shape[0] // len(x), 1)
        return Data(x, y)

    def copy(self, x: Any) -> Call:
        to = torch.empty_like(x)
        return Call(lambda: to.copy_(x))

    def wait(self) -> None:
        if self.on_gpu:
            torch.cuda.synchronize()

    def fresh(self) -> None:
        """Forget what was compiled, before another work: beyond some shapes it would run eagerly.

        Memory that is not used is handed back.
        """
        torch.compiler.reset()
        if self.on_gpu:
            torch.cuda.empty_cache()

    def seconds(self, call: Call, runs: int) -> float:
        """Return the GPU's time for a call; one before them keeps it busy while they queue up."""
        call.before()
        call.run()
        start = self._now(0)
        for _ in range(runs):
            call.before()
            call.run()
        taken = self._since(start)
        call.before()
        return taken / runs

    def _now(self, mark: int) -> Any:
        if not self.on_gpu:
            return time.perf_counter()
        self.marks[mark].record()
        return self.marks[mark]

    def _since(self, start: Any) -> float:
        end = self._now(1)
        if not self.on_gpu:
            return float(end - start)
        end.synchronize()
        return float(start.elapsed_time(end)) / 1e3


def _rows(work: Work, gradient: Any) -> Any:
    at = torch.from_numpy(gpu.rows_read(work)).to(gradient.device)
    return gradient[at].double().cpu().numpy()


def _trained(loss: Callable[..., Any], work: Work, given: Data) -> Call:
    """Return loss(x, y), with .backward() where there is a gradient."""
    x: Any = given.x
    y = given.y
    if not work.gradient:
        return Call(lambda: loss(x, y))
    leaf = x.detach().requires_grad_()

    def run() -> Any:
        value = loss(leaf, y)
        value.backward()
        return value

    def before() -> None:
        leaf.grad = None

    def answer(got: Any) -> tuple[float, Any]:
        return float(got.detach()), _rows(work, leaf.grad)

    return Call(run, before=before, answer=answer)


def _autograd(work: Work, given: Data, threads: int) -> Call:
    return _trained(xloss.cross_entropy, work, given)


def _closed_form(work: Work, given: Data, threads: int) -> Call:
    if not work.gradient:
        raise SameValue("xloss torch")
    both, (x, y, _) = xloss.value_and_grad(xloss.cross_entropy), given
    return Call(lambda: both(x, y), answer=lambda got: (float(got[0]), _rows(work, got[1])))


def _eager(work: Work, given: Data, threads: int) -> Call:
    return _trained(function("torch"), work, given)


def _compiled(work: Work, given: Data, threads: int, ours: bool = False) -> Call:
    loss = xloss.cross_entropy if ours else function("torch")
    call = _trained(torch.compile(loss, fullgraph=True, dynamic=False), work, given)
    kept_whole = str(given.x.device).startswith("cuda") and xloss.engines()["cuda"] is None
    engine = "cuda" if kept_whole else "generic, traced"
    return Call(call.run, call.before, answer=call.answer, engine=engine if ours else "")


SAID = f"{F}.cross_entropy; .backward()"
CONTENDERS = {
    c.name: c
    for c in (
        Contender("xloss torch", "torch", "cross_entropy; .backward()", _autograd),
        Contender("xloss torch, closed form", "torch", "value_and_grad", _closed_form),
        Contender(
            "xloss torch.compile", "torch", "xloss torch under torch.compile(dynamic=False)",
            partial(_compiled, ours=True),
        ),
        Contender("torch", "torch", SAID, _eager, True),
        Contender(
            "torch.compile", "torch", "the same under torch.compile(dynamic=False)", _compiled, True
        ),
    )
}  # fmt: skip
