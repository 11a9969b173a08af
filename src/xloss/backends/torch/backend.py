"""PyTorch: autograd to any order, torch.func, torch.compile, around the engine's rows."""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np
import torch
from torch.autograd import forward_ad

from ..._arrays.context import Context, context, functional, read
from ..._arrays.inspect import Array, has_memory, is_wrapper, namespace
from ..._arrays.ops import cast
from ...core import softmax
from ...core.call import LossCall
from ...core.family import SOFTMAX_KINDS, formula_gradients
from ...core.options import Cotangent, Operands, Options, Outcome, Outputs
from ...core.reduce import exact_sum, mean
from ...core.targets import live_rows, prepare, total_weight
from ...core.weights import mean_weights
from ...engines import choose
from ..eager import dense as default
from . import cuda as torch_cuda
from . import custom_op
from .softmax_rules import following, mapped, primals, sigmoid_parts, softmax_parts


def value(call: LossCall) -> Array:
    """Return the loss, recorded by autograd where something asks for it."""
    if call.memory is not None and torch_cuda.takes(call):
        return torch_cuda.value(call, _by_rows)
    o = call.operands
    compiling = torch.compiler.is_compiling()
    if compiling:
        custom_op.refuse_second("torch.compile")
    recorded = torch.is_grad_enabled() and (
        o.x.requires_grad or (o.targets is not None and o.targets.requires_grad)
    )
    transformed = _transformed(o, compiling)
    if transformed and _functionalized():
        return _by_rows(call, True)
    if not recorded and not transformed:
        return _by_rows(call, True) if compiling and custom_op.takes(call) else _plain(call)
    # What torch.func follows may be something else: it takes no Function with a context of its own.
    by_rows = (
        call.options.reduction == "none" or compiling or transformed or custom_op.transforming()
    )
    if not by_rows and (o.targets is None or not o.targets.requires_grad):
        if default.reduces(choose(o, call.options, call.cx), call):
            return torch_cuda.recorded(call, _by_rows)
        return _Reduced.apply(*o, call._replace(operands=Operands(None)))  # type: ignore[no-untyped-call]  # torch's
    return _by_rows(call, compiling)


def _by_rows(call: LossCall, compiling: bool = False) -> Array:
    """Return the loss as a function of row losses, in plain operations."""
    cx = functional(call.cx)
    o = call.operands
    weight = None
    if call.options.reduction == "mean":
        # In plain operations: the sum of soft targets is a function of them.
        n = call.normalizer
        o, n = mean_weights(o, call.options, cx, call.classes, n, rounded=True)
        o, weight = live_rows(o, call.options, cx, call.classes, n)
        call = call._replace(operands=o, normalizer=n)
    if compiling:
        rows = custom_op.rows(call) if custom_op.takes(call) else _surrogate(call)
    else:
        rows = _recorded(call)
    if call.options.reduction == "none":
        return rows
    total = exact_sum(cx, rows)
    if weight is not None:
        total = mean(cx, total, weight, call.normalizer)
    return cast(cx, total, cx.compute_dtype)


def value_and_grad(
    call: LossCall, wanted: tuple[str, ...], cotangent: Any
) -> tuple[Array, dict[str, Array]]:
    """Return the loss and the closed-form gradients, recorded by no autodiff."""
    with torch.no_grad():
        twin = _numpy_call(call)
        if twin is None:
            return default.value_and_grad(call, wanted, cotangent)
        given = None if cotangent is None else _view(cotangent)
        got, grads = default.value_and_grad(twin, wanted, given)
        return _tensor(got), {name: torch.from_numpy(g) for name, g in grads.items()}


def _plain(call: LossCall) -> Array:
    twin = _numpy_call(call)
    return default.value(call) if twin is None else _tensor(default.value(twin))


def _numpy_call(call: LossCall) -> LossCall | None:
    """Return the call on NumPy views of its tensors, or None where they have none.

    On the host NumPy's elementwise operations take a third of the time of torch's own, and give
    the same bits whatever the batch. Asking for the generic engine keeps torch's namespace.
    """
    if call.options.engine is not None or not call.cx.on_host:
        return None
    o = _views(call.operands)
    if o is None:
        return None
    n = call.normalizer
    cx = _numpy_context(o.x, call.cx)
    return call._replace(cx=cx, operands=o, normalizer=_view(n) if torch.is_tensor(n) else n)


