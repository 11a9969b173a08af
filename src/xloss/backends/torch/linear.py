"""Linear cross-entropy on PyTorch: gradients computed in forward, scaled in backward."""

from __future__ import annotations

from functools import partial
from math import isfinite
from typing import Any

import torch

from ..._arrays.context import Context, context, functional
from ..._arrays.inspect import Array, is_wrapper, namespace
from ...core.call import LossCall
from ...core.linear import WEIGHT_CHUNK, Linear, one_row_axis, spans
from ...core.options import UNIT_COTANGENT, Cotangent, Operands, Options, Outcome, Outputs
from ...core.targets import prepare
from ..eager import dense as default
from ..eager.linear import Stage, argument, evaluated, gathered, rounded
from ..eager.linear import run as blocks
from . import backend as whole
from . import custom_op, linear_products, numpy_views
from .following import transformed

NAMES = ("x", "weight", "bias", "targets")  # arguments that may have a gradient, in their order
TWICE = (
    "linear_cross_entropy: second derivatives are not offered, for its gradients are made in the "
    "forward pass; cross_entropy(features @ weight.T + bias, targets) has them"
)


def value(call: LossCall) -> Array:
    """Return the loss, recorded by autograd where something asks for it."""
    compiling = torch.compiler.is_compiling()
    arrays = arguments(call)
    every: Any = (*call.operands, *arrays)
    if call.group is not None and transformed(every):
        raise RuntimeError("group: not under forward-mode autodiff")
    if needs_logits(call, every):
        return whole.value(held(call))
    recorded = torch.is_grad_enabled() and any(a is not None and a.requires_grad for a in arrays)
    if compiling:
        return _traced(call, arrays, recorded)
    if not recorded:
        return default.value(call, partial(run, call, ()))
    made: Array = _Linear.apply(*arrays, without(call))  # type: ignore[no-untyped-call]
    return made


def needs_logits(call: LossCall, arrays: Any) -> bool:
    """Tell whether blocks cannot be written in place, because something records operations."""
    if torch.compiler.is_compiling():
        return bool(custom_op.transforming())
    wrapped = any(a is not None and is_wrapper(a) for a in arrays)
    return wrapped or not call.cx.inplace_ok or transformed(arrays)


def value_and_grad(
    call: LossCall, wanted: tuple[str, ...], cotangent: Any
) -> tuple[Array, dict[str, Array]]:
    """Return the loss and the closed-form gradients, recorded by no autodiff."""
    with torch.no_grad():
        if call.group is None:
            if needs_logits(call, (*call.operands, *arguments(call))):
                return _held_gradients(call, wanted, cotangent)
            if torch.compiler.is_compiling():
                return _traced_gradients(call, wanted, cotangent)
        got, grads = evaluated(call, partial(run, call), wanted, cotangent)
        return got, rounded(call, grads)


def run(
    call: LossCall, parts: tuple[str, ...], outputs: Outputs, cotangent: Cotangent = UNIT_COTANGENT
) -> Outcome:
    """Compute the blocks with autograd off: products by torch, on the host rows on NumPy views."""
    with torch.no_grad():
        o = one_row_axis(call.operands, call.classes, call.cx)
        stage = _stage(call.options, call.cx, o)
        made = blocks(call, parts, outputs, cotangent, stage, linear_products.products)
    return made._replace(total=_tensor(made.total))


def _tensor(a: Any) -> Any:
    return a if a is None or torch.is_tensor(a) else numpy_views.tensor(a)


def _stage(options: Options, cx: Context, o: Operands) -> Stage:
    """Choose where rows are computed: on the host NumPy's elementwise operations beat torch's."""
    views = None
    if options.engine is None and cx.on_host:
        views = numpy_views.views(o._replace(x=o.x[:0, ...].to(cx.compute_dtype)))
    if views is None:
        return Stage(cx, o, lambda a: a, lambda a: a)
    return Stage(numpy_views.numpy_context(views.x, cx), views, _view, numpy_views.tensor)


def _view(a: Array | None) -> Array | None:
    if a is None:
        return None
    return numpy_views.view(a.float() if a.dtype == torch.bfloat16 else a)


