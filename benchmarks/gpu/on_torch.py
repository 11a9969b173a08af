"""PyTorch on the GPU: xloss with and without autograd, eager and compiled PyTorch."""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F

import xloss
from xloss_conformance.timing import Call

from ..contenders import Contender, Missing, SameValue, ours, tensors, torch_loss
from ..contenders import F as FUNCTIONS
from ..work import Data, Work
from . import check, plan

BLOCK = 1024  # rows of a linear layer's logits that are held at once in float32


class Device:
    """PyTorch's current GPU, or the host in a rehearsal."""

    library = "torch"
    most = 200  # calls in one turn

    def __init__(self, device: str) -> None:
        self.on_gpu = device == "cuda"
        if self.on_gpu and not torch.cuda.is_available():
            raise Missing("torch: PyTorch finds no GPU: a CUDA build of it, and a driver")
        self.device = torch.device(device)
        self.versions = dict.fromkeys(("torch", "torch.compile"), str(torch.__version__))
        # A rehearsal has no events: the host's clock stands in for the GPU's.
        event: Any = torch.cuda.Event
        self.marks = [event(enable_timing=True) for _ in range(2)] if self.on_gpu else []

    def given(self, work: Work) -> tuple[Data, check.Right]:
        """Return the arguments of a call on the GPU, and what must come out."""
        if work.features:
            return self._linear(work)
        drawn = plan.data(work.op, work.shape, work.dtype, work.axis)
        x, y = (a.to(self.device) for a in tensors(drawn))
        x = x[torch.arange(len(y), device=self.device) % len(x)]
        if work.axis != -1:
            x = x.view(*work.rows, work.classes).movedim(-1, work.axis).contiguous()
        return Data(x, y.view(work.rows)), check.right(work)

    def _linear(self, work: Work) -> tuple[Data, check.Right]:
        """Draw a linear layer on the GPU, and compute in float32 what its loss must be."""
        rng = torch.Generator(self.device).manual_seed(0)
        rows, classes = work.shape
        kind = getattr(torch, work.dtype)

        def normal(count: int) -> Any:
            return torch.randn(count, work.features, generator=rng, device=self.device)

        x, weight = normal(rows).to(kind), (normal(classes) * 3 * work.features**-0.5).to(kind)
        y: Any = torch.randint(classes, (rows,), generator=rng, device=self.device)
        wide = weight.float()
        parts = [
            F.cross_entropy(x[at : at + BLOCK].float() @ wide.T, y[at : at + BLOCK]).double()
            * len(y[at : at + BLOCK])
            for at in range(0, rows, BLOCK)
        ]
        at = torch.from_numpy(check.rows_read(work)).to(self.device)
        p = torch.softmax(x[at].float() @ wide.T, -1)
        p[torch.arange(len(at), device=self.device), y[at]] -= 1
        gradient = (p @ wide).double().cpu().numpy() / rows
        value = float(torch.stack(parts).sum()) / rows
        return Data(x, y, weight), check.Right(value, np.zeros(0), gradient)

    def bound(self, work: Work, given: Data) -> tuple[str, Call]:
        """Return what every implementation must do: move the logits, or multiply three times."""
        x: Any = given.x
        if not work.features:
            to = torch.empty_like(x)
            return "copy", Call(lambda: to.copy_(x))
        weight: Any = given.weight
        logits = x.new_empty(work.shape)
        outs = torch.empty_like(x), torch.empty_like(weight)

        def products() -> None:
            torch.mm(x, weight.T, out=logits)
            torch.mm(logits, weight, out=outs[0])
            torch.mm(logits.T, x, out=outs[1])

        return "products", Call(products)

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

    def peak(self, call: Call) -> int | None:
        """Return the most bytes that a call holds beyond what there was before."""
        if not self.on_gpu:
            return None
        call.before()
        torch.cuda.synchronize()
        before = torch.cuda.memory_allocated()
        torch.cuda.reset_peak_memory_stats()
        call.run()
        torch.cuda.synchronize()
        most = torch.cuda.max_memory_allocated()
        call.before()
        return int(most - before)

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


