"""The engine compiled for NVIDIA's GPUs: cross-entropy of PyTorch's and CuPy's arrays.

Kernels run on the current stream of the arrays' library, in its memory, and nothing waits for them:
a call may stand in the capture of a CUDA graph, once it has been made before.
"""

from __future__ import annotations

import struct
from functools import cache
from math import nan, prod
from typing import Any

from .._xp import INTEGERS, Array, Context, cast, dtype_name, has_memory
from ..core.spec import NO_UPSTREAM, Need, Operands, Result, Spec, Upstream
from . import generic
from .device import driver
from .device.plan import KINDS, constants, plan, stages, sums
from .places import places

name = "cuda"
RECOMPUTED = 0  # classes up to which a gradient reads no saved statistics

_INTEGERS = {n: i for i, n in enumerate(INTEGERS)}
_CALL = struct.Struct("<2q5q5q2q2qq2q2q2q2qqqq4d2q2qqq")
_SUMS = struct.Struct("<7q2qdq4q")
_LEFT = 152  # bytes that a block leaves for the others of its row between launches, at most
_SPAN, _WORKERS = 8192, 256  # rows, and threads, to a block that adds up
_GRID = 2**31 - 1
_NOWHERE = (0, 1, 0, 0, 1)
_NONE = (0, 0)
_NO_FACTS = bytes(_CALL.size)
_NO_MORE = (0,) * 5 + (0.0,) * 4 + (0,) * 6  # the fields of a call that only rows need


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
    if cx.library == "torch":
        for a in o:
            if a is not None and not has_memory(a):
                return "a tensor's memory does not hold its values"
    home = driver.home(cx.library)
    return unavailable() or driver.unfit(home.capability(home.index(o.x)))


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
            _, total, weight, _ = call.add(total=need.total, total_weight=need.weight)
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
    made = call.rows(Need(total=True, stats=stats, weight=averages), NO_UPSTREAM, None)
    got, _, weight, _ = call.add(normalizer, averages, loss=True, total_weight=averages and stats)
    return got, weight, made.stats


def gradient(
    o: Operands, spec: Spec, cx: Context, classes: int, normalizer: Any, up: Any,
    weight: Array | None = None, saved: tuple[Array, ...] | None = None, value: bool = True,
) -> tuple[Array | None, Array]:  # fmt: skip
    """Return the loss if wanted, and the gradient; weight: what a mean was over, if known."""
    call = _Call(o, spec, cx, classes)
    averages = spec.reduction == "mean"
    slope = got = None
    if averages:
        if weight is None and not spec.indexed:
            weight = generic.run(o, spec, cx, classes, Need(weight=True)).weight
        _, _, found, slope = call.add(
            normalizer, True, weight, total_weight=weight is None and value, slope=True
        )
        weight = found if weight is None else weight
    made = call.rows(Need(total=value, grad=True), Upstream(up), saved, slope)
    if value:
        got = call.add(normalizer, averages, weight, loss=True)[0]
    assert made.grad is not None
    return got, made.grad