def arguments(call: LossCall) -> tuple[Any, ...]:
    """Return the arrays that may have a gradient, in the order of NAMES."""
    o, linear = call.operands, call.linear
    assert linear is not None
    return o.x, linear.weight, linear.bias, o.targets


def without(call: LossCall) -> LossCall:
    """Return the call without those arrays, for autograd to keep."""
    assert call.linear is not None
    bare = call.linear._replace(weight=None, bias=None)
    return call._replace(operands=call.operands._replace(x=None, targets=None), linear=bare)


def with_arrays(call: LossCall, arrays: Any) -> LossCall:
    """Return the call with those arrays."""
    assert call.linear is not None
    x, weight, bias, targets = arrays
    linear = call.linear._replace(weight=weight, bias=bias)
    return call._replace(operands=call.operands._replace(x=x, targets=targets), linear=linear)


def held(call: LossCall) -> LossCall:
    """Return the call on all logits at once, as torch.func and forward mode need it."""
    o = call.operands._replace(x=_products(call)[3])
    return call._replace(operands=o, linear=None)


def _products(call: LossCall) -> tuple[Array | None, Array, Array, Array]:
    """Return which rows are present, the features, the weight and the logits."""
    o, linear, options = call.operands, call.linear, call.options
    assert linear is not None
    cx = functional(call.cx)
    keep = prepare(
        o if options.indexed or options.rest else o._replace(targets=None),
        options,
        cx,
        call.classes,
    ).row_present
    keep = None if keep is None else keep.unsqueeze(-1)
    x, weight = cx.cast(o.x, cx.compute_dtype), cx.cast(linear.weight, cx.compute_dtype)
    if keep is not None:
        x = torch.where(keep, x, 0.0)
    z = x @ weight.mT
    if linear.bias is not None:
        z = z + cx.cast(linear.bias, cx.compute_dtype)
    return keep, x, weight, z


def _held_gradients(
    call: LossCall, wanted: tuple[str, ...], cotangent: Any
) -> tuple[Array, dict[str, Array]]:
    """Return the loss and its gradients by way of the gradient to all logits."""
    keep, x, weight, z = _products(call)
    o, cx = call.operands._replace(x=z), functional(call.cx)
    inner = tuple({name if name == "targets" else "x" for name in wanted})
    got, grads = whole.value_and_grad(
        call._replace(operands=o, linear=None, cx=cx), inner, cotangent
    )
    if "x" in grads:
        g = grads.pop("x")
        features = g @ weight
        rows, flat = x.reshape(-1, x.shape[-1]), g.reshape(-1, call.classes)
        made = {
            "x": features if keep is None else torch.where(keep, features, 0.0),
            "weight": flat.mT @ rows,
            "bias": torch.sum(flat, 0, dtype=cx.sum_dtype),
        }
        grads |= {name: made[name] for name in wanted if name != "targets"}
    return got, rounded(call, grads)


def keep(ctx: Any, arrays: Any, bare: LossCall) -> None:
    """Keep for the backward pass what it starts from."""
    ctx.bare, ctx.grads = bare, None
    ctx.wanted = tuple(n for n, w in zip(NAMES, ctx.needs_input_grad, strict=False) if w)
    ctx.save_for_backward(*arrays)
    ctx.set_materialize_grads(False)


class _Linear(torch.autograd.Function):
    """The loss; for a mean or a sum also the gradients, for a cotangent of 1."""

    @staticmethod
    def forward(ctx: Any, *args: Any) -> Any:
        *arrays, bare = args
        call = with_arrays(bare, arrays)
        keep(ctx, arrays, bare)
        if call.options.reduction == "none":
            return default.value(call, partial(run, call, ()))
        got, ctx.grads = evaluated(call, partial(run, call), ctx.wanted, None)
        return got

    @staticmethod
    def backward(ctx: Any, *ups: Any) -> Any:
        if ups[0] is None:
            return (None,) * 5
        arrays = ctx.saved_tensors
        made, ctx.grads = ctx.grads, None  # they are scaled in place, which is possible once
        grads = _Gradients.apply(ups[0], *arrays, ctx.bare, ctx.wanted, made)  # type: ignore[no-untyped-call]
        named = dict(zip(ctx.wanted, grads, strict=True))
        return (*(named.get(name) for name in NAMES), None)


