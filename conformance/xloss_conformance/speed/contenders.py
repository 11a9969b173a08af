"""Who takes part: xloss by every way through it, and the peers, called as their users do."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from functools import partial
from importlib import import_module
from typing import Any

import numpy as np

import xloss

from ..libraries import LIBRARIES
from ..load_object import installed, load_object
from .clock import Call
from .work import Data, Work

SOME = 1000  # entries of a gradient that are compared
COMPILED = "cpu"


class NotOffered(Exception):
    """A contender has no such call; the message says what it lacks."""


class SameValue(NotOffered):
    """Without a gradient it is another contender's call."""


@dataclass(frozen=True)
class Contender:
    """One way to compute the loss: `prepare` makes its call on the arguments of a work."""

    name: str
    library: str  # whose arrays it takes
    said: str  # the call, as its user writes it
    prepare: Callable[[Work, Data, int], Call]
    peer: bool = False
    distribution: str = ""  # of a peer that the suite does not judge

    @property
    def version(self) -> str:
        if not self.peer:
            return xloss.__version__
        if self.distribution:
            return installed(self.distribution)
        from ..peers import peers

        return peers(_library(self.name), ("float32",))[0].version


def contender(name: str) -> Contender:
    """Return the contender of that name; Missing says what it needs and this machine has not."""
    if name in XLOSS:
        made = XLOSS[name]
        if made.library != "numpy":
            _needs(made.library)
        return made
    module = library = _library(name)
    for where, (needed, names) in AT_SCALE.items():
        if name in names:
            module, library = where, needed
    _needs(library)
    found: dict[str, Contender] = import_module(f".by_{module}", __package__).CONTENDERS
    return found[name]


def _library(name: str) -> str:
    """Return the peer of the suite that a contender is of: that of "torch.compile" is torch."""
    return name.partition(" ")[0].partition(".")[0]


def function(peer: str) -> Any:
    """Return the function that the conformance suite judges as a peer's cross_entropy."""
    from ..conventions import convention

    return load_object(convention(peer).functions["cross_entropy"], "")


def _needs(library: str) -> None:
    """Raise Missing unless the library is here, by the suite's own words for what installs it."""
    from ..libraries import array_library
    from ..peers import PEERS, peers

    if library in PEERS:
        peers(library, ("float32",))
    elif library in LIBRARIES:
        array_library(library)


def agree(work: Work, got: tuple[float, Any], right: tuple[float, Any]) -> None:
    """Raise NotOffered where the answer is not that of xloss: another thing would be timed."""
    loose = 0.02 if work.dtype in ("bfloat16", "float16") else 1e-3
    if work.chunks or work.processes:  # float32, and all of them are sums of the same terms
        loose = 1e-5
    if not abs(got[0] - right[0]) <= loose * abs(right[0]):
        raise NotOffered(f"computes something else: {got[0]:.6g}, not {right[0]:.6g}")
    if got[1] is None or right[1] is None:
        return
    a, b = (np.asarray(g, np.float64).reshape(-1)[:SOME] for g in (got[1], right[1]))
    if not np.abs(a - b).max() <= loose * np.abs(b).max():
        raise NotOffered("computes another gradient")


# ---- xloss ---------------------------------------------------------------------------------------


def _options(work: Work) -> dict[str, Any]:
    return {} if work.axis == -1 else {"axis": work.axis}


def _loss(work: Work) -> Callable[..., Any]:
    if not work.features:
        return xloss.cross_entropy
    loss: Callable[..., Any] | None = getattr(xloss, "linear_cross_entropy", None)
    if loss is None:
        raise NotOffered("this version of xloss has no linear_cross_entropy")
    return loss


def _arguments(x: Any, y: Any, weight: Any) -> tuple[Any, ...]:
    return (x, y) if weight is None else (x, weight, y)


def chosen(call: Call) -> Call:
    """Return a call of xloss that tells which engine computes it."""
    if call.engine:
        return call
    try:
        with xloss.use_engine(COMPILED):
            call.before()
            call.run()
    except xloss.EngineUnavailable:
        return replace(call, engine="generic")
    return replace(call, engine=COMPILED)


def _asked(call: Call, engine: str) -> Call:
    """Return the call on the engine asked for, if one is."""
    if not engine:
        return call
    within: Callable[[], AbstractContextManager[Any]] = partial(xloss.use_engine, engine)
    return replace(call, within=within, engine=engine)


def _on_numpy(work: Work, given: Data, threads: int, engine: str = "") -> Call:
    loss, options = _loss(work), _options(work)
    if work.dtype == "bfloat16":
        raise NotOffered("timed on PyTorch's bfloat16")
    arguments = _arguments(*given)
    if not work.gradient:
        return _asked(Call(lambda: loss(*arguments, **options)), engine)
    both = xloss.value_and_grad(loss, (0, 1) if work.features else 0)
    call = Call(
        lambda: both(*arguments, **options), answer=lambda got: (float(got[0]), _first(got[1]))
    )
    return _asked(call, engine)


def _first(gradient: Any) -> Any:
    """Return some entries of the gradient to the first argument."""
    of = gradient[0] if isinstance(gradient, tuple) else gradient
    return np.asarray(of).reshape(-1)[:SOME]


def _on_torch(
    work: Work, given: Data, threads: int, engine: str = "", closed_form: bool = False
) -> Call:
    from .by_torch import backward, tensors

    loss, options = _loss(work), _options(work)
    arguments = _arguments(*tensors(work, given))
    if closed_form:
        if not work.gradient:
            raise SameValue("xloss torch")
        both = xloss.value_and_grad(loss, (0, 1) if work.features else 0)

        def answer(got: Any) -> tuple[float, Any]:
            grad = got[1][0] if work.features else got[1]
            return float(got[0]), grad.reshape(-1)[:SOME].double().numpy()

        return _asked(Call(lambda: both(*arguments, **options), answer=answer), engine)
    if not work.gradient:
        return _asked(Call(lambda: loss(*arguments, **options)), engine)
    return _asked(backward(loss, arguments, options, 2 if work.features else 1), engine)


def _on_jax(work: Work, given: Data, threads: int) -> Call:
    from .by_optax import jitted

    loss, options = _loss(work), _options(work)
    call = jitted(lambda *arguments: loss(*arguments, **options), work, given)
    return replace(call, engine="generic, traced")


XLOSS = {
    c.name: c
    for c in (
        Contender("xloss numpy", "numpy", "cross_entropy; value_and_grad", _on_numpy),
        Contender("xloss torch", "torch", "cross_entropy; .backward()", _on_torch),
        Contender(
            "xloss torch, closed form",
            "torch",
            "value_and_grad",
            partial(_on_torch, closed_form=True),
        ),
        Contender("xloss jax", "jax", "jax.jit; jax.value_and_grad under it", _on_jax),
        Contender(
            "xloss numpy, generic",
            "numpy",
            'the same under use_engine("generic")',
            partial(_on_numpy, engine="generic"),
        ),
        Contender(
            "xloss torch, generic",
            "torch",
            'the same under use_engine("generic")',
            partial(_on_torch, engine="generic"),
        ),
    )
}
PEERS = ("torch", "torch.compile", "optax", "keras", "sklearn", "scipy")
# What stands beside linear_cross_entropy alone.
LINEAR = ("torch linear", "torch linear, chunked")
# Of logits that are cut: the file by_* of the contenders, the library they need, and who they are.
AT_SCALE = {
    "dask": ("dask", ("xloss dask", "dask", "dask, by chunk")),
    "ranks": ("torch", ("xloss vocab-parallel", "loss_parallel", "torch by hand")),
}
