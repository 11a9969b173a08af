"""The engine compiled for NVIDIA's GPUs: cross-entropy of PyTorch's and CuPy's arrays.

Kernels run on the current stream of the arrays' library, in its memory, and nothing waits for them:
a call may stand in the capture of a CUDA graph, once it has been made before.
"""

from __future__ import annotations

import struct
from functools import cache
from math import prod
from typing import Any

from .._xp import INTEGERS, Array, Context, cast, dtype_name
from ..core.spec import NO_UPSTREAM, Need, Operands, Result, Spec, Upstream
from . import generic
from .device import driver
from .device.plan import KINDS, constants, plan, stages, sums
from .places import has_memory, places

name = "cuda"
RECOMPUTED = 0  # classes up to which a gradient reads no saved statistics

_INTEGERS = {n: i for i, n in enumerate(INTEGERS)}
_CALL = struct.Struct("<2q5q5q2q2qq2q2q2q2qqqq4d2q2qqq")
_SUMS = struct.Struct("<7q2qdq4q")
_LEFT = 152  # bytes that a block leaves for the others of its row between launches, at most
_SPAN, _WORKERS = 8192, 256  # rows, and threads, to a block that adds up
_GRID = 2**31 - 1
_NOWHERE = (0, 1, 0, 0, 1)


@cache
def unavailable() -> str | None:
    """Say why no call can be taken on this machine, or None."""
    return driver.missing()


def refuses(o: Operands, spec: Spec, cx: Context) -> str | None:
    """Say why this call cannot be taken, or None; never by its size."""
    if spec.kind != "cross_entropy":
        return f"only cross_entropy is compiled, not {spec.kind}"
    if not _on_gpu(cx):
        return f"it reads arrays of CuPy and of torch on NVIDIA's GPUs, not of {cx.library} here"
    if not cx.eager:
        return "the call is traced or differentiated by plain operations"
    if cx.library == "torch" and not all(a is None or has_memory(a) for a in o):
        return "a tensor's memory does not hold its values"
    return unavailable()


def _on_gpu(cx: Context) -> bool:
    if cx.library == "torch":
        return getattr(cx.device, "type", None) == "cuda" and not _is_rocm()
    return cx.library == "cupy"


@cache
def _is_rocm() -> bool:
    import torch

    return torch.version.hip is not None


def run(
    o: Operands, spec: Spec, cx: Context, classes: int, need: Need,
    up: Upstream = NO_UPSTREAM, saved: tuple[Array, ...] | None = None,
) -> Result:  # fmt: skip
    """Compute what is needed of a whole call; the class axis of every array is the last."""
    by_label = spec.indexed
    rest = Need(
        grad_targets=need.grad_targets, weight=need.weight and not need.total and not by_label
    )
    others = generic.run(o, spec, cx, classes, rest, up) if any(rest) else Result()
    need = need._replace(grad_targets=False, weight=need.weight and not rest.weight)
    if not any(need):
        return others
    if 0 in o.x.shape:
        made = generic.run(o, spec, cx, classes, need, up, saved)
    else:
        call = _Call(o, spec, cx, classes)
        got = Result()
        if need.rows or need.total or need.grad or need.stats:
            got = call.rows(need, up, saved)
        total = weight = None
        if need.total or need.weight:
            wanted = {"total": need.total, "total_weight": need.weight}
            total, weight = call.add(wanted, losses=got.rows if need.total else None)
        stats = got.stats if need.stats and saved is None else None
        made = Result(got.rows if need.rows else None, total, weight, got.grad, None, stats)
    return made._replace(
        grad_targets=others.grad_targets, weight=others.weight if rest.weight else made.weight
    )


def loss(
    o: Operands, spec: Spec, cx: Context, classes: int, normalizer: Any, stats: bool = False
) -> tuple[Array, Array | None, tuple[Array, ...] | None]:
    """Return the mean or the sum, what the mean was over but for a normalizer, and statistics."""
    call = _Call(o, spec, cx, classes)
    averages = spec.reduction == "mean"
    made = call.rows(Need(rows=True, stats=stats, weight=averages), NO_UPSTREAM, None)
    got, weight = call.add(
        {"loss": True, "total_weight": averages and stats}, made.rows, normalizer, averages
    )
    return got, weight, made.stats


