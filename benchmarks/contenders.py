"""Who takes part: xloss by every way through it, and peers as their users call them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from importlib import import_module
from typing import Any

import numpy as np

import xloss
from xloss_conformance import timing
from xloss_conformance.bench import Record, told
from xloss_conformance.timing import Call, NotOffered

from . import tables
from .right import read
from .work import Data, Work

Prepare = Callable[[Work, Data, Any], Call]  # of a work, on arguments that its library made
LossOf = Callable[[Work], Callable[..., Any]]


@dataclass(frozen=True)
class Contender:
    """One way to compute the loss, of contenders.toml; `prepare` makes its call on arguments."""

    name: str
    prepare: Prepare
    library: str
    call: str = ""
    module: str = ""
    distribution: str = ""

    @property
    def peer(self) -> bool:
        return not self.name.startswith("xloss ")

    @property
    def arrays(self) -> str:
        """The library whose arrays it takes; Keras says it when it is imported."""
        return self.library or timing.keras_backend()

    def told(self) -> Record:
        """Return it as the record has it; Missing says what would install its library."""
        about = told(self.name, self.module or self.library, self.distribution)
        return {**about, "library": self.module or self.library, "call": self.call}


def calling(loss: LossOf, rows: bool = False, **how: Any) -> Prepare:
    """Return what makes the call of a loss, as its library's users make it.

    rows: the losses of single rows are compared too, which `reduction="none"` gives.
    """

    def prepare(work: Work, given: Data, where: Any) -> Call:
        function = loss(work)
        reads = partial(read, work)
        call: Call = where.call(function, given.arguments, work.leaves, reads, **how)
        return each_row(call, work, function, given.arguments) if rows else call

    return prepare


def each_row(call: Call, work: Work, loss: Callable[..., Any], given: Sequence[Any]) -> Call:
    """Return the same call, of which the losses of single rows are compared too."""

    def losses() -> Any:
        return read(work, loss(*given, reduction="none"), classes=False)

    return call if work.features else replace(call, losses=losses)


def on_engine(prepare: Prepare, engine: str) -> Prepare:
    """Return the same on an engine that is asked for.

    Under a tracer the engine is settled by the first call, which traces.
    """

    def prepared(work: Work, given: Data, where: Any) -> Call:
        within = partial(xloss.use_engine, engine)
        return replace(prepare(work, given, where), within=within, engine=engine)

    return prepared


def compiled(loss: LossOf) -> LossOf:
    """Return the same under torch.compile."""

    def made(work: Work) -> Callable[..., Any]:
        import torch

        found: Callable[..., Any] = torch.compile(loss(work), fullgraph=True, dynamic=False)
        return found

    return made


# ---- xloss --------------------------------------------------------------------------------------


def ours(work: Work) -> Callable[..., Any]:
    """Return the loss of xloss that a work is of."""
    if work.features:
        return xloss.linear_cross_entropy
    return xloss.cross_entropy if work.axis == -1 else partial(xloss.cross_entropy, axis=work.axis)


def _closed_form(work: Work, given: Data, where: Any) -> Call:
    """Return value_and_grad, which takes the function itself and no partial of it."""
    options = {} if work.axis == -1 else {"axis": work.axis}
    loss = xloss.linear_cross_entropy if work.features else xloss.cross_entropy
    call = timing.on_numpy(loss, given.arguments, work.leaves, partial(read, work), **options)
    return each_row(call, work, ours(work), given.arguments)


def engine_of(one: Contender, work: Work, given: Data, where: Any, compiled: str) -> str:
    """Return which engine computes a call of xloss: the compiled one, if it takes these arrays.

    torch.compile traces without asking for an engine. Its graph holds operations of the compiled
    one, or plain ones: asked for an engine that takes no such arrays, only the first refuse.
    """
    call = one.prepare(work, given, where)
    traced = one.prepare is HOW["xloss torch.compile"]
    if traced:
        _once(call)
    asked = {"cpu": "cuda", "cuda": "cpu"}[compiled] if traced else compiled
    refused = False
    try:
        with xloss.use_engine(asked):
            _once(call)
    except Exception as reason:  # what is not a refusal is raised again
        # A tracer wraps what its trace raises in an error of its own.
        if "EngineUnavailable" not in f"{type(reason).__name__}: {reason}":
            raise
        refused = True
    return compiled if refused == traced else "generic"


def _once(call: Call) -> None:
    call.before()
    call.run()
    call.before()


# ---- Peers --------------------------------------------------------------------------------------


def torch_loss(work: Work) -> Callable[..., Any]:
    """Return F.cross_entropy; of a linear layer, as one writes it: all logits at once."""
    import torch

    loss: Callable[..., Any] = torch.nn.functional.cross_entropy
    linear = torch.nn.functional.linear
    return (lambda x, weight, y: loss(linear(x, weight), y)) if work.features else loss


def _torch_linear(work: Work, chunked: bool = False) -> Callable[..., Any]:
    import torch

    own = getattr(torch.nn.functional, "linear_cross_entropy", None)
    if own is None:
        raise NotOffered("is of PyTorch 2.13")
    options: Any = {"options": torch.nn.LinearCrossEntropyOptions()} if chunked else {}
    return partial(own, **options)


def _optax(work: Work) -> Callable[..., Any]:
    loss = timing.optax_loss(axis=work.axis)
    return (lambda x, weight, y: loss(x @ weight.T, y)) if work.features else loss


def _tensorflow(work: Work) -> Callable[..., Any]:
    return timing.tensorflow_loss()


def _keras(work: Work) -> Callable[..., Any]:
    return timing.keras_loss()


def _sklearn(work: Work, given: Data, where: Any) -> Call:
    return timing.on_sklearn(given.x, given.y, work.gradient, where.threads, partial(read, work))


def _scipy(work: Work, given: Data, where: Any) -> Call:
    return timing.on_scipy(given.x, given.y, work.gradient, work.axis)


def cupy_by_hand(work: Work, given: Data, where: Any) -> Call:
    """Return the loss as one writes it with CuPy: the labels' entries of log_softmax."""
    log_softmax = import_module("cupyx.scipy.special").log_softmax
    xp, x, y = where.adapter.module, given.x, given.y

    def loss() -> Any:
        return -log_softmax(x, axis=-1)[xp.arange(len(y)), y].mean(dtype=np.float32)

    def both() -> tuple[Any, Any]:
        rows = xp.arange(len(y))
        logs = log_softmax(x, axis=-1)
        value = -logs[rows, y].mean(dtype=np.float32)
        gradient = xp.exp(logs)
        gradient[rows, y] -= 1
        gradient *= 1 / len(y)
        return value, gradient

    if not work.gradient:
        return Call(loss)
    return Call(both, answer=lambda got: (float(got[0]), read(work, got[1])))


