"""How a program of JAX's calls the compiled engine, and when it holds core's formula instead."""

from __future__ import annotations

from collections.abc import Callable
from itertools import count
from typing import Any

import jax
from jax.extend.mlir import ir
from jax.interpreters import mlir

from ...engines import EngineUnavailable
from ...engines.cpu import xla_ffi
from ...engines.cpu.call import COLUMN_KERNEL_MAX_CLASSES

Lowering = Callable[..., Any]


def computed(formula: Lowering, reason: str, ctx: Any, *operands: Any, form: Any) -> Any:
    """Lower to the formula, where the engine is not asked for by name."""
    if form.options.engine == "cpu":
        raise EngineUnavailable(f"engine 'cpu' cannot take this call: {reason}")
    return formula(ctx, *operands, form=form)


def host(formula: Lowering, by_kernel: Lowering, ctx: Any, *operands: Any, form: Any) -> Any:
    """Lower for the host's processor: a call of the engine where it can be called."""
    reason = _refused(ctx, form)
    if reason is not None:
        return computed(formula, reason, ctx, *operands, form=form)
    return by_kernel(ctx, *operands, form=form)


def kernel(ctx: Any, *operands: Any, form: Any, fields: tuple[str, ...]) -> Any:
    """Lower the call itself; fields: what the engine calls the arrays."""
    x, outputs = ctx.avals_in[0], form.outputs
    made = [*["losses"] * outputs.rows, *["maxima", "tail_sums"] * outputs.stats]
    fields = (*fields, *made, *["gradient"] * outputs.grad)
    by_rows = x.shape[-1] > COLUMN_KERNEL_MAX_CLASSES
    options = xla_ffi.options(form, x, by_rows, fields, (*ctx.avals_in, *ctx.avals_out))
    call = jax.ffi.ffi_lowering(xla_ffi.TARGET, extra_attributes=_spread(ctx, x, fields))
    return call(ctx, *operands, options=options)


def needs_classes(form: Any) -> bool:
    """Tell whether every class's weight counts in a row, not its label's alone."""
    return not form.options.indexed or bool(form.options.label_smoothing)


def _refused(ctx: Any, form: Any) -> str | None:
    """Say why a program cannot call the engine, or None."""
    lowering = getattr(ctx.module_context, "lowering_parameters", None)
    if getattr(lowering, "for_export", True):
        return "an exported program must run where the engine is not"
    shapes = [n for a in (*ctx.avals_in, *ctx.avals_out) for n in a.shape]
    if not all(isinstance(n, int) for n in shapes):
        return "a length is a symbol"
    axes = ctx.module_context.axis_context
    spread = getattr(axes, "num_devices", 1) not in (None, 1)
    if hasattr(axes, "mesh"):  # inside a shard_map, all of whose axes may be its own
        spread = set(axes.mesh.axis_names) != set(axes.manual_axes)
    if spread and form.options.engine != "cpu":
        return "XLA may spread the classes over devices, which the engine would gather"
    if spread and form.class_weight and needs_classes(form):
        return "XLA's partitioner takes class weights for rows, and would spread them"
    return xla_ffi.unavailable()


def _spread(ctx: Any, x: Any, fields: tuple[str, ...]) -> dict[str, Any]:
    """Say that rows may be spread over devices, each device's by themselves.

    In the words of both of XLA's partitioners: the leading axes are the same rows in every array.
    """
    rows = len(x.shape) - 1
    fresh = map(_factor, count())
    names = [next(fresh) for _ in range(rows)]
    sizes = dict(zip(names, x.shape, strict=False))

    def axes(field: str, shape: tuple[int, ...]) -> str:
        shared = 0 if field == "class_weight" else rows
        own = [next(fresh) for _ in shape[shared:]]
        sizes.update(zip(own, shape[shared:], strict=True))
        return f"[{', '.join([*names[:shared], *own])}]"

    taken = ", ".join(axes(*a) for a in zip(fields, (a.shape for a in ctx.avals_in), strict=False))
    made = ", ".join(axes("losses", a.shape) for a in ctx.avals_out)
    lengths = ", ".join(f"{name}={n}" for name, n in sizes.items())
    rule = f"#sdy.op_sharding_rule<({taken})->({made}) {{{lengths}}}>"
    return {
        "mhlo.frontend_attributes": mlir.ir_attribute({"num_batch_dims": str(rows)}),
        "sdy.sharding_rule": ir.Attribute.parse(rule),
    }


def _factor(k: int) -> str:
    """Return Shardy's name of a factor: i to z, then z_1 and on."""
    return chr(ord("i") + k) if k < 18 else f"z_{k - 17}"
