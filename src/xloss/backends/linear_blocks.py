"""The pass over blocks of rows: matrix products around the engine's row stage."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import Any, NamedTuple

from .._xp import Array, Context, cast, matmul_add, matmul_into, quiet
from ..core import linear as cutting
from ..core.reduce import exact_sum
from ..core.spec import NO_UPSTREAM, Need, Operands, Result, Upstream
from . import default, exchange
from .call import Call


def evaluated(
    call: Call, runs: Any, wanted: tuple[str, ...], cotangent: Any
) -> tuple[Array, dict[str, Array]]:
    """Return the loss and the gradients, those to features, weight and bias not yet rounded."""
    parts = tuple(name for name in wanted if name != "targets")
    wants = Need(grad=bool(parts), grad_targets="targets" in wanted)
    got, made = default.evaluated(call, partial(runs, parts), wants, cotangent)
    return got, gathered(made)


def gathered(made: Result) -> dict[str, Array]:
    """Name the gradients of a result."""
    grads = dict(made.grad or {})
    if made.grad_targets is not None:
        grads["targets"] = made.grad_targets
    return grads


def argument(call: Call, name: str) -> Array:
    """Return the array that a gradient goes to."""
    assert call.linear is not None
    o = call.operands
    return {"x": o.x, "targets": o.targets}.get(name, getattr(call.linear, name, None))


def rounded(call: Call, grads: dict[str, Array]) -> dict[str, Array]:
    """Give each gradient its argument's dtype."""
    with quiet(call.cx):  # what 16 bits do not reach is infinite
        return {name: cast(call.cx, g, argument(call, name).dtype) for name, g in grads.items()}


class Stage(NamedTuple):
    """Where the row stage runs: on the library's arrays, or on NumPy views of them."""

    cx: Context
    o: Operands  # flat; x are the features
    view: Any  # of an array of the library


def run(
    call: Call, parts: tuple[str, ...], need: Need, up: Upstream = NO_UPSTREAM, stage: Any = None
) -> Result:
    """Compute what is needed; `grad` is a dict of the gradients to `parts`."""
    cx, linear, classes = call.cx, call.linear, call.classes
    assert linear is not None
    xp, o = cx.xp, cutting.flat(call.operands, classes, cx)
    rows = tuple(call.operands.x.shape[:-1])
    if up.row is not None and not isinstance(up.row, float) and up.row.ndim > 1:
        up = up._replace(row=xp.reshape(up.row, (o.x.shape[0],)))
    # The ranks of a group take the same blocks.
    most = classes if call.shard is None else call.shard.most
    step = cutting.block_rows(o.x.shape[0], most, linear, cx)
    with quiet(cx):
        made = Result()
        if need.rows or need.total or need.grad or need.grad_targets:
            at = Stage(cx, o, lambda a: a) if stage is None else stage(cx, o)
            made = _Blocks(call, o, at, parts if need.grad else (), need, up, step).made()
        if need.weight:
            if call.group is None:
                total = cutting.weight_sum(o, call.spec, cx, classes, step)
            else:
                total = exchange.weight_sum(call, o)
            made = made._replace(weight=total)
    if made.rows is not None:
        made = made._replace(rows=xp.reshape(made.rows, rows))
    grads = made.grad
    if grads is not None and "x" in grads:
        if call.group is not None:  # each rank's classes have a share in every feature
            grads["x"] = call.group.total(grads["x"])
        grads["x"] = xp.reshape(grads["x"], tuple(call.operands.x.shape))
    if made.grad_targets is not None:
        shape = tuple(argument(call, "targets").shape)
        made = made._replace(grad_targets=xp.reshape(made.grad_targets, shape))
    return made


