"""The pass over blocks of rows: logits of a block, its rows, and its share of the gradients.

A block's logits are stored once, and its gradient is written over them: the memory of a call is
that of one block, however many rows there are.
"""

from __future__ import annotations

from typing import Any, NamedTuple

from ..._arrays.context import Context
from ..._arrays.inspect import Array
from ...core import linear as cutting
from ...core import token_stats
from ...core.call import LossCall
from ...core.options import Cotangent, Operands, Outcome, Outputs
from ...core.reduce import exact_sum
from . import sharded
from .linear_plan import Plan


class Stage(NamedTuple):
    """The arrays that the row stage works on: the library's own, or NumPy views of them."""

    cx: Context  # of those arrays
    o: Operands  # with one row axis; x are the features, and are not read
    view: Any  # returns such an array for one of the library's
    unview: Any  # returns the library's array for such a one


def unchanged(a: Array | None) -> Array | None:
    """Return the argument: the row stage works on the library's own arrays."""
    return a


class BlockPass:
    """One pass over the blocks of a call; every array that it writes to is its own."""

    def __init__(
        self, call: LossCall, o: Operands, stage: Stage, outputs: Outputs, plan: Plan
    ) -> None:
        assert call.linear is not None
        self.call, self.cx, self.o, self.stage = call, call.cx, o, stage
        self.outputs, self.plan, self.products = outputs, plan, plan.products
        cx, parts = call.cx, plan.parts
        count, width = o.x.shape
        classes = call.classes
        self.z = self._empty((min(plan.block_rows, count), classes))
        # A gradient in 16 bits lies in the memory of the block's logits; another replaces them.
        self.short = self.products.dtype != cx.compute_dtype and bool(parts)
        self.g = self.products.gradient(self.z) if self.short else self.z
        self.row_present = cutting.present_rows(o, call.options, cx, classes, plan.cotangent)
        self.grads: dict[str, Array] = {}
        self.block_grad_x: Array | None = None  # in the dtype of the arithmetic, before rounding
        if "x" in parts:
            self.grads["x"] = self._empty((count, width), "x")
            if "x" not in plan.wide:
                self.block_grad_x = self._empty((self.z.shape[0], width))
        if "weight" in parts:
            create = cx.xp.empty if self.short and count else cx.xp.zeros
            dtype = cx.compute_dtype if "weight" in plan.wide else self.products.dtype
            self.grads["weight"] = create((classes, width), dtype=dtype, device=cx.device)
        if "bias" in parts:
            self.grads["bias"] = cx.xp.zeros((classes,), dtype=cx.sum_dtype, device=cx.device)
        self.rows = self._empty((count,)) if outputs.rows else None
        t = o.targets
        self.grad_targets = None
        if outputs.grad_targets and t is not None:
            self.grad_targets = cx.xp.empty(t.shape, dtype=t.dtype, device=cx.device)
        self.totals: list[Array] = []
        self.tokens = token_stats.room((count,), stage.cx, outputs) if outputs.tokens else None
        view = stage.view
        self.cotangent = Cotangent(*(view(v) if hasattr(v, "dtype") else v for v in plan.cotangent))
        self.views = [view(a) for a in (self.z, call.linear.bias, self.rows, self.grad_targets)]
        self.bias_grad_view = view(self.grads.get("bias"))

    def _empty(self, shape: tuple[int, ...], name: str | None = None) -> Array:
        """Return a new array; in 16 bits where it is a gradient that is not summed wide."""
        cx = self.cx
        wide = name is None or name in self.plan.wide
        dtype = cx.compute_dtype if wide else self.products.dtype
        return cx.xp.empty(shape, dtype=dtype, device=cx.device)

    def outcome(self) -> Outcome:
        """Go over the blocks, and return the outputs."""
        for block in cutting.spans(self.o.x.shape[0], self.plan.block_rows):
            self._block(block)
        cx, total = self.stage.cx, None
        if self.outputs.total:
            zero = cx.xp.zeros((), dtype=cx.sum_dtype, device=cx.device)
            total = exact_sum(cx, cx.xp.stack(self.totals)) if self.totals else zero
        grads = self.grads or None
        if self.plan.scale is not None:
            for name in {"weight", "bias"} & self.grads.keys():
                self.grads[name] *= self.plan.scale
        tokens = None
        if self.tokens is not None:
            tokens = tuple(None if a is None else self.stage.unview(a) for a in self.tokens)
        return Outcome(self.rows, total, None, grads, self.grad_targets, tokens=tokens)

    def _block(self, block: slice) -> None:
        """Compute the logits of a block, hand its rows on, and multiply its gradient."""
        cx, products = self.cx, self.products
        xp = cx.xp
        count = block.stop - block.start
        x = cx.cast(self.o.x[block, ...], products.dtype)
        present = None
        if self.row_present is not None:
            present = xp.expand_dims(self.row_present[block], axis=-1)
            x = cx.cast(xp.where(present, x, xp.zeros_like(x)), products.dtype)
        products.logits(x, self.z[:count, ...])
        rows_at_once = count
        if self.call.group is None:
            rows_at_once = cutting.engine_rows(self.call.classes, cx, self.outputs.grad)
        for part in cutting.spans(count, rows_at_once):
            self._rows(block, part)
        g = self.g[:count, ...]
        if "x" in self.grads:
            self._features(g, block, present)
        if "weight" in self.grads:
            products.add(self.grads["weight"], g, x, block.start == 0)

    def _features(self, g: Array, block: slice, present: Array | None) -> None:
        """Compute the gradient to a block's features.

        g: (rows, classes), present: (rows, 1).
        """
        out = self.grads["x"][block, ...]
        grad_x = out if self.block_grad_x is None else self.block_grad_x[: g.shape[0], ...]
        self.products.features(g, grad_x)
        if self.plan.scale is not None:
            grad_x *= self.plan.scale
        if present is not None:  # an absent row's gradient of 0 times a weight of inf is NaN
            out[...] = self.cx.xp.where(present, grad_x, self.cx.xp.zeros_like(grad_x))
        elif self.block_grad_x is not None:
            out[...] = grad_x

    def _rows(self, block: slice, part: slice) -> None:
        """Compute some rows of a block, and write their gradient over their logits."""
        call, cx = self.call, self.stage.cx
        z, bias, rows, grad_targets = self.views
        at = slice(block.start + part.start, block.start + part.stop)
        logits = z[part, ...]
        if bias is not None:
            logits += cx.cast(bias, cx.compute_dtype)
        block_call = call._replace(operands=cutting.rows_of(self.stage.o, at, logits), cx=cx)
        outputs = self.outputs._replace(weight=False)
        cotangent = cutting.cotangent_of(self.cotangent, at)
        outcome = sharded.run_rows(block_call, outputs, cotangent)
        if self.outputs.total:
            self.totals.append(outcome.total)
        for whole, made in zip(self.tokens or (), outcome.tokens or (), strict=True):
            if whole is not None:
                whole[at] = made
        if rows is not None:
            rows[at] = outcome.rows
        if grad_targets is not None:
            grad_targets[at, ...] = outcome.grad_targets
        if outcome.grad is not None:
            if self.bias_grad_view is not None:
                total = self.bias_grad_view
                share = cx.xp.sum(outcome.grad, axis=0, dtype=cx.compute_dtype)
                total += cx.cast(share, cx.sum_dtype)
            if self.short:
                # This overwrites logits of these rows and of earlier ones, which are read no more.
                self.g[part, ...] = self.stage.unview(outcome.grad)
            else:
                logits[...] = outcome.grad