def _numpy_context(x: Array, cx: Context) -> Context:
    made = context(x, namespace(x))
    return read(made, cx.labels_verified) if cx.values_readable or cx.labels_verified else made


def _views(o: Operands) -> Operands | None:
    """Return the operands as NumPy views; None for a dtype or a kind of tensor without one."""
    views = []
    for a in o:
        if a is not None and (a.dtype == torch.bfloat16 or not has_memory(a)):
            return None
        views.append(None if a is None else _view(a))
    return Operands(*views)


def _view(a: Array) -> Array:
    return a.detach().numpy() if a.requires_grad else a.numpy()


def _tensor(a: Array) -> Array:
    """Return a tensor on a NumPy array's memory, or of a NumPy scalar."""
    return torch.from_numpy(np.asarray(a))


def _home(a: Array) -> Array:
    return a if torch.is_tensor(a) else _tensor(a)


def elements(call: LossCall) -> Array:
    """Return softmax or its logarithm, recorded by autograd where something asks for it."""
    x, cx = call.operands.x, call.cx
    compiling = torch.compiler.is_compiling()
    if compiling:
        custom_op.refuse_second("torch.compile")
    recorded = torch.is_grad_enabled() and x.requires_grad
    if not recorded and not _transformed(call.operands, compiling):
        return default.elements(call)
    choose(call.operands, call.options, cx)
    logarithm = call.options.kind == "log_softmax"
    z = cast(cx, x, cx.compute_dtype)
    if compiling or (_followed(call.operands) and _functionalized()):
        # The value is ours, the derivative that of the compiler's own softmax.
        twin = torch.log_softmax(z, -1) if logarithm else torch.softmax(z, -1)
        mine = softmax.parts(z.detach(), functional(cx))
        slope = torch.where(torch.isfinite(twin), twin - twin.detach(), 0.0)
        return default.restore(call, (-mine.nll if logarithm else mine.p) + slope)
    got = softmax_parts(z)
    return default.restore(call, -got.nll if logarithm else got.p)


def weight(call: LossCall) -> Array:
    """Return the mean's denominator; a sum of soft targets is recorded where they are."""
    o, cx = call.operands, call.cx
    if o.targets is None or not (o.targets.requires_grad and torch.is_grad_enabled()):
        return default.weight(call)
    t = prepare(o, call.options, functional(cx), call.classes)
    return total_weight(t, 0, functional(cx))


def _transformed(o: Operands, compiling: bool) -> bool:
    """Tell whether torch.func or forward-mode autodiff follows one of the operands."""
    if compiling:
        return False
    return forward_ad._current_level >= 0 or _followed(o)


def _functionalized() -> bool:
    """Tell whether torch.func.functionalize is at work, which refuses every autograd.Function."""
    kind = torch._C._functorch.TransformType.Functionalize
    if all(one.key() != kind for one in torch._C._functorch.get_interpreter_stack() or ()):
        return False
    custom_op.refuse_second("torch.func.functionalize")
    return True


def _followed(o: Operands) -> bool:
    """Tell whether torch.func follows one of the operands: labels and weights count too."""
    wrapped = torch._C._functorch.is_functorch_wrapped_tensor
    return any(a is not None and wrapped(a) for a in o)


def _recorded(call: LossCall) -> Array:
    o = call.operands
    arrays = (o.x, o.targets, o.class_weight, o.sample_weight, o.where, o.pos_weight)
    out = _Rows.apply(*arrays, call.options, call.classes, call.cx.labels_verified)  # type: ignore[no-untyped-call]
    return out[0] if isinstance(out, tuple) else out