def _quack(work: Work, given: Data, where: Any) -> Call:
    from quack.cross_entropy import cross_entropy_fwd

    x, y, _ = given
    rows = len(y)

    def run() -> Any:
        got = cross_entropy_fwd(x, y, return_dx=work.gradient)
        of, gradient = got if work.gradient else (got, None)
        return of, of.mean(), gradient

    def answer(got: Any) -> tuple[float, Any]:
        _, mean, gradient = got
        # Its gradient is the sum's.
        return float(mean), None if gradient is None else read(work, gradient) / rows

    return Call(run, answer=answer, losses=lambda: read(work, run()[0], classes=False))


def _quack_autograd(work: Work) -> Callable[..., Any]:
    found: Callable[..., Any] = import_module("quack.cross_entropy").cross_entropy
    return found


def _liger(work: Work, given: Data, where: Any) -> Call:
    from liger_kernel.ops.cross_entropy import LigerCrossEntropyFunction
    from liger_kernel.ops.fused_linear_cross_entropy import LigerFusedLinearCrossEntropyFunction

    own = (None, -100, 0.0, 0.0, "mean")
    which: Any = LigerFusedLinearCrossEntropyFunction if work.features else None
    apply = which.apply if which else lambda x, y: LigerCrossEntropyFunction.apply(x, y, *own)
    # It writes the gradient over the logits: they are a copy of its own, which later turns find
    # changed. That costs no time more or less.
    x: Any = given.x
    given = given._replace(x=x.clone()) if work.gradient and not work.features else given

    def loss(*arguments: Any) -> Any:
        return apply(*arguments)[0]

    return timing.on_torch(loss, given.arguments, work.leaves, partial(read, work))


_compiled, _ours = calling(compiled(ours)), calling(ours)
HOW: dict[str, Prepare] = {
    "xloss numpy": _closed_form,
    "xloss numpy, generic": on_engine(_closed_form, "generic"),
    "xloss torch": calling(ours, rows=True),
    "xloss torch, closed form": _closed_form,
    "xloss torch.compile": _compiled,
    "xloss torch.compile, generic": on_engine(_compiled, "generic"),
    "xloss cupy": _closed_form,
    "xloss jax": _ours,
    "xloss jax, generic": on_engine(_ours, "generic"),
    "xloss tensorflow": _ours,
    "xloss tf.function": calling(ours, graph=True),
    "torch": calling(torch_loss, rows=True),
    "torch.compile": calling(compiled(torch_loss)),
    "torch linear": calling(_torch_linear),
    "torch linear, chunked": calling(partial(_torch_linear, chunked=True)),
    "Quack": _quack,
    "Quack, autograd": calling(_quack_autograd, rows=True),
    "Liger": _liger,
    "cupy by hand": cupy_by_hand,
    "optax": calling(_optax),
    "keras": calling(_keras),
    "tensorflow": calling(_tensorflow),
    "tf.function": calling(_tensorflow, graph=True),
    "sklearn": _sklearn,
    "scipy": _scipy,
}
CONTENDERS = {
    name: Contender(name, HOW[name], **row) for name, row in tables.load("contenders").items()
}