def gradient(
    o: Operands, spec: Spec, cx: Context, classes: int, normalizer: Any, up: Any,
    weight: Array | None = None, saved: tuple[Array, ...] | None = None, value: bool = True,
) -> tuple[Array | None, Array]:  # fmt: skip
    """Return the loss if wanted, and the gradient; weight: what a mean was over, if known."""
    call = _Call(o, spec, cx, classes)
    averages = spec.reduction == "mean"
    slope = None
    if averages:
        if weight is None and not spec.indexed:
            weight = generic.run(o, spec, cx, classes, Need(weight=True)).weight
        slope, weight = call.add(
            {"slope": True, "total_weight": weight is None and value},
            normalizer=normalizer, averages=True, weight=weight,
        )  # fmt: skip
    made = call.rows(Need(rows=value, grad=True), Upstream(up), saved, slope)
    got = None
    if value:
        got, _ = call.add({"loss": True}, made.rows, normalizer, averages, weight)
    assert made.grad is not None
    return got, made.grad


class _Call:
    """One call: its arrays as addresses, packed as the kernels read them."""

    def __init__(self, o: Operands, spec: Spec, cx: Context, classes: int) -> None:
        self.o, self.spec, self.cx, self.classes = o, spec, cx, classes
        self.home = home = driver.home(cx.library)
        self.index = home.index(o.x)
        self.capability = home.capability(self.index)
        self.stream = home.stream(self.index)
        self.shape = tuple(o.x.shape[:-1])
        self.count = prod(self.shape)
        self.held: list[Any] = []
        at = places(home, o.x)
        if at is None:
            x = home.in_order(o.x)
            self.held.append(x)
            at = places(home, x)
            assert at is not None
        self.x = at
        self.acc = dtype_name(cx.acc)
        self.weights: Array | None = None
        ignore, ignores = 0, 0
        labels = soft = (0, 0)
        self.soft = None
        if spec.indexed:
            labels = self.column(o.targets, _INTEGERS)
            if spec.ignore_index is not None:
                low, high = INTEGERS[dtype_name(o.targets.dtype)]  # type: ignore[union-attr]
                if low <= spec.ignore_index <= high:
                    ignores, ignore = 1, (spec.ignore_index + 2**63) % 2**64 - 2**63
        else:
            t = o.targets
            if dtype_name(t.dtype) not in (dtype_name(o.x.dtype), self.acc):  # type: ignore[union-attr]
                t = cast(cx, t, cx.acc)
            self.soft = dtype_name(t.dtype)  # type: ignore[union-attr]
            soft = self.column(t, KINDS)
        self.facts = (
            *labels, ignores, ignore, self.column(o.where, None)[0],
            *self.column(o.sample_weight, KINDS), *self.column(o.class_weight, KINDS), *soft,
        )  # fmt: skip

    def column(self, a: Array | None, kinds: dict[str, int] | None) -> tuple[int, int]:
        """Return where an array lies in C order, and how its elements are stored."""
        if a is None:
            return 0, 0
        kind = 0
        if kinds is not None:
            known = kinds.get(dtype_name(a.dtype))
            if known is None:
                a = cast(self.cx, a, self.cx.acc)
                known = kinds[self.acc]
            kind = known
        a = self.home.in_order(a)
        self.held.append(a)
        return self.home.address(a), kind

    def empty(self, dtype: Any, *shape: int) -> Array:
        """Make an array on the GPU."""
        return self.home.empty(shape, dtype, self.o.x)

    def rows(
        self, need: Need, up: Upstream, saved: tuple[Array, ...] | None, slope: Array | None = None
    ) -> Result:
        """Compute row losses, statistics and the gradient, in one launch where a GPU can."""
        cx, spec, home, where = self.cx, self.spec, self.home, self.home.address
        x, shape = self.o.x, self.shape
        losses = self.empty(cx.acc, *shape) if need.rows or need.total else None
        if need.weight or need.total:
            self.weights = self.empty(cx.wide, *shape)
        stats = saved
        if saved is None and need.stats:
            stats = self.empty(cx.acc, *shape), self.empty(cx.wide, *shape)
        elif saved is not None:
            stats = tuple(map(home.in_order, saved))
        grad: Array | None = None
        to: Any = _NOWHERE
        if need.grad:
            grad = self.empty(x.dtype, *x.shape)
            to = places(home, grad)
        factor, column, step = 1.0, (0, 0), 0
        if isinstance(up.row, float):
            factor = up.row
        else:
            column = self.column(up.row, KINDS)
            step = int(up.row.ndim > 0)
        p = plan(self.classes, x.dtype.itemsize, self.x.class_step != 1)
        launches = stages(p, self.capability)
        work = None
        if len(launches) > 1:
            work = self.empty(cx.wide, self.count * p.parts * _LEFT // 8)
        live = self.column(up.live, None)[0]
        packed = _CALL.pack(
            self.count, self.classes, *self.x, *to, *self.facts, *column, step,
            0 if slope is None else where(slope), live, factor, spec.label_smoothing, spec.z_loss,
            spec.softcap or 0.0, 0 if losses is None else where(losses),
            where(self.weights) if need.weight or need.total else 0,
            0 if stats is None else where(stats[0]), 0 if stats is None else where(stats[1]),
            saved is not None, 0 if work is None else where(work),
        )  # fmt: skip
        together = p.threads // p.group
        grid = min(-(-self.count // together), _GRID // p.parts) * p.parts
        for stage in launches:
            made_of = constants(
                p, dtype_name(x.dtype), self.soft, smooth=spec.label_smoothing > 0,
                cap=spec.softcap is not None, grad=need.grad, stage=stage,
            )  # fmt: skip
            kernel = driver.load(made_of, self.capability, self.index)
            driver.launch(kernel, self.index, grid, p.threads, self.stream, packed)
        return Result(rows=losses, grad=grad, stats=stats)

    def add(
        self, wanted: dict[str, bool], losses: Array | None = None, normalizer: Any = None,
        averages: bool = False, weight: Array | None = None,
    ) -> tuple[Any, Any]:  # fmt: skip
        """Add up losses and weights; return what is wanted, and the weight if that is."""
        cx, where = self.cx, self.home.address
        kernel = driver.load(sums(self.acc), self.capability, self.index)
        results = []
        for result in ("loss", "total", "total_weight", "slope"):
            dtype, length = (cx.acc if result == "loss" else cx.wide), (2,) * (result == "slope")
            results.append(self.empty(dtype, *length) if wanted.get(result) else None)
        divisor, column = float("nan"), (0, 0)
        if isinstance(normalizer, int | float):
            divisor = float(normalizer)
        elif normalizer is not None:
            column = self.column(normalizer, KINDS)
        tail = (
            0 if weight is None else where(weight), *column, divisor, averages,
            *(0 if r is None else where(r) for r in results),
        )  # fmt: skip
        # Row weights: as the kernel of rows left them, or of labels, or given as one number.
        weights = self.weights if losses is not None else None
        asked = averages or wanted.get("total_weight", False)
        weighs = asked and weights is None and weight is None and self.spec.indexed
        facts = _CALL.pack(
            self.count if weighs else 0, self.classes, *_NOWHERE, *_NOWHERE, *self.facts,
            *(0,) * 5, *(0.0,) * 4, *(0,) * 6,
        )  # fmt: skip
        there = 0 if losses is None else where(losses), 0 if weights is None else where(weights)
        count = self.count if any(there) or weighs else 0
        partial = 0
        if count > _SPAN:
            blocks = -(-count // _SPAN)
            room = self.empty(cx.wide, 2 * blocks)
            self.held.append(room)
            partial = where(room)
            packed = _SUMS.pack(count, *there, partial, 0, 0, *tail)
            driver.launch(kernel, self.index, blocks, _WORKERS, self.stream, packed, facts)
            count = blocks
        packed = _SUMS.pack(count, *there, partial, partial != 0, 1, *tail)
        driver.launch(kernel, self.index, 1, _WORKERS, self.stream, packed, facts)
        made = dict(zip(("loss", "total", "total_weight", "slope"), results, strict=True))
        first = next((made[n] for n in ("loss", "total", "slope") if made[n] is not None), None)
        return first, made["total_weight"] if weight is None else weight