def _surrogate(call: LossCall) -> Array:
    """Return rows whose recorded derivative is the closed form: value + Σ g (x - x.detach()).

    A compiler differentiates this to the gradient that keeps the tail; an autograd.Function it
    cannot trace without a warning of its own. First order only, as under torch.compile always.
    """
    o, options = call.operands, call.options
    compiling = torch.compiler.is_compiling()
    cx = functional(call.cx)
    fixed = Operands(
        o.x.detach(),
        None if o.targets is None else o.targets.detach(),
        o.class_weight,
        o.sample_weight,
        o.where,
        o.pos_weight,
    )
    rows: Any = (
        choose(fixed, options, cx).run(fixed, options, cx, call.classes, Outputs(rows=True)).rows
    )
    g, h = formula_gradients(fixed, options, cx, call.classes, Cotangent(1.0))
    for x, slope in ((o.x, g), (o.targets, h)):
        # What torch.func follows says that of itself only in the innermost of its levels.
        if x is None or slope is None or (compiling and not x.requires_grad):
            continue
        zero = torch.where(torch.isfinite(x), cast(cx, x - x.detach(), cx.compute_dtype), 0.0)
        slope = cast(cx, slope, cx.compute_dtype)
        infinite = torch.isinf(slope)
        # The square root's slope at 0 is inf: an infinite derivative of a term that is 0.
        steep = torch.sqrt(torch.where(infinite, zero, 1.0)) * torch.sign(slope)
        term = torch.where(infinite, steep, torch.where(infinite, 0.0, slope) * zero)
        rows = rows + (term.sum(-1) if term.ndim > rows.ndim else term)
    return rows


def _context(o: Operands, clean: bool) -> Context:
    cx = context(o.x, namespace(o.x))._replace(labels_verified=clean)
    return functional(cx) if _followed(o) else cx


def _upstream(cotangent: Array, cx: Context) -> tuple[Array, Context]:
    """Return an upstream that an engine can read, or the context of plain operations."""
    if cx.inplace_ok and not has_memory(cotangent):
        if is_wrapper(cotangent):
            return cotangent, functional(cx)
        cotangent = cotangent.clone().resolve_neg()  # a negated view; zeros without memory
    return cotangent, cx


def _run(
    o: Operands,
    options: Options,
    classes: int,
    clean: bool,
    outputs: Outputs,
    cotangent: Any = 1.0,
    saved: tuple[Array, ...] | None = None,
) -> Outcome:
    """Run the engine on the tensors, or on NumPy views of them."""
    cx = _context(o, clean)
    if not isinstance(cotangent, float):
        cotangent, cx = _upstream(cotangent, cx)
    twin = _views(o) if options.engine is None and cx.on_host else None
    if twin is None:
        return choose(o, options, cx).run(
            o, options, cx, classes, outputs, Cotangent(cotangent), saved
        )
    cx = _numpy_context(twin.x, cx)
    cotangent = cotangent if isinstance(cotangent, float) else _view(cotangent)
    known = None if saved is None else tuple(map(_view, saved))
    got = choose(twin, options, cx).run(
        twin, options, cx, classes, outputs, Cotangent(cotangent), known
    )
    return Outcome(
        rows=None if got.rows is None else _tensor(got.rows),
        grad=None if got.grad is None else _tensor(got.grad),
        grad_targets=None if got.grad_targets is None else _tensor(got.grad_targets),
        stats=None if got.stats is None else tuple(map(_tensor, got.stats)),
    )


class _Reduced(torch.autograd.Function):
    """The sum or the mean of the row losses; saves its inputs, two numbers a row of many classes.

    Its gradient is value_and_grad's, its second derivative that of the rows.
    """

    @staticmethod
    def forward(ctx: Any, *args: Any) -> Any:
        o, call = Operands(*args[:6]), args[6]
        ctx.call = call
        options = call.options
        call = call._replace(operands=o)
        call = _numpy_call(call) or call
        engine: Any = choose(call.operands, options, call.cx)
        keep = options.kind in SOFTMAX_KINDS and call.classes >= engine.save_stats_from
        weight = default.known_weight(call) if options.reduction == "mean" else 1.0
        outputs = Outputs(total=True, weight=weight is None, stats=keep)
        got = default.runner(call)(outputs)
        weight = got.weight if weight is None else weight
        ctx.weight = weight if options.reduction == "mean" else None
        ctx.set_materialize_grads(False)
        ctx.save_for_backward(*args[:6], *map(_home, got.stats or ()))
        return _home(default.reduced(call, got.total, ctx.weight))

    @staticmethod
    def backward(ctx: Any, cotangent: Any) -> Any:
        none = (None,) * 6
        if cotangent is None:
            return None, *none
        kept = ctx.saved_tensors  # activation checkpointing gives them once
        o, stats = Operands(*kept[:6]), kept[6:]
        call = ctx.call._replace(operands=o)
        if torch.is_grad_enabled():
            return torch.autograd.grad(_by_rows(call), o.x, cotangent, create_graph=True)[0], *none
        cotangent, cx = _upstream(cotangent, call.cx)
        call = call._replace(cx=cx)
        twin = _numpy_call(call)
        if twin is not None:
            call, cotangent, stats = twin, _view(cotangent), tuple(map(_view, stats))
        run = partial(default.runner(call), saved=stats or None)
        got = default.evaluated(call, run, Outputs(grad=True), cotangent, ctx.weight, value=False)[
            1
        ].grad
        return _home(got), *none


