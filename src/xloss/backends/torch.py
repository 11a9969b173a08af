"""PyTorch: autograd to any order, torch.func, torch.compile, around the engine's rows."""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np
import torch
from torch.autograd import forward_ad

from .._xp import Array, Context, cast, context, functional, namespace, read
from ..core import softmax
from ..core.reduce import exact_sum, mean
from ..core.rows import SOFTMAX, formula_gradients
from ..core.spec import Need, Operands, Result, Spec, Upstream
from ..core.targets import live_rows, prepare, total_weight
from ..core.weights import mean_weights
from ..engines import choose
from . import default, torch_cuda, torch_op
from .call import Call
from .torch_parts import sigmoid_parts, softmax_parts


def value(call: Call) -> Array:
    """Return the loss, recorded by autograd where something asks for it."""
    if call.memory is not None and torch_cuda.takes(call):
        return torch_cuda.value(call, _by_rows)
    o = call.operands
    compiling = torch.compiler.is_compiling()
    recorded = torch.is_grad_enabled() and (
        o.x.requires_grad or (o.targets is not None and o.targets.requires_grad)
    )
    transformed = _transformed(o, compiling)
    if not recorded and not transformed:
        return _by_rows(call, True) if compiling and torch_op.takes(call) else _plain(call)
    by_rows = call.spec.reduction == "none" or compiling or transformed
    if not by_rows and (o.targets is None or not o.targets.requires_grad):
        if default.reduces(choose(o, call.spec, call.cx), call):
            return torch_cuda.recorded(call, _by_rows)
        return _Reduced.apply(*o, call._replace(operands=Operands(None)))  # type: ignore[no-untyped-call]  # torch's
    return _by_rows(call, compiling)


def _by_rows(call: Call, compiling: bool = False) -> Array:
    """Return the loss as a function of row losses, in plain operations."""
    cx = functional(call.cx)
    o = call.operands
    weight = None
    if call.spec.reduction == "mean":
        # In plain operations: the sum of soft targets is a function of them.
        n = call.normalizer
        o, n = mean_weights(o, call.spec, cx, call.classes, n, rounded=True)
        o, weight = live_rows(o, call.spec, cx, call.classes, n)
        call = call._replace(operands=o, normalizer=n)
    if compiling:
        rows = torch_op.rows(call) if torch_op.takes(call) else _surrogate(call)
    else:
        rows = _recorded(call)
    if call.spec.reduction == "none":
        return rows
    total = exact_sum(cx, rows)
    if weight is not None:
        total = mean(cx, total, weight, call.normalizer)
    return cast(cx, total, cx.acc)


def value_and_grad(
    call: Call, wanted: tuple[str, ...], cotangent: Any
) -> tuple[Array, dict[str, Array]]:
    """Return the loss and the closed-form gradients, recorded by no autodiff."""
    with torch.no_grad():
        twin = _numpy_call(call)
        if twin is None:
            return default.value_and_grad(call, wanted, cotangent)
        given = None if cotangent is None else _view(cotangent)
        got, grads = default.value_and_grad(twin, wanted, given)
        return _tensor(got), {name: torch.from_numpy(g) for name, g in grads.items()}


def _plain(call: Call) -> Array:
    twin = _numpy_call(call)
    return default.value(call) if twin is None else _tensor(default.value(twin))


def _numpy_call(call: Call) -> Call | None:
    """Return the call on NumPy views of its tensors, or None where they have none.

    On the host NumPy's elementwise operations take a third of the time of torch's own, and give
    the same bits whatever the batch. Asking for the generic engine keeps torch's namespace.
    """
    if call.spec.engine is not None or not call.cx.host:
        return None
    o = _views(call.operands)
    if o is None:
        return None
    n = call.normalizer
    cx = _numpy_context(o.x, call.cx)
    return call._replace(cx=cx, operands=o, normalizer=_view(n) if torch.is_tensor(n) else n)


def _numpy_context(x: Array, cx: Context) -> Context:
    made = context(x, namespace(x))
    return read(made, cx.clean) if cx.readable or cx.clean else made


def _views(o: Operands) -> Operands | None:
    """Return the operands as NumPy views; None for a dtype or a kind of tensor without one."""
    views = []
    for a in o:
        if a is not None and (type(a) not in _PLAIN or a.dtype == torch.bfloat16 or a.is_neg()):
            return None
        views.append(None if a is None else _view(a))
    return Operands(*views)


