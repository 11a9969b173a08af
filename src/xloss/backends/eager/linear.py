"""The pass over blocks of rows: matrix products around the engine's row stage."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

from ..._arrays.context import Context
from ..._arrays.inspect import FLOATS, Array, dtype_name
from ..._arrays.ops import cast, quiet
from ...core import linear as cutting
from ...core.call import LossCall
from ...core.options import UNIT_COTANGENT, Cotangent, Operands, Outcome, Outputs
from ...core.reduce import exact_sum
from . import dense as default
from . import sharded as exchange
from .linear_products import Converted, Products

# A library's own products of 16-bit matrices, by context, features and weight; None: it has none.
ChooseProducts = Callable[[Context, Array, Array], Products | None]


def evaluated(
    call: LossCall, runs: Any, wanted: tuple[str, ...], cotangent: Any
) -> tuple[Array, dict[str, Array]]:
    """Return the loss and the gradients, those to features, weight and bias not yet rounded."""
    parts = tuple(name for name in wanted if name != "targets")
    wants = Outputs(grad=bool(parts), grad_targets="targets" in wanted)
    got, made = default.evaluated(call, partial(runs, parts), wants, cotangent)
    return got, gathered(made)


def gathered(made: Outcome) -> dict[str, Array]:
    """Name the gradients of a result."""
    grads = dict(made.grad or {})
    if made.grad_targets is not None:
        grads["targets"] = made.grad_targets
    return grads


def argument(call: LossCall, name: str) -> Array:
    """Return the array that a gradient goes to."""
    assert call.linear is not None
    o = call.operands
    return {"x": o.x, "targets": o.targets}.get(name, getattr(call.linear, name, None))


def rounded(call: LossCall, grads: dict[str, Array]) -> dict[str, Array]:
    """Give each gradient its argument's dtype."""
    with quiet(call.cx):  # what 16 bits do not reach is infinite
        return {name: cast(call.cx, g, argument(call, name).dtype) for name, g in grads.items()}


class Stage(NamedTuple):
    """Where the row stage runs: on the library's arrays, or on NumPy views of them."""

    cx: Context
    o: Operands  # flat; x are the features
    view: Any  # of an array of the library
    home: Any  # back again


class Plan(NamedTuple):
    """How a call is cut, and what its sums are kept in."""

    by: Products
    parts: tuple[str, ...]  # what gradients go to
    wide: dict[str, int]  # those summed in the dtype of the arithmetic: all, unless it is wider
    step: int  # rows of a block
    cotangent: Cotangent  # of the rows
    after: Array | float | None  # what the products are multiplied by


def run(
    call: LossCall,
    parts: tuple[str, ...],
    outputs: Outputs,
    cotangent: Cotangent = UNIT_COTANGENT,
    stage: Any = None,
    products: ChooseProducts | None = None,
) -> Outcome:
    """Compute what is needed; `grad` is a dict of the gradients to `parts`."""
    cx, linear, classes = call.cx, call.linear, call.classes
    assert linear is not None
    xp, o = cx.xp, cutting.one_row_axis(call.operands, classes, cx)
    rows = tuple(call.operands.x.shape[:-1])
    if (
        cotangent.row_loss is not None
        and not isinstance(cotangent.row_loss, float)
        and cotangent.row_loss.ndim > 1
    ):
        cotangent = cotangent._replace(row_loss=xp.reshape(cotangent.row_loss, (o.x.shape[0],)))
    with quiet(cx):
        plan = _plan(call, o, parts if outputs.grad else (), outputs, cotangent, products)
        made = Outcome()
        if outputs.rows or outputs.total or outputs.grad or outputs.grad_targets:
            at = Stage(cx, o, _same, _same) if stage is None else stage(cx, o)
            made = _Blocks(call, o, at, outputs, plan).made()
        if outputs.weight:
            if call.group is None:
                total = cutting.weight_sum(o, call.options, cx, classes, plan.step)
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


def _same(a: Array | None) -> Array | None:
    return a