class _Gradients(torch.autograd.Function):
    """The gradients times the cotangent: a Function of its own, because it has no derivative."""

    @staticmethod
    def forward(ctx: Any, *args: Any) -> Any:
        cotangent, *arrays, bare, wanted, grads = args
        call = with_arrays(bare, arrays)
        if grads is not None and not (call.cx.on_host and not isfinite(float(cotangent))):
            grads = {name: _scaled(g, cotangent, call.cx) for name, g in grads.items()}
        elif call.options.reduction == "none":
            parts = tuple(name for name in wanted if name != "targets")
            outputs = Outputs(grad=bool(parts), grad_targets="targets" in wanted)
            grads = gathered(run(call, parts, outputs, Cotangent(cotangent)))
        else:
            # A second backward through a retained graph; or an infinite cotangent, which must not
            # be multiplied by gradients of 0.
            grads = evaluated(call, partial(run, call), wanted, cotangent)[1]
        return tuple(rounded(call, grads)[name] for name in wanted)

    @staticmethod
    def backward(ctx: Any, *ups: Any) -> Any:
        raise RuntimeError(TWICE)


def _scaled(g: Array, cotangent: Array, cx: Context) -> Array:
    """Return g times the cotangent, in place where possible: a copy would pass over the weight."""
    if cx.on_host and float(cotangent) == 1:
        return g
    if g.dtype in (torch.float32, torch.float64):
        return g.mul_(cotangent)
    # As a 0-d tensor the cotangent would be rounded to the 16 bits of g before it multiplies. On
    # the host PyTorch makes the product in float32 first: some rows at a time keep that small.
    cotangent, flat = cotangent.reshape(1), g.view(-1)
    for c in spans(flat.shape[0], WEIGHT_CHUNK if cx.on_host else flat.shape[0]):
        torch.mul(flat[c], cotangent, out=flat[c])
    return g


# The operation that torch.compile calls. An autograd.Function it cannot trace without a warning.

SCHEMA = (
    "(Tensor x, Tensor weight, Tensor? bias, Tensor targets, Tensor? class_weight, "
    "Tensor? sample_weight, Tensor? where, Tensor? indices, Tensor? normalizer, Tensor? up, "
    "float? count, "
    "int? ignore_index, float label_smoothing, float z_loss, float? softcap, str reduction, "
    "int? block_rows, str? rest, bool[] wanted) -> (Tensor, Tensor, Tensor, Tensor, Tensor)"
)


def _traced(call: LossCall, arrays: tuple[Any, ...], recorded: bool) -> Array:
    """Return the loss by an operation that a compiler keeps whole."""
    wanted = [bool(recorded and a is not None and a.requires_grad) for a in arrays]
    made: Array = _asked(call, wanted)[0]
    return made


def _traced_gradients(
    call: LossCall, wanted: tuple[str, ...], cotangent: Any
) -> tuple[Array, dict[str, Array]]:
    """Return the loss and its gradients by the same operation."""
    flags = [name in wanted for name in NAMES]
    if call.options.reduction == "none":
        got = _asked(call, [False] * len(NAMES))[0]
        out = _asked(call, flags, torch.ones_like(got) if cotangent is None else cotangent)
    else:
        out = _asked(call, flags, cotangent)
        got = out[0]
    named = dict(zip(NAMES, out[1:], strict=True))
    return got, rounded(call, {name: named[name] for name in wanted})


def _asked(call: LossCall, wanted: list[bool], cotangent: Any = None) -> tuple[Array, ...]:
    """Ask the operation for the loss and for the gradients that are wanted."""
    made: tuple[Array, ...] = operation(*operation_arguments(call, wanted, cotangent))
    return made


def operation_arguments(
    call: LossCall, wanted: list[bool], cotangent: Any = None
) -> tuple[Any, ...]:
    """Return a call as the operation takes it."""
    o, options, linear = call.operands, call.options, call.linear
    assert linear is not None
    n = call.normalizer
    tensor = torch.is_tensor(n)
    return (
        *arguments(call),
        o.class_weight,
        o.sample_weight,
        o.where,
        o.indices,
        n if tensor else None,
        cotangent,
        None if tensor or n is None else float(n),
        options.ignore_index,
        options.label_smoothing,
        options.z_loss,
        options.softcap,
        options.reduction,
        linear.block_rows,
        options.rest,
        wanted,
    )


