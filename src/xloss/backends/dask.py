"""Dask: core mapped over chunks along rows and classes, statistics merged, nothing computed."""

from __future__ import annotations

from typing import Any

import dask.array as da
import numpy as np

from .._xp import Array, context, namespace
from ..core import pieces
from ..core.reduce import LOWER
from ..core.rows import GIVEN, SOFTMAX, evaluate
from ..core.spec import Need, Operands, Result, Spec, Upstream
from ..core.targets import prepare
from ..core.values import check_values
from ..engines import choose
from ..engines import pieces as by_chunk
from .call import Call

ROW_ARRAYS = ("sample_weight", "where")


class _Graph:
    """One call's arrays, chunked alike, and the blockwise steps over them."""

    def __init__(self, call: Call) -> None:
        choose(call.operands, call.spec, call.cx)
        self.call, self.spec, self.classes = call, call.spec, call.classes
        o = call.operands
        self.x = o.x
        n = o.x.ndim
        self.index = tuple(range(n))
        self.rows = self.index[:-1] if call.classes else self.index
        chunks = o.x.chunks[:-1] if call.classes else o.x.chunks
        soft = o.targets is not None and o.targets.ndim == n
        self.soft = bool(call.classes and soft)
        self.targets = _like(o.targets, o.x.chunks if soft else chunks)
        self.row_arrays = {
            name: _like(a, chunks) for name in ROW_ARRAYS if (a := getattr(o, name)) is not None
        }
        if o.pos_weight is not None:
            self.row_arrays["pos_weight"] = _like(o.pos_weight, chunks)
        self.class_weight = None if o.class_weight is None else o.class_weight.rechunk(-1)
        # None for labels alone, which have no class axis to number.
        whole = bool(call.classes) and o.x.shape[-1] == call.classes
        self.ids = da.arange(call.classes, chunks=(o.x.chunks[-1],)) if whole else None
        # Chunks of whole rows go to an engine as they are: nothing is there to merge.
        self.merges = self.spec.kind in SOFTMAX or self.spec.kind in GIVEN
        if self.spec.kind == "cross_entropy" and len(o.x.chunks[-1]) == 1:
            self.merges = False
        self.packed = self.sums = None

    def map(
        self, step: Any, out: tuple[int, ...], *more: Any, x: bool = True, dtype: Any = np.float64,
        new: dict[int, int] | None = None, adjust: dict[int, int] | None = None,
    ) -> Array:  # fmt: skip
        """Apply `step(spec, classes, names, *chunks)` to aligned chunks."""
        names: list[str] = []
        args: list[Any] = []

        def add(name: str, array: Any, index: tuple[int, ...]) -> None:
            if array is not None:
                names.append(name)
                args.extend((array, index))

        if x:
            add("x", self.x, self.index)
            add("ids", self.ids, self.index[-1:])
        if x or not self.soft:
            index = self.index if self.soft or not self.classes else self.rows
            add("targets", self.targets, index)
        for name, array in self.row_arrays.items():
            add(name, array, self.rows)
        if self.class_weight is not None and (x or not self.soft):
            add("class_weight", self.class_weight, (99,))
        for name, array, index in more:
            add(name, array, index)
        return da.blockwise(  # type: ignore[no-untyped-call]
            _step, out, *args, step=step, names=tuple(names), spec=self.spec,
            classes=self.classes, acc=str(self.call.cx.acc), new_axes=new or {},
            adjust_chunks=adjust, align_arrays=False, concatenate=True, dtype=dtype,
            meta=np.empty((0,) * len(out), dtype=dtype),
        )  # fmt: skip

    def prepare_stats(self) -> None:
        """Build the merged statistics, and the second sums where the kind has them."""
        c, f = self.index[-1], len(self.index)
        parts = self.map(_stats, (*self.rows, c, f), new={f: len(pieces.FIELDS)}, adjust={c: 1})
        self.packed = da.blockwise(  # type: ignore[no-untyped-call]
            _merge, (*self.rows, f), parts, (*self.rows, c, f), spec=self.spec,
            acc=str(self.call.cx.acc), concatenate=True, align_arrays=False, dtype=np.float64,
            meta=np.empty((0,) * len(self.index), dtype=np.float64),
        )  # fmt: skip
        if pieces.needs_seconds(self.spec):
            number = 1 if self.spec.kind == "entropy" else 3
            shares = self.map(
                _seconds, (*self.rows, c, f), ("packed", self.packed, (*self.rows, f + 1)),
                new={f: number}, adjust={c: 1},
            )  # fmt: skip
            self.sums = shares.sum(axis=-2)

    def stat_args(self) -> list[Any]:
        f = len(self.index)
        return [("packed", self.packed, (*self.rows, f)), ("sums", self.sums, (*self.rows, f + 1))]

    def rows_and_weights(self) -> tuple[Array, Array]:
        """Return row losses and row weights."""
        f = len(self.index) + 2
        if self.merges:
            self.prepare_stats()
            both = self.map(_rows, (*self.rows, f), *self.stat_args(), x=False, new={f: 2})
        elif self.classes:
            c = self.index[-1]
            shares = self.map(_row_shares, (*self.rows, c, f), new={f: 2}, adjust={c: 1})
            row = shares[..., 0].sum(axis=-1)
            return row, shares[..., 0, 1]
        else:
            both = self.map(_row_shares, (*self.rows, f), new={f: 2})
        return both[..., 0], both[..., 1]

    def gradient(self, want: str, up: Upstream) -> Array:
        """Return the gradient to x or to soft targets."""
        more: list[Any] = []
        if self.packed is not None:
            more = self.stat_args()
        for name, value in (("up", up.row), ("share", up.weight), ("live", up.live)):
            if value is not None and not isinstance(value, float):
                more.append((name, value, self.rows if value.ndim else ()))
        target: Any = self.x if want == "x" else self.targets
        step = _gradient_x if want == "x" else _gradient_targets
        return self.map(step, self.index, *more, dtype=target.dtype)