def first_calls(device: str, dtype: str, classes: int) -> None:
    """Call xloss in every way that is timed, so that its kernels are compiled.

    There are so many rows that none of those for a small batch is.
    """
    rows = 1100 if device == "cuda" else 2
    x: Any = torch.zeros(rows, classes, dtype=getattr(torch, dtype), device=device)
    y = torch.zeros(rows, dtype=torch.int64, device=device)
    xloss.cross_entropy(x, y)
    xloss.value_and_grad(xloss.cross_entropy)(x, y)
    loss: Any = xloss.cross_entropy(x.requires_grad_(), y)
    loss.backward()


def read(work: Work, gradient: Any) -> Any:
    """Return the rows of a gradient that are compared."""
    at = torch.from_numpy(check.rows_read(work)).to(gradient.device)
    width = work.features or work.classes
    rows = gradient.movedim(-1 if work.features else work.axis, -1).reshape(-1, width)
    return rows[at].double().cpu().numpy()


def losses(work: Work, loss: Callable[..., Any], x: Any, y: Any) -> Callable[[], Any]:
    """Return what gives the losses of the rows that are compared."""

    def some() -> Any:
        with torch.no_grad():
            found = loss(x, y, reduction="none").flatten()
        at = torch.from_numpy(check.rows_read(work)).to(found.device)
        return found[at].double().cpu().numpy()

    return some


def trained(loss: Callable[..., Any], work: Work, given: Data) -> Call:
    """Return the loss, with .backward() where there is a gradient."""
    x: Any = given.x
    y, weight = given.y, given.weight
    if not work.gradient:
        return Call(lambda: loss(x, y), losses=losses(work, loss, x, y))
    asked: list[Any] = [x] if weight is None else [x, weight]
    leaves = [a.detach().requires_grad_() for a in asked]

    def run() -> Any:
        value = loss(*leaves, y)
        value.backward()
        return value

    def before() -> None:
        for leaf in leaves:
            leaf.grad = None

    def answer(got: Any) -> tuple[float, Any]:
        return float(got.detach()), read(work, leaves[0].grad)

    return Call(run, before, answer=answer, losses=losses(work, loss, x, y))


def _autograd(work: Work, given: Data, threads: int) -> Call:
    return trained(ours(work), work, given)


def _closed_form(work: Work, given: Data, threads: int) -> Call:
    if not work.gradient:
        raise SameValue("xloss torch")
    x, y, weight = given
    loss: Any = xloss.linear_cross_entropy if work.features else xloss.cross_entropy
    both = xloss.value_and_grad(loss, (0, 1) if work.features else 0)
    arguments = (x, y) if weight is None else (x, weight, y)
    options = {} if work.axis == -1 else {"axis": work.axis}

    def answer(got: Any) -> tuple[float, Any]:
        return float(got[0]), read(work, got[1][0] if work.features else got[1])

    some = losses(work, ours(work), x, y)
    return Call(lambda: both(*arguments, **options), answer=answer, losses=some)


def _eager(work: Work, given: Data, threads: int) -> Call:
    return trained(torch_loss(work), work, given)


def _compiled(work: Work, given: Data, threads: int, mine: bool = False) -> Call:
    loss = ours(work) if mine else torch_loss(work)
    call = trained(torch.compile(loss, fullgraph=True, dynamic=False), work, given)
    kept_whole = str(given.x.device).startswith("cuda") and xloss.engines()["cuda"] is None
    engine = "cuda" if kept_whole else "generic, traced"
    return Call(call.run, call.before, answer=call.answer, engine=engine if mine else "")


SAID = f"{FUNCTIONS}.cross_entropy; .backward()"
OWN = (
    Contender("xloss torch", "torch", "cross_entropy; .backward()", _autograd),
    Contender("xloss torch, closed form", "torch", "value_and_grad", _closed_form),
    Contender(
        "xloss torch.compile",
        "torch",
        "xloss torch under torch.compile(dynamic=False)",
        partial(_compiled, mine=True),
    ),
    Contender("torch", "torch", SAID, _eager, True),
    Contender(
        "torch.compile", "torch", "the same under torch.compile(dynamic=False)", _compiled, True
    ),
)