_PLAIN = (torch.Tensor, torch.nn.Parameter)


def _view(a: Array) -> Array:
    return a.detach().numpy() if a.requires_grad else a.numpy()


def _tensor(a: Array) -> Array:
    """Return a tensor on a NumPy array's memory, or of a NumPy scalar."""
    return torch.from_numpy(np.asarray(a))


def _home(a: Array) -> Array:
    return a if torch.is_tensor(a) else _tensor(a)


def elements(call: Call) -> Array:
    """Return softmax or its logarithm, recorded by autograd where something asks for it."""
    x, cx = call.operands.x, call.cx
    compiling = torch.compiler.is_compiling()
    recorded = torch.is_grad_enabled() and x.requires_grad
    if not recorded and not _transformed(call.operands, compiling):
        return default.elements(call)
    choose(call.operands, call.spec, cx)
    logarithm = call.spec.kind == "log_softmax"
    z = cast(cx, x, cx.acc)
    if compiling:
        # The value is ours, the derivative that of the compiler's own softmax.
        twin = torch.log_softmax(z, -1) if logarithm else torch.softmax(z, -1)
        mine = softmax.parts(z.detach(), functional(cx))
        slope = torch.where(torch.isfinite(twin), twin - twin.detach(), 0.0)
        return default.restore(call, (-mine.nll if logarithm else mine.p) + slope)
    got = softmax_parts(z)
    return default.restore(call, -got.nll if logarithm else got.p)


def weight(call: Call) -> Array:
    """Return the mean's denominator; a sum of soft targets is recorded where they are."""
    o, cx = call.operands, call.cx
    if o.targets is None or not (o.targets.requires_grad and torch.is_grad_enabled()):
        return default.weight(call)
    t = prepare(o, call.spec, functional(cx), call.classes)
    return total_weight(t, 0, functional(cx))


def _transformed(o: Operands, compiling: bool) -> bool:
    """Tell whether torch.func or forward-mode autodiff follows one of the operands."""
    if compiling:
        return False
    return forward_ad._current_level >= 0 or _followed(o)


def _followed(o: Operands) -> bool:
    """Tell whether torch.func follows one of the operands: labels and weights count too."""
    wrapped = torch._C._functorch.is_functorch_wrapped_tensor
    return any(a is not None and wrapped(a) for a in o)


def _recorded(call: Call) -> Array:
    o = call.operands
    arrays = (o.x, o.targets, o.class_weight, o.sample_weight, o.where, o.pos_weight)
    out = _Rows.apply(*arrays, call.spec, call.classes, call.cx.clean)  # type: ignore[no-untyped-call]
    return out[0] if isinstance(out, tuple) else out


def _surrogate(call: Call) -> Array:
    """Return rows whose recorded derivative is the closed form: value + Σ g (x - x.detach()).

    A compiler differentiates this to the gradient that keeps the tail; an autograd.Function it
    cannot trace without a warning of its own. First order only, as under torch.compile always.
    """
    o, spec = call.operands, call.spec
    cx = functional(call.cx)
    fixed = Operands(
        o.x.detach(), None if o.targets is None else o.targets.detach(),
        o.class_weight, o.sample_weight, o.where, o.pos_weight,
    )  # fmt: skip
    rows: Any = choose(fixed, spec, cx).run(fixed, spec, cx, call.classes, Need(rows=True)).rows
    g, h = formula_gradients(fixed, spec, cx, call.classes, Upstream(1.0))
    for x, slope in ((o.x, g), (o.targets, h)):
        if x is None or slope is None or not x.requires_grad:
            continue
        zero = torch.where(torch.isfinite(x), cast(cx, x - x.detach(), cx.acc), 0.0)
        slope = cast(cx, slope, cx.acc)
        infinite = torch.isinf(slope)
        # The square root's slope at 0 is inf: an infinite derivative of a term that is 0.
        steep = torch.sqrt(torch.where(infinite, zero, 1.0)) * torch.sign(slope)
        term = torch.where(infinite, steep, torch.where(infinite, 0.0, slope) * zero)
        rows = rows + (term.sum(-1) if term.ndim > rows.ndim else term)
    return rows


def _context(o: Operands, clean: bool) -> Context:
    cx = context(o.x, namespace(o.x))._replace(clean=clean)
    return functional(cx) if _followed(o) else cx