class _Blocks:
    """The pass over blocks of rows: every array it writes to is its own."""

    def __init__(
        self, call: Call, o: Operands, stage: Stage, parts: tuple[str, ...], need: Need,
        up: Upstream, step: int,
    ) -> None:  # fmt: skip
        assert call.linear is not None
        self.call, self.cx, self.o, self.stage = call, call.cx, o, stage
        self.matrix, self.bias = call.linear.weight, call.linear.bias
        self.need, self.step = need, step
        count, width = o.x.shape
        classes, cx = call.classes, call.cx
        self.few = min(classes, max(1, cutting.PIECE // max(1, width)))  # classes at a time
        self.z = self._room((min(step, count), classes))
        self.keep = cutting.present(o, call.spec, cx, classes, up)
        self.grads: dict[str, Array] = {}
        if "x" in parts:
            self.grads["x"] = self._room((count, width))
        if "weight" in parts:
            self.grads["weight"] = cx.xp.zeros((classes, width), dtype=cx.acc, device=cx.device)
        if "bias" in parts:
            self.grads["bias"] = cx.xp.zeros((classes,), dtype=cx.wide, device=cx.device)
        self.rows = self._room((count,)) if need.rows else None
        t = o.targets
        self.grad_targets = None
        if need.grad_targets and t is not None:
            self.grad_targets = cx.xp.empty(t.shape, dtype=t.dtype, device=cx.device)
        self.totals: list[Array] = []
        view = stage.view
        self.up = Upstream(*(view(v) if hasattr(v, "dtype") else v for v in up))
        self.seen = [view(a) for a in (self.z, self.bias, self.rows, self.grad_targets)]
        self.seen_bias_grad = view(self.grads.get("bias"))

    def _room(self, shape: tuple[int, ...]) -> Array:
        return self.cx.xp.empty(shape, dtype=self.cx.acc, device=self.cx.device)

    def made(self) -> Result:
        """Go over the blocks, and return what is needed."""
        for block in cutting.cuts(self.o.x.shape[0], self.step):
            self._block(block)
        cx, total = self.stage.cx, None
        if self.need.total:
            zero = cx.xp.zeros((), dtype=cx.wide, device=cx.device)
            total = exact_sum(cx, cx.xp.stack(self.totals)) if self.totals else zero
        grads = self.grads or None
        return Result(self.rows, total, None, grads, self.grad_targets)

    def _classes(self) -> Iterator[tuple[slice, Array]]:
        """Yield the weight, converted in pieces where it must be."""
        classes = self.call.classes
        step = classes if self.matrix.dtype == self.cx.acc else self.few
        for c in cutting.cuts(classes, step):
            yield c, cast(self.cx, self.matrix[c, ...], self.cx.acc)

    def _block(self, block: slice) -> None:
        cx = self.cx
        xp = cx.xp
        count = block.stop - block.start
        x = cast(cx, self.o.x[block, ...], cx.acc)
        keep = None if self.keep is None else xp.expand_dims(self.keep[block], axis=-1)
        if keep is not None:
            x = xp.where(keep, x, 0.0)
        z = self.z[:count, ...]
        for c, w in self._classes():
            matmul_into(cx, x, w.T, z[:, c])
        few = count if self.call.group is not None else cutting.piece_rows(self.call.classes, cx)
        for piece in cutting.cuts(count, few):
            self._rows(block, piece)
        if "x" in self.grads:
            g = self.grads["x"][block, ...]
            for i, (c, w) in enumerate(self._classes()):
                if i:
                    matmul_add(cx, g, z[:, c], w, count)
                else:
                    matmul_into(cx, z[:, c], w, g)
            if keep is not None:  # 0 times a weight of inf
                g[...] = xp.where(keep, g, 0.0)
        if "weight" in self.grads:
            matmul_add(cx, self.grads["weight"], z.T, x, self.few)

    def _rows(self, block: slice, piece: slice) -> None:
        """Put the gradient of some rows of logits in their place."""
        call, cx = self.call, self.stage.cx
        z, bias, rows, grad_targets = self.seen
        at = slice(block.start + piece.start, block.start + piece.stop)
        part = z[piece, ...]
        if bias is not None:
            part += cast(cx, bias, cx.acc)
        o = cutting.part(self.stage.o, at, part)
        got = exchange.stage(call, o, cx).run(
            o, call.spec, cx, call.classes, self.need._replace(weight=False),
            cutting.part_up(self.up, at),
        )  # fmt: skip
        if self.need.total:
            self.totals.append(got.total)
        if rows is not None:
            rows[at] = got.rows
        if grad_targets is not None:
            grad_targets[at, ...] = got.grad_targets
        if got.grad is not None:
            part[...] = got.grad
            if self.seen_bias_grad is not None:
                total = self.seen_bias_grad
                total += cast(cx, cx.xp.sum(part, axis=0), cx.wide)