def _plan(
    call: LossCall,
    o: Operands,
    parts: tuple[str, ...],
    outputs: Outputs,
    cotangent: Cotangent,
    products: ChooseProducts | None,
) -> Plan:
    """Say how a call of flat operands is computed: from shapes, dtypes and options alone."""
    cx, linear, classes = call.cx, call.linear, call.classes
    assert linear is not None
    by = _products(call, outputs, products)
    count, width = o.x.shape
    sizes = {"x": count * width, "weight": classes * width}
    wide = dict.fromkeys(parts, 0)
    if by.dtype != cx.compute_dtype:
        kind = dtype_name(by.dtype)
        wide = cutting.wide_sums({n: sizes[n] for n in parts if n in sizes}, kind)
        if "x" in parts and call.group is not None:
            wide["x"] = 4 * sizes["x"]  # what the ranks add up
    # The ranks of a group take the same blocks, and hold a gradient of each beside its logits.
    most = classes if call.shard is None else call.shard.most
    most *= 2 if call.group is not None and outputs.grad else 1
    # A block's own copy of its features, and their gradient before it is rounded.
    bits = FLOATS[dtype_name(by.dtype)] + FLOATS[dtype_name(cx.compute_dtype)]
    beside = bits // 8 * width
    step = cutting.block_rows(count, most, linear, cx, sum(wide.values()), beside)
    if by.dtype == cx.compute_dtype or not parts:
        return Plan(by, parts, wide, step, cotangent, None)
    scalar = isinstance(cotangent.row_loss, float) or cotangent.row_loss.ndim == 0
    if by.lifted:
        scale = cutting.gradient_scale(o, call.options, cx, cotangent.row_loss)
        inner = scale if scalar else cotangent.row_loss * scale
        after = (cotangent.row_loss if scalar else 1.0) / cast(cx, scale, cx.sum_dtype)
        return Plan(by, parts, wide, step, cotangent._replace(row_loss=inner), after)
    if scalar and not outputs.grad_targets and ("weight" in wide or "weight" not in parts):
        # A gradient of a half is exact in 16 bits, that over 600 rows is not, and always errs to
        # one side: what all rows have in common multiplies the sums.
        unit = isinstance(cotangent.row_loss, float) and cotangent.row_loss == 1
        return Plan(
            by,
            parts,
            wide,
            step,
            cotangent._replace(row_loss=1.0),
            None if unit else cotangent.row_loss,
        )
    return Plan(by, parts, wide, step, cotangent, None)


def _products(call: LossCall, outputs: Outputs, products: ChooseProducts | None) -> Products:
    """Choose by library, device and dtypes, never by size."""
    cx, x, linear = call.cx, call.operands.x, call.linear
    assert linear is not None
    kind = dtype_name(x.dtype)
    short = kind in ("float16", "bfloat16") and dtype_name(linear.weight.dtype) == kind
    # A gradient to soft targets comes of the same launch as that to float16 logits, and may not be
    # lifted with it.
    if short and products is not None and not (kind == "float16" and outputs.grad_targets):
        own = products(cx, x, linear.weight)
        if own is not None:
            return own
    return Converted(cx, linear.weight)


