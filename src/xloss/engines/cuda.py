"""The engine compiled for NVIDIA's GPUs: cross-entropy of PyTorch's and CuPy's arrays.

Kernels run on the current stream of the arrays' library, in its memory, and nothing waits for them:
a call may stand in the capture of a CUDA graph, once it has been made before.
"""

from __future__ import annotations

from functools import cache
from typing import Any

from .._xp import Array, Context
from ..core.spec import NO_UPSTREAM, Need, Operands, Result, Spec, Upstream
from . import generic
from .cuda_call import Launcher
from .device import driver
from .places import has_memory

name = "cuda"
RECOMPUTED = 0  # classes up to which a gradient reads no saved statistics


@cache
def unavailable() -> str | None:
    """Say why no call can be taken on this machine, or None."""
    return driver.missing()


def refuses(o: Operands, spec: Spec, cx: Context) -> str | None:
    """Say why this call cannot be taken, or None; never by its size."""
    if spec.kind != "cross_entropy":
        return f"only cross_entropy is compiled, not {spec.kind}"
    if not _on_gpu(cx):
        return f"it reads arrays of CuPy and of torch on NVIDIA's GPUs, not of {cx.library} here"
    if not cx.eager:
        return "the call is traced or differentiated by plain operations"
    if cx.library == "torch":
        for a in o:
            if a is not None and not has_memory(a):
                return "a tensor's memory does not hold its values"
    home = driver.home(cx.library)
    return unavailable() or driver.unfit(home.capability(home.index(o.x)))


def _on_gpu(cx: Context) -> bool:
    if cx.library == "torch":
        return getattr(cx.device, "type", None) == "cuda" and not _is_rocm()
    return cx.library == "cupy"


@cache
def _is_rocm() -> bool:
    import torch

    return torch.version.hip is not None


def run(
    o: Operands, spec: Spec, cx: Context, classes: int, need: Need,
    up: Upstream = NO_UPSTREAM, saved: tuple[Array, ...] | None = None,
) -> Result:  # fmt: skip
    """Compute what is needed of a whole call; the class axis of every array is the last."""
    by_label = spec.indexed
    rest = Need(
        grad_targets=need.grad_targets, weight=need.weight and not need.total and not by_label
    )
    others = generic.run(o, spec, cx, classes, rest, up) if any(rest) else Result()
    need = need._replace(grad_targets=False, weight=need.weight and not rest.weight)
    if not any(need):
        return others
    if 0 in o.x.shape:
        made = generic.run(o, spec, cx, classes, need, up, saved)
    else:
        made = Launcher(o, spec, cx, classes).needed(need, up, saved)
    return made._replace(
        grad_targets=others.grad_targets, weight=others.weight if rest.weight else made.weight
    )


def loss(o: Operands, spec: Spec, cx: Context, classes: int, normalizer: Any) -> Array:
    """Return the mean or the sum."""
    return Launcher(o, spec, cx, classes).reduced(normalizer, 1.0, None, grad=False, keep=False)[0]


def gradient(
    o: Operands, spec: Spec, cx: Context, classes: int, normalizer: Any, up: Any
) -> tuple[Array, Array]:
    """Return the mean or the sum, and its gradient times `up`."""
    weight = _weight(o, spec, cx, classes)
    call = Launcher(o, spec, cx, classes)
    made, grad, _ = call.reduced(normalizer, up, weight, grad=True, keep=False)
    assert grad is not None
    return made, grad


def recorded(
    o: Operands, spec: Spec, cx: Context, classes: int, normalizer: Any, grad: bool
) -> tuple[Array, Array | None, Array]:
    """Return the mean or the sum, its gradient if wanted now, and what a later gradient reads."""
    weight = _weight(o, spec, cx, classes) if grad else None
    call = Launcher(o, spec, cx, classes)
    made, slope, kept = call.reduced(normalizer, 1.0, weight, grad=grad, keep=True)
    assert kept is not None
    return made, slope, kept


def again(
    o: Operands, spec: Spec, cx: Context, classes: int, up: Array, kept: Array, grad: Array | None
) -> Array:
    """Return the gradient of what was `recorded` times `up`.

    grad: that for an upstream of 1, if it was wanted then. It is overwritten, unless the GPU finds
    that `up` is 1: the bits are the same as if there had been none.
    """
    return Launcher(o, spec, cx, classes).again(up, kept, grad)


def _weight(o: Operands, spec: Spec, cx: Context, classes: int) -> Array | None:
    """Return what a mean of soft targets is over, which its gradient needs before the rows."""
    if spec.indexed or spec.reduction != "mean":
        return None
    return generic.run(o, spec, cx, classes, Need(weight=True)).weight