class _Rows(torch.autograd.Function):
    """Row losses; saves its inputs and two numbers a row."""

    @staticmethod
    def vmap(info: Any, in_dims: Any, *args: Any) -> Any:
        def call(*others: Any) -> Any:
            made = *others[:2], weight, *others[2:]
            return _Rows.apply(*made)  # type: ignore[no-untyped-call]

        weight = args[2]
        rest, dims = (*args[:2], *args[3:]), (*in_dims[:2], *in_dims[3:])
        if in_dims[2] is None:
            return mapped(call, info, dims, *rest)
        # Other class weights in each call, which one call has no place for.
        each = []
        for i in range(info.batch_size):
            weight = args[2].select(in_dims[2], i)
            one = (
                a.select(d, i) if isinstance(d, int) else a for a, d in zip(rest, dims, strict=True)
            )
            each.append(call(*one))
        return tuple(map(torch.stack, zip(*each, strict=True))), (0,) * len(each[0])

    @staticmethod
    def forward(*args: Any) -> Any:
        o = Operands(*args[:6])
        options, classes, clean = args[6:]
        got = _run(
            o, options, classes, clean, Outputs(rows=True, stats=options.kind in SOFTMAX_KINDS)
        )
        return (got.rows, *(got.stats or ()))

    @staticmethod
    def setup_context(ctx: Any, inputs: Any, output: Any) -> None:
        stats = output[1:]
        ctx.mark_non_differentiable(*stats)
        ctx.set_materialize_grads(False)
        ctx.save_for_backward(*inputs[:6], *stats)
        ctx.save_for_forward(*inputs[:6], *stats)
        ctx.options = inputs[6:]

    @staticmethod
    def backward(ctx: Any, *ups: Any) -> Any:
        none = (None,) * 9
        if ups[0] is None:
            return none
        kept = ctx.saved_tensors  # activation checkpointing gives them once
        o, stats = Operands(*kept[:6]), kept[6:]
        options, classes, clean = ctx.options
        wants = ctx.needs_input_grad[:2]
        if torch.is_grad_enabled():
            g, h = _formula(o, options, classes, clean, ups[0])
            cx = _context(o, clean)
            g = cast(cx, g, o.x.dtype)
            h = None if h is None or o.targets is None else cast(cx, h, o.targets.dtype)
        else:
            outputs = Outputs(grad=wants[0], grad_targets=wants[1])
            got = _run(o, options, classes, clean, outputs, ups[0], tuple(stats) or None)
            g, h = got.grad, got.grad_targets
        return (g if wants[0] else None, h if wants[1] else None, *none[2:])

    @staticmethod
    def jvp(ctx: Any, *tangents: Any) -> Any:
        options, classes, clean = ctx.options
        with following():
            kept = primals(*ctx.saved_tensors)
            o = Operands(*kept[:6])
            g, h = _formula(o, options, classes, clean, 1.0)
            cx = _context(o, clean)
            out: Any = 0.0
            for slope, tangent in ((g, tangents[0]), (h, tangents[1])):
                if slope is None or tangent is None:
                    continue
                # A class of slope exactly 0 does not move the loss, infinitely though it moves.
                still = (slope == 0) & ~torch.isfinite(tangent)
                term = cast(cx, slope, cx.compute_dtype) * torch.where(still, 0.0, tangent)
                out = out + (term.sum(-1) if classes else term)
        return (out, *(None for _ in kept[6:]))


def _formula(
    o: Operands, options: Options, classes: int, clean: bool, cotangent: Any
) -> tuple[Array, Array | None]:
    cx = functional(_context(o, clean))
    return formula_gradients(
        o,
        options,
        cx,
        classes,
        Cotangent(cotangent),
        lambda z, _: softmax_parts(z),
        lambda z, _: sigmoid_parts(z),
    )
