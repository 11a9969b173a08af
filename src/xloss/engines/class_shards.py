"""A rank's share of rows that are spread over ranks: compiled where an engine can, in blocks."""

from __future__ import annotations

from math import prod
from typing import Any

from .._arrays.context import Context, read
from .._arrays.inspect import Array
from .._arrays.ops import cast, quiet
from ..core import class_shards
from ..core.options import Cotangent, Operands, Options, Outputs
from ..core.row_blocks import block_slices
from ..core.row_stats import RowStats
from ..core.targets import Targets
from . import Engine, EngineUnavailable, choose, generic
from .generic import cut_up

_ROW_FIELDS = (
    "labels",
    "label_weight",
    "sample_weight",
    "row_weight",
    "row_present",
    "label_invalid",
    "label_local",
)


def compiled(x: Array, options: Options, cx: Context) -> Engine | None:
    """Return the compiled engine that takes the pass over a shard's logits, if one does."""
    engine = choose(Operands(x), options, cx)
    if engine is generic or 0 in x.shape:
        return None
    # What smoothing and the cap need of a row leaves the kernels only as part of its loss.
    for option in ("label_smoothing", "softcap"):
        if getattr(options, option):
            if options.engine is not None:
                raise EngineUnavailable(
                    f"engine {options.engine!r} cannot take this call: {option} of classes in parts"
                )
            return None
    return engine


def stats(x: Array, t: Targets, options: Options, cx: Context) -> RowStats:
    """Return the statistics of a shard (*rows, classes)."""
    if not cx.inplace_ok:
        return class_shards.stats(x, t, options, cx)
    xp = cx.xp
    rows = tuple(x.shape[:-1])
    engine = compiled(x, options, cx)
    if engine is not None:
        labels: Any = xp.zeros(rows, dtype=cx.label_dtype, device=cx.device)
        bare = Options("cross_entropy", indexed=True, engine=options.engine)
        got = engine.run(
            Operands(x, labels), bare, read(cx, clean=True), x.shape[-1], Outputs(stats=True)
        ).stats
        assert got is not None
        m, rest = got
        # Of NaN and masked classes alone the kernel's maximum is -inf: no class, for a merge.
        m = xp.where(rest == rest, m, xp.nan)
        at = cast(cx, cx.gather(x, t.labels), cx.compute_dtype)
        with quiet(cx):
            gap = xp.where(at == m, 0.0, cast(cx, m, cx.sum_dtype) - cast(cx, at, cx.sum_dtype))
        mass = cast(cx, t.label_local, cx.sum_dtype)
        return RowStats(m, rest, mass, mass, xp.where(t.label_local, gap, 0.0))
    pieces = list(block_slices(rows, max(1, x.shape[-1]), cx))
    made = [
        class_shards.stats(rows_of(xp, x, p, 2), _targets(xp, t, p), options, cx) for p in pieces
    ]
    if len(made) == 1:
        return RowStats(*(None if a is None else xp.reshape(a, rows) for a in made[0]))
    return RowStats(*(_joined(column, rows, cx) for column in zip(*made, strict=True)))


def gradient(
    x: Array, s: RowStats, t: Targets, options: Options, cx: Context, cotangent: Cotangent
) -> Array:
    """Return the gradient to a shard, in its dtype."""
    if not cx.inplace_ok:
        return cast(cx, class_shards.gradient(x, s, t, options, cx, cotangent), x.dtype)
    xp = cx.xp
    engine = compiled(x, options, cx)
    if (
        engine is not None
        and x.shape[-1] >= engine.save_stats_from
        and not (options.z_loss and t.label_weight is not None)  # lse = inf in a row of weight 0
    ):
        return _compiled_gradient(engine, x, s, t, options, cx, cotangent)
    rows = tuple(x.shape[:-1])
    out = xp.empty(tuple(x.shape), dtype=x.dtype, device=cx.device)
    if 0 in x.shape:
        return out
    for p in block_slices(rows, x.shape[-1], cx):
        part = RowStats(*(rows_of(xp, a, p, 1) if hasattr(a, "ndim") else a for a in s))
        g = class_shards.gradient(
            rows_of(xp, x, p, 2), part, _targets(xp, t, p), options, cx, cut_up(xp, cotangent, p)
        )
        place = (*p, ...)
        out[place] = xp.reshape(cast(cx, g, x.dtype), out[place].shape)
    return out


def _compiled_gradient(
    engine: Engine,
    x: Array,
    s: RowStats,
    t: Targets,
    options: Options,
    cx: Context,
    cotangent: Cotangent,
) -> Array:
    xp = cx.xp
    rows = tuple(x.shape[:-1])
    # What a row weighs goes with its upstream: the kernel sees plain labels.
    row: Any = cotangent.row_loss
    for factor in (t.sample_weight, t.label_weight):
        row = row if factor is None else row * factor
    if t.label_invalid is not None:
        row = xp.where(
            t.label_invalid, xp.nan, row + xp.zeros(rows, dtype=cx.sum_dtype, device=cx.device)
        )
    if not isinstance(row, float):
        row = cast(cx, xp.asarray(row), cx.sum_dtype)
    bare = Options("cross_entropy", indexed=True, z_loss=options.z_loss, engine=options.engine)
    o = Operands(x, t.labels, None, None, t.row_present)
    outputs, up_row = Outputs(grad=True), Cotangent(row, None, cotangent.any_row_counts)
    saved = xp.asarray(s.max), xp.asarray(s.tail_sum)  # of one row NumPy makes scalars
    g: Any = engine.run(o, bare, read(cx, clean=True), x.shape[-1], outputs, up_row, saved).grad
    # Where the label is elsewhere the kernel took the first class for it.
    first = class_shards.gradient(
        x[..., :1], s, t._replace(label_local=xp.zeros_like(t.label_local)), options, cx, cotangent
    )
    g[..., 0] = xp.where(t.label_local, g[..., 0], cast(cx, first[..., 0], x.dtype))
    return g


def rows_of(xp: Any, a: Array, piece: tuple[slice, ...], ndim: int) -> Array:
    """Return some rows of (*rows) or (*rows, classes) as one axis."""
    part = a[(*piece, ...)]
    shape = (-1,) if ndim == 1 else (prod(part.shape[:-1]), part.shape[-1])
    return xp.reshape(part, shape)


def _targets(xp: Any, t: Targets, piece: tuple[slice, ...]) -> Targets:
    """Return the targets of some rows."""
    given = {f: getattr(t, f) for f in _ROW_FIELDS}
    return t._replace(**{f: rows_of(xp, a, piece, 1) for f, a in given.items() if a is not None})


def _joined(parts: Any, rows: tuple[int, ...], cx: Context) -> Array | None:
    """Return one number a row of all rows."""
    return None if parts[0] is None else cx.xp.reshape(cx.xp.concat(list(parts)), rows)