class _Call:
    """One call: its arrays as addresses, packed as the kernels read them."""

    def __init__(self, o: Operands, spec: Spec, cx: Context, classes: int) -> None:
        self.o, self.spec, self.cx, self.classes = o, spec, cx, classes
        self.home = home = driver.home(cx.library)
        self.index = index = home.index(o.x)
        self.capability = home.capability(index)
        self.stream = home.stream(index)
        self.shape = tuple(o.x.shape[:-1])
        self.count = prod(self.shape)
        # What must live until its last launch; what lives on a stream may be freed after that.
        self.held: list[Any] = []
        self.losses = self.weights = 0
        self.x = self.place(o.x)
        if self.x is None:
            x = home.in_order(o.x)
            self.held.append(x)
            self.x = self.place(x)
        ignore = ignores = 0
        labels = soft = class_weight = sample_weight = _NONE
        self.soft: str | None = None
        t: Any = o.targets
        if spec.indexed:
            labels = self.column(t, _INTEGERS)
            if spec.ignore_index is not None:
                low, high = INTEGERS[dtype_name(t.dtype)]
                if low <= spec.ignore_index <= high:
                    ignores, ignore = 1, (spec.ignore_index + 2**63) % 2**64 - 2**63
        else:
            if dtype_name(t.dtype) not in (dtype_name(o.x.dtype), dtype_name(cx.acc)):
                t = cast(cx, t, cx.acc)
            self.soft = dtype_name(t.dtype)
            soft = self.column(t, KINDS)
        if o.class_weight is not None:
            class_weight = self.column(o.class_weight, KINDS)
        if o.sample_weight is not None:
            sample_weight = self.column(o.sample_weight, KINDS)
        where = 0 if o.where is None else self.address(o.where)
        self.facts = (*labels, ignores, ignore, where, *sample_weight, *class_weight, *soft)

    def place(self, x: Array) -> Any:
        """Say where rows lie, or None."""
        if self.home.is_in_order(x):
            return self.home.address(x), self.count, 0, self.classes, 1
        return places(self.home, x)

    def address(self, a: Array) -> int:
        """Return where an array lies, in C order."""
        a = self.home.in_order(a)
        self.held.append(a)
        return self.home.address(a)

    def column(self, a: Array, kinds: dict[str, int]) -> tuple[int, int]:
        """Return where an array lies, and how its elements are stored."""
        kind = kinds.get(dtype_name(a.dtype))
        if kind is None:
            a = cast(self.cx, a, self.cx.acc)
            kind = kinds[dtype_name(self.cx.acc)]
        return self.address(a), kind

    def empty(self, dtype: Any, *shape: int) -> Array:
        """Make an array on the GPU."""
        return self.home.empty(shape, dtype, self.o.x)

    def rows(
        self, need: Need, up: Upstream, saved: tuple[Array, ...] | None, slope: Array | None = None
    ) -> Result:
        """Compute row losses, statistics and the gradient, in one launch where a GPU can."""
        cx, spec, where = self.cx, self.spec, self.home.address
        x, shape = self.o.x, self.shape
        losses = self.empty(cx.acc, *shape) if need.rows else None
        self.losses = 0 if losses is None else where(losses)
        if need.total or need.weight:
            room = self.empty(cx.wide, 2 * self.count)
            self.held.append(room)
            self.weights = where(room) if need.weight else 0
            self.losses = self.losses or where(room) + 8 * self.count
        stats = None
        if saved is not None:
            stats = self.address(saved[0]), self.address(saved[1])
        elif need.stats:
            made = self.empty(cx.acc, *shape), self.empty(cx.wide, *shape)
            stats = where(made[0]), where(made[1])
        grad, to = None, _NOWHERE
        if need.grad:
            grad = self.empty(x.dtype, *x.shape)
            to = where(grad), self.count, 0, self.classes, 1
        factor, column, step = 1.0, _NONE, 0
        if isinstance(up.row, float):
            factor = up.row
        else:
            column, step = self.column(up.row, KINDS), int(up.row.ndim > 0)
        kernels, threads, together, parts = _kernels(
            x.dtype, self.soft, self.classes, self.x[4] != 1, spec.label_smoothing > 0,
            spec.softcap is not None, need.grad, self.capability, self.index,
        )  # fmt: skip
        work = 0
        if len(kernels) > 1:
            room = self.empty(cx.wide, self.count * parts * _LEFT // 8)
            self.held.append(room)
            work = where(room)
        packed = _CALL.pack(
            self.count, self.classes, *self.x, *to, *self.facts, *column, step,
            0 if slope is None else where(slope), 0 if up.live is None else self.address(up.live),
            factor, spec.label_smoothing, spec.z_loss, spec.softcap or 0.0,
            self.losses, self.weights, *(stats or _NONE),
            saved is not None, work,
        )  # fmt: skip
        grid = min(-(-self.count // together), _GRID // parts) * parts
        for kernel in kernels:
            driver.launch(kernel, self.index, grid, threads, self.stream, packed)
        return Result(rows=losses, grad=grad, stats=made if need.stats and saved is None else None)

    def add(
        self, normalizer: Any = None, averages: bool = False, weight: Array | None = None, *,
        loss: bool = False, total: bool = False, total_weight: bool = False, slope: bool = False,
    ) -> tuple[Any, Any, Any, Any]:  # fmt: skip
        """Add up losses and weights; return what is wanted of them.

        Row weights are as the kernel of rows left them, or those of labels; `weight`: their sum.
        """
        cx, where = self.cx, self.home.address
        results = (
            self.empty(cx.acc) if loss else None, self.empty(cx.wide) if total else None,
            self.empty(cx.wide) if total_weight else None,
            self.empty(cx.wide, 2) if slope else None,
        )  # fmt: skip
        divisor, column = nan, _NONE
        if isinstance(normalizer, int | float):
            divisor = float(normalizer)
        elif normalizer is not None:
            column = self.column(normalizer, KINDS)
        tail = (
            0 if weight is None else where(weight), *column, divisor, averages,
            *[0 if r is None else where(r) for r in results],
        )  # fmt: skip
        weighs = (averages or total_weight) and weight is None
        there = self.losses if loss or total else 0, self.weights if weighs else 0
        by_labels = weighs and not self.weights
        facts = _NO_FACTS
        if by_labels:
            facts = _CALL.pack(
                self.count, self.classes, *_NOWHERE, *_NOWHERE, *self.facts, *_NO_MORE
            )
        count = self.count if there != _NONE or by_labels else 0
        kernel = driver.load(sums(dtype_name(cx.acc)), self.capability, self.index)
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
        return results


@cache
def _kernels(
    dtype: Any, soft: str | None, classes: int, apart: bool, smooth: bool, cap: bool, grad: bool,
    capability: int, index: int,
) -> tuple[tuple[Any, ...], int, int, int]:  # fmt: skip
    """Return the kernels of rows, the threads of a block, and how rows and blocks go together."""
    p = plan(classes, dtype.itemsize, apart)
    kernels = tuple(
        driver.load(
            constants(
                p, dtype_name(dtype), soft, smooth=smooth, cap=cap, grad=grad, stage=stage
            ), capability, index,
        )
        for stage in stages(p, capability)
    )  # fmt: skip
    return kernels, p.threads, p.threads // p.group, p.parts