class _Blocks:
    """The pass over blocks of rows: every array it writes to is its own."""

    def __init__(
        self, call: LossCall, o: Operands, stage: Stage, outputs: Outputs, plan: Plan
    ) -> None:
        self.call, self.cx, self.o, self.stage = call, call.cx, o, stage
        self.outputs, self.plan, self.by = outputs, plan, plan.by
        assert call.linear is not None
        self.bias = call.linear.bias
        count, width = o.x.shape
        classes, cx, parts = call.classes, call.cx, plan.parts
        self.z = self._room((min(plan.step, count), classes))
        # The gradient of a block takes the place of its logits.
        self.short = self.by.dtype != cx.compute_dtype and bool(parts)
        self.g = self.by.gradient(self.z) if self.short else self.z
        self.keep = cutting.present_rows(o, call.options, cx, classes, plan.cotangent)
        self.grads: dict[str, Array] = {}
        self.made_x: Array | None = None
        if "x" in parts:
            self.grads["x"] = self._room((count, width), "x")
            if "x" not in plan.wide:
                self.made_x = self._room((self.z.shape[0], width))
        if "weight" in parts:
            make = cx.xp.empty if self.short and count else cx.xp.zeros
            dtype = cx.compute_dtype if "weight" in plan.wide else self.by.dtype
            self.grads["weight"] = make((classes, width), dtype=dtype, device=cx.device)
        if "bias" in parts:
            self.grads["bias"] = cx.xp.zeros((classes,), dtype=cx.sum_dtype, device=cx.device)
        self.rows = self._room((count,)) if outputs.rows else None
        t = o.targets
        self.grad_targets = None
        if outputs.grad_targets and t is not None:
            self.grad_targets = cx.xp.empty(t.shape, dtype=t.dtype, device=cx.device)
        self.totals: list[Array] = []
        view = stage.view
        self.cotangent = Cotangent(*(view(v) if hasattr(v, "dtype") else v for v in plan.cotangent))
        self.seen = [view(a) for a in (self.z, self.bias, self.rows, self.grad_targets)]
        self.seen_bias_grad = view(self.grads.get("bias"))

    def _room(self, shape: tuple[int, ...], name: str | None = None) -> Array:
        cx = self.cx
        wide = name is None or name in self.plan.wide
        return cx.xp.empty(
            shape, dtype=cx.compute_dtype if wide else self.by.dtype, device=cx.device
        )

    def made(self) -> Outcome:
        """Go over the blocks, and return what is needed."""
        for block in cutting.spans(self.o.x.shape[0], self.plan.step):
            self._block(block)
        cx, total = self.stage.cx, None
        if self.outputs.total:
            zero = cx.xp.zeros((), dtype=cx.sum_dtype, device=cx.device)
            total = exact_sum(cx, cx.xp.stack(self.totals)) if self.totals else zero
        grads = self.grads or None
        if self.plan.after is not None:
            for name in {"weight", "bias"} & self.grads.keys():
                self.grads[name] *= self.plan.after
        return Outcome(self.rows, total, None, grads, self.grad_targets)

    def _block(self, block: slice) -> None:
        cx, by = self.cx, self.by
        xp = cx.xp
        count = block.stop - block.start
        x = cast(cx, self.o.x[block, ...], by.dtype)
        keep = None if self.keep is None else xp.expand_dims(self.keep[block], axis=-1)
        if keep is not None:
            x = cast(cx, xp.where(keep, x, xp.zeros_like(x)), by.dtype)
        by.logits(x, self.z[:count, ...])
        few = count
        if self.call.group is None:
            few = cutting.engine_rows(self.call.classes, cx, self.outputs.grad)
        for piece in cutting.spans(count, few):
            self._rows(block, piece)
        g = self.g[:count, ...]
        if "x" in self.grads:
            self._features(g, block, keep)
        if "weight" in self.grads:
            by.add(self.grads["weight"], g, x, block.start == 0)

    def _features(self, g: Array, block: slice, keep: Array | None) -> None:
        """Put the gradient to some rows of features in its place."""
        out = self.grads["x"][block, ...]
        made = out if self.made_x is None else self.made_x[: g.shape[0], ...]
        self.by.features(g, made)
        if self.plan.after is not None:
            made *= self.plan.after
        if keep is not None:  # 0 times a weight of inf
            out[...] = self.cx.xp.where(keep, made, self.cx.xp.zeros_like(made))
        elif self.made_x is not None:
            out[...] = made

    def _rows(self, block: slice, piece: slice) -> None:
        """Put the gradient of some rows of logits in their place."""
        call, cx = self.call, self.stage.cx
        z, bias, rows, grad_targets = self.seen
        at = slice(block.start + piece.start, block.start + piece.stop)
        part = z[piece, ...]
        if bias is not None:
            part += cast(cx, bias, cx.compute_dtype)
        o = cutting.rows_of(self.stage.o, at, part)
        got = exchange.stage(call, o, cx).run(
            o,
            call.options,
            cx,
            call.classes,
            self.outputs._replace(weight=False),
            cutting.cotangent_of(self.cotangent, at),
        )
        if self.outputs.total:
            self.totals.append(got.total)
        if rows is not None:
            rows[at] = got.rows
        if grad_targets is not None:
            grad_targets[at, ...] = got.grad_targets
        if got.grad is not None:
            if self.seen_bias_grad is not None:
                total = self.seen_bias_grad
                total += cast(cx, cx.xp.sum(got.grad, axis=0, dtype=cx.compute_dtype), cx.sum_dtype)
            if self.short:
                # Over logits of this and earlier rows, which nothing reads again.
                self.g[piece, ...] = self.stage.home(got.grad)
            else:
                part[...] = got.grad