def described(*args: Any) -> tuple[LossCall, Any, tuple[str, ...]]:
    """Return the call that an operation's arguments describe, its cotangent, and what it wants."""
    x, weight, bias, targets, class_weight, sample_weight, where, indices = args[:8]
    normalizer, cotangent, count = args[8:11]
    ignore, smoothing, z_loss, softcap, reduction, rows, rest, wanted = args[11:]
    options = Options(
        "cross_entropy",
        not targets.is_floating_point(),
        ignore,
        smoothing,
        z_loss,
        softcap,
        reduction=reduction,
        validate=False,
        rest=rest,
    )
    o = Operands(x, targets, class_weight, sample_weight, where, indices=indices)
    n = count if normalizer is None else normalizer
    call = LossCall(
        "linear_cross_entropy",
        options,
        context(x, namespace(x)),
        o,
        weight.shape[0],
        -1,
        n,
        linear=Linear(weight, bias, rows),
    )
    return call, cotangent, tuple(name for name, want in zip(NAMES, wanted, strict=True) if want)


@torch.library.custom_op("xloss::linear_cross_entropy", mutates_args=(), schema=SCHEMA)
def operation(*args: Any) -> Any:
    """Return the loss and the gradients that are wanted; empty arrays in place of the others."""
    call, cotangent, wanted = described(*args)
    parts = tuple(name for name in wanted if name != "targets")

    def none() -> Array:  # a new one each time: results of an operation share no memory
        return call.operands.x.new_empty(0)

    if call.options.reduction != "none":
        got, grads = evaluated(call, partial(run, call), wanted, cotangent)
    elif cotangent is None:
        got, grads = default.value(call, partial(run, call, ())), {}
    else:
        outputs = Outputs(grad=bool(parts), grad_targets="targets" in wanted)
        got, grads = none(), gathered(run(call, parts, outputs, Cotangent(cotangent)))
    grads = {name: _returned(g, argument(call, name)) for name, g in grads.items()}
    return got, *(grads[name] if name in grads else none() for name in NAMES)


def _returned(g: Array, a: Array) -> Array:
    """Return a gradient in the dtype that the fake kernel declares."""
    return g.to(a.dtype) if a.dtype == torch.bfloat16 and g.dtype == torch.float32 else g


@operation.register_fake
def _shapes(*args: Any) -> Any:
    # Nothing of xloss is called here: a compiler that traces must not depend on our caches.
    arrays, cotangent, reduction, wanted = args[:4], args[9], args[15], args[-1]
    x, targets = arrays[0], arrays[3]
    acc = torch.float64 if x.dtype == torch.float64 else torch.float32
    narrow = [a.dtype if a.dtype == torch.bfloat16 else acc for a in arrays[:2]]
    dtypes = (*narrow, torch.float64, targets.dtype)
    each = reduction == "none"
    late = each and cotangent is None
    shape = (0,) if each and not late else tuple(x.shape[:-1]) if each else ()

    def like(a: Any, dtype: Any, want: bool) -> Any:
        return x.new_empty(a.shape, dtype=dtype) if want and not late else x.new_empty(0)

    out = x.new_empty(shape, dtype=acc)
    return out, *map(like, arrays, dtypes, wanted)


def _setup(ctx: Any, inputs: Any, output: Any) -> None:
    ctx.options = inputs[10:]
    ctx.each = inputs[15] == "none"
    ctx.save_for_backward(*(inputs[:10] if ctx.each else (*inputs[:4], *output[1:])))


def _backward(ctx: Any, cotangent: Any, *_: Any) -> Any:
    saved = ctx.saved_tensors
    arrays, wanted = saved[:4], ctx.options[-1]
    if ctx.each:
        grads = operation(*saved[:9], cotangent, *ctx.options)[1:]
    else:
        # Not as a 0-d tensor: in bfloat16 the cotangent would be rounded before it multiplies.
        cotangent = cotangent.reshape(1)
        grads = [g * cotangent if w else None for g, w in zip(saved[4:], wanted, strict=True)]
    out = (g.to(a.dtype) if w else None for g, a, w in zip(grads, arrays, wanted, strict=True))
    return (*out, *(None,) * 15)


operation.register_autograd(_backward, setup_context=_setup)
