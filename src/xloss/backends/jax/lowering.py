"""How a program of JAX's calls the compiled engine, and when it holds core's formula instead."""

from __future__ import annotations

from collections.abc import Callable
from itertools import count
from typing import Any

import jax
from jax.extend.mlir import ir
from jax.interpreters import mlir

from ..._arrays.inspect import dtype_name
from ...engines import EngineUnavailable
from ...engines.cpu import xla_ffi
from ...engines.cpu.call import COLUMN_KERNEL_MAX_CLASSES

Lowering = Callable[..., Any]


def computed(formula: Lowering, reason: str, ctx: Any, *operands: Any, form: Any) -> Any:
    """Lower to the formula, where the engine is not asked for by name."""
    if form.options.engine == "cpu":
        raise EngineUnavailable(f"engine 'cpu' cannot take this call: {reason}")
    return formula(ctx, *operands, form=form)


def host(formula: Lowering, by_label: Lowering, ctx: Any, *operands: Any, form: Any) -> Any:
    """Lower for the host's processor: a call of the engine where it can be called.

    by_label: a call with each row's own weight in place of the classes'.
    """
    reason = _refused(ctx, form)
    if reason is not None:
        return computed(formula, reason, ctx, *operands, form=form)
    if form.class_weight and not _needs_classes(form):
        return by_label(ctx, *operands, form=form)
    x = ctx.avals_in[0]
    options = xla_ffi.options(form, dtype_name(x.dtype), x.shape[-1] > COLUMN_KERNEL_MAX_CLASSES)
    call = jax.ffi.ffi_lowering(xla_ffi.TARGET, extra_attributes=_spread(ctx, x, form))
    return call(ctx, *operands, options=options)


def _needs_classes(form: Any) -> bool:
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
    if spread and form.class_weight and _needs_classes(form):
        return "XLA's partitioner takes class weights for rows, and would spread them"
    return xla_ffi.unavailable()


def _spread(ctx: Any, x: Any, form: Any) -> dict[str, Any]:
    """Say that rows may be spread over devices, each device's by themselves.

    In the words of both of XLA's partitioners: the leading axes are the same rows in every array.
    """
    rows = len(x.shape) - 1
    fresh = map(_factor, count())
    names = [next(fresh) for _ in range(rows)]
    sizes = dict(zip(names, x.shape, strict=False))

    def axes(i: int, shape: tuple[int, ...]) -> str:
        shared = 0 if form.class_weight and i == 2 else rows
        own = [next(fresh) for _ in shape[shared:]]
        sizes.update(zip(own, shape[shared:], strict=True))
        return f"[{', '.join([*names[:shared], *own])}]"

    taken = ", ".join(axes(i, a.shape) for i, a in enumerate(ctx.avals_in))
    made = ", ".join(axes(-1, a.shape) for a in ctx.avals_out)
    lengths = ", ".join(f"{name}={n}" for name, n in sizes.items())
    rule = f"#sdy.op_sharding_rule<({taken})->({made}) {{{lengths}}}>"
    return {
        "mhlo.frontend_attributes": mlir.ir_attribute({"num_batch_dims": str(rows)}),
        "sdy.sharding_rule": ir.Attribute.parse(rule),
    }


def _factor(k: int) -> str:
    """Return Shardy's name of a factor: i to z, then z_1 and on."""
    return chr(ord("i") + k) if k < 18 else f"z_{k - 17}"