def value(call: Call) -> Array:
    """Return the loss, lazily."""
    if call.operands.x.ndim == 0:
        alone = value(_lifted(call))
        return alone[0] if alone.ndim else alone
    rows, weights = _Graph(call).rows_and_weights()
    return _reduced(call, rows, weights)


def _lifted(call: Call) -> Call:
    """Return the call on one row: Dask maps no chunk of no dimension to one that has one."""
    return call._replace(
        operands=Operands(*(None if a is None else a[None] for a in call.operands))
    )


def _reduced(call: Call, rows: Array, weights: Array) -> Array:
    if call.spec.reduction == "none":
        return rows.astype(call.cx.acc)
    total = _total(rows)
    if call.spec.reduction == "mean":
        total = _mean(call, total, weights.sum())
    return total.astype(call.cx.acc)


def _total(rows: Array) -> Array:
    """Sum all rows; finite ones of both signs that overflow on the way never to NaN."""
    total = rows.sum()
    return da.where(da.isfinite(total), total, (rows * LOWER).sum() / LOWER)


def _mean(call: Call, total: Array, weight: Array) -> Array:
    below = weight if call.normalizer is None else call.normalizer
    empty = contributing(call, weight) == 0
    return da.where(empty, 0.0, total / da.where(empty, 1.0, below))


def contributing(call: Call, weight: Array) -> Array:
    """Return what is 0 where no row contributes: see core.reduce."""
    n = call.normalizer
    return weight if n is None else da.where(weight == 0, n, weight)


def value_and_grad(
    call: Call, wanted: tuple[str, ...], cotangent: Any
) -> tuple[Array, dict[str, Array]]:
    """Return the loss and the closed-form gradients, lazily."""
    if call.operands.x.ndim == 0:
        up = (
            cotangent[None]
            if cotangent is not None and call.spec.reduction == "none"
            else cotangent
        )
        got, grads = value_and_grad(_lifted(call), wanted, up)
        return got[0] if got.ndim else got, {name: g[0] for name, g in grads.items()}
    from .default import depends_on_targets, restore

    graph = _Graph(call)
    rows, weights = graph.rows_and_weights()
    got = _reduced(call, rows, weights)
    up = Upstream(1.0 if cotangent is None else cotangent)
    if call.spec.reduction == "mean":
        weight = weights.sum()
        live = contributing(call, weight) != 0
        below = weight if call.normalizer is None else call.normalizer
        factor = (1.0 if cotangent is None else cotangent) / da.where(live, below, 1.0)
        share = None
        if depends_on_targets(call) and call.normalizer is None:
            share = -factor * _mean(call, _total(rows), weight)
        up = Upstream(factor, share, live)
    return got, {name: restore(call, graph.gradient(name, up)) for name in wanted}


def elements(call: Call) -> Array:
    """Return softmax or its logarithm, lazily."""
    from .default import restore

    graph = _Graph(call)
    graph.prepare_stats()
    more = ("packed", graph.packed, (*graph.rows, len(graph.index)))
    return restore(call, graph.map(_elements, graph.index, more, dtype=call.cx.acc))


def weight(call: Call) -> Array:
    """Return the mean's denominator, lazily."""
    graph = _Graph(call)
    if call.spec.indexed:
        return graph.map(_weights, graph.rows, x=False).sum()
    return graph.rows_and_weights()[1].sum()