def _run(
    o: Operands, spec: Spec, classes: int, clean: bool, need: Need, up: Any = 1.0,
    saved: tuple[Array, ...] | None = None,
) -> Result:  # fmt: skip
    """Run the engine on the tensors, or on NumPy views of them."""
    cx = _context(o, clean)
    twin = _views(o) if spec.engine is None and cx.host else None
    if twin is None:
        return choose(o, spec, cx).run(o, spec, cx, classes, need, Upstream(up), saved)
    cx = _numpy_context(twin.x, cx)
    up = up if isinstance(up, float) else _view(up)
    known = None if saved is None else tuple(map(_view, saved))
    got = choose(twin, spec, cx).run(twin, spec, cx, classes, need, Upstream(up), known)
    return Result(
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
        spec = call.spec
        call = call._replace(operands=o)
        call = _numpy_call(call) or call
        engine: Any = choose(call.operands, spec, call.cx)
        keep = spec.kind in SOFTMAX and call.classes > engine.RECOMPUTED
        weight = default.known_weight(call) if spec.reduction == "mean" else 1.0
        need = Need(total=True, weight=weight is None, stats=keep)
        got = default.runner(call)(need)
        weight = got.weight if weight is None else weight
        ctx.weight = weight if spec.reduction == "mean" else None
        ctx.set_materialize_grads(False)
        ctx.save_for_backward(*args[:6], *map(_home, got.stats or ()))
        return _home(default.reduced(call, got.total, ctx.weight))

    @staticmethod
    def backward(ctx: Any, up: Any) -> Any:
        none = (None,) * 6
        if up is None:
            return None, *none
        kept = ctx.saved_tensors  # activation checkpointing gives them once
        o, stats = Operands(*kept[:6]), kept[6:]
        call = ctx.call._replace(operands=o)
        if torch.is_grad_enabled():
            return torch.autograd.grad(_by_rows(call), o.x, up, create_graph=True)[0], *none
        twin = _numpy_call(call)
        if twin is not None:
            call, up, stats = twin, _view(up), tuple(map(_view, stats))
        run = partial(default.runner(call), saved=stats or None)
        got = default.evaluated(call, run, Need(grad=True), up, ctx.weight, value=False)[1].grad
        return _home(got), *none


class _Rows(torch.autograd.Function):
    """Row losses; saves its inputs and two numbers a row."""

    generate_vmap_rule = True

    @staticmethod
    def forward(*args: Any) -> Any:
        o = Operands(*args[:6])
        spec, classes, clean = args[6:]
        got = _run(o, spec, classes, clean, Need(rows=True, stats=spec.kind in SOFTMAX))
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
        spec, classes, clean = ctx.options
        wants = ctx.needs_input_grad[:2]
        if torch.is_grad_enabled():
            g, h = _formula(o, spec, classes, clean, ups[0])
            cx = _context(o, clean)
            g = cast(cx, g, o.x.dtype)
            h = None if h is None or o.targets is None else cast(cx, h, o.targets.dtype)
        else:
            need = Need(grad=wants[0], grad_targets=wants[1])
            got = _run(o, spec, classes, clean, need, ups[0], tuple(stats) or None)
            g, h = got.grad, got.grad_targets
        return (g if wants[0] else None, h if wants[1] else None, *none[2:])

    @staticmethod
    def jvp(ctx: Any, *tangents: Any) -> Any:
        kept = ctx.saved_tensors
        o = Operands(*kept[:6])
        spec, classes, clean = ctx.options
        g, h = _formula(o, spec, classes, clean, 1.0)
        cx = _context(o, clean)
        out: Any = 0.0
        for slope, tangent in ((g, tangents[0]), (h, tangents[1])):
            if slope is None or tangent is None:
                continue
            # A class of slope exactly 0 does not move the loss, infinite though it be.
            term = torch.where(slope == 0, 0.0, cast(cx, slope, cx.acc) * tangent)
            out = out + (term.sum(-1) if classes else term)
        return (out, *(None for _ in kept[6:]))


def _formula(
    o: Operands, spec: Spec, classes: int, clean: bool, up: Any
) -> tuple[Array, Array | None]:
    cx = functional(_context(o, clean))
    return formula_gradients(
        o, spec, cx, classes, Upstream(up),
        lambda z, _: softmax_parts(z), lambda z, _: sigmoid_parts(z),
    )  # fmt: skip