def _like(a: Array | None, chunks: Any) -> Array | None:
    """Chunk an array as the logits are; where a length is unknown they must be so already."""
    if a is None or a.chunks == chunks:
        return a
    known = all(n == n for axis in (*a.chunks, *chunks) for n in axis)
    return a.rechunk(chunks) if known else a


def _step(*chunks: Any, step: Any, names: Any, spec: Spec, classes: int, acc: str) -> Array:
    """Run one step on one aligned set of chunks."""
    got = dict(zip(names, chunks, strict=True))
    return step(got, spec, classes, acc)


def _operands(got: dict[str, Any], like: Array | None = None) -> Operands:
    names = ("targets", "class_weight", "sample_weight", "where", "pos_weight")
    return Operands(got.get("x", like), *(got.get(name) for name in names))


def _start(got: dict[str, Any]) -> int:
    return int(got["ids"][0])


def _checked(got: dict[str, Any], spec: Spec, classes: int) -> Operands:
    o = _operands(got)
    if spec.validate is True and o.targets is not None:
        xp = namespace(o.x)
        check_values(o, spec, context(o.x, xp)._replace(readable=True), classes)
    return o


def _stats(got: dict[str, Any], spec: Spec, classes: int, acc: str) -> Array:
    made = by_chunk.stats(_checked(got, spec, classes), spec, classes, _start(got))
    return made[..., None, :]


def _merge(parts: Array, spec: Spec, acc: str) -> Array:
    xp = namespace(parts)
    like = xp.empty((0,), dtype=acc)
    each = [parts[..., i, :] for i in range(parts.shape[-2])]
    return pieces.merged(each, spec, like)


def _seconds(got: dict[str, Any], spec: Spec, classes: int, acc: str) -> Array:
    sums = pieces.seconds(_operands(got), got["packed"], spec, classes, _start(got))
    return sums[..., None, :]  # type: ignore[index]


def _rows(got: dict[str, Any], spec: Spec, classes: int, acc: str) -> Array:
    packed = got["packed"]
    xp = namespace(packed)
    like = xp.empty((0,), dtype=acc)
    both = pieces.rows(_operands(got, packed), packed, got.get("sums"), spec, classes, like)
    return xp.stack(list(both), axis=-1)


def _weights(got: dict[str, Any], spec: Spec, classes: int, acc: str) -> Array:
    labels = got["targets"]
    xp = namespace(labels)
    cx = context(xp.empty((0,), dtype=acc), xp)
    weight = prepare(_operands(got, labels), spec, cx, classes).weight
    return xp.ones(labels.shape) if weight is None else weight


def _row_shares(got: dict[str, Any], spec: Spec, classes: int, acc: str) -> Array:
    o = _checked(got, spec, classes) if classes else _operands(got)
    made = _evaluate(o, spec, classes, Need(rows=True), Upstream())
    xp = namespace(o.x)
    cx = context(o.x, xp)
    t = prepare(o, spec, cx, classes)
    rows = xp.astype(made.rows, cx.wide)
    both = xp.stack([rows, xp.ones_like(rows) if t.weight is None else t.weight], axis=-1)
    return both[..., None, :] if classes else both


def _evaluate(o: Operands, spec: Spec, classes: int, need: Need, up: Upstream) -> Result:
    cx = context(o.x, namespace(o.x))
    if spec.kind == "cross_entropy":  # whole rows; of the others a chunk may be part of a row
        return choose(o, spec, cx).run(o, spec, cx, classes, need, up)
    return evaluate(o, spec, cx, classes, need, up)


def _upstream(got: dict[str, Any]) -> Upstream:
    return Upstream(got.get("up", 1.0), got.get("share"), got.get("live"))


def _gradient(got: dict[str, Any], spec: Spec, classes: int, want: str) -> Array:
    o, up = _operands(got), _upstream(got)
    if "packed" in got:
        sums = got.get("sums")
        return by_chunk.gradients(o, got["packed"], sums, up, spec, classes, _start(got), want)
    need = Need(grad=want == "x", grad_targets=want == "targets")
    made = _evaluate(o, spec, classes, need, up)
    return made.grad if want == "x" else made.grad_targets


def _gradient_x(got: dict[str, Any], spec: Spec, classes: int, acc: str) -> Array:
    return _gradient(got, spec, classes, "x")


def _gradient_targets(got: dict[str, Any], spec: Spec, classes: int, acc: str) -> Array:
    return _gradient(got, spec, classes, "targets")


def _elements(got: dict[str, Any], spec: Spec, classes: int, acc: str) -> Array:
    return pieces.elements(_operands(got), got["packed"], spec)
