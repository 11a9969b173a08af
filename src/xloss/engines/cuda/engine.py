"""The engine compiled for NVIDIA GPUs: cross-entropy of arrays of PyTorch and CuPy.

Kernels run on the current stream of the arrays' library, in its memory, and nothing waits for them:
a call may stand in the capture of a CUDA graph, once it has been made before.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache

from ..._arrays.context import Context
from ..._arrays.inspect import Array, has_memory
from ...core.call import LossCall
from ...core.options import UNIT_COTANGENT, Cotangent, Operands, Outcome, Outputs, Saved
from .. import generic, gpu_arrays
from . import driver, relaunch
from .call import Launcher

name = "cuda"
compiled = True
save_stats_from = 1  # classes from which a gradient starts from saved statistics


@cache
def unavailable() -> str | None:
    """Say why no call can be taken on this machine, or None."""
    return driver.missing()


def refuses(call: LossCall) -> str | None:
    """Say why this call cannot be taken, or None; never by its size."""
    o, cx, kind = call.operands, call.cx, call.options.kind
    if kind != "cross_entropy":
        return f"only cross_entropy is compiled, not {kind}"
    if not _on_gpu(cx):
        return f"it reads arrays of CuPy and of torch on NVIDIA's GPUs, not of {cx.library} here"
    if not cx.inplace_ok:
        return "the call is traced or differentiated by plain operations"
    if cx.library == "torch":
        for a in o:
            if a is not None and not has_memory(a):
                return "a tensor's memory does not hold its values"
    arrays = gpu_arrays.of(cx.library)
    return unavailable() or driver.unfit(arrays.capability(arrays.index(o.x)))


def reduces(call: LossCall) -> bool:
    """Go all the way to the sum or the mean: on a GPU every further step would be a launch."""
    return call.options.reduction != "none" and 0 not in call.operands.x.shape


def _on_gpu(cx: Context) -> bool:
    if cx.library == "torch":
        import torch

        # Not a cached function: torch.compile, which may trace this, warns of those.
        return getattr(cx.device, "type", None) == "cuda" and torch.version.hip is None
    return cx.library == "cupy"


def run(
    call: LossCall, outputs: Outputs, cotangent: Cotangent = UNIT_COTANGENT, saved: Saved = None
) -> Outcome:
    """Compute the outputs asked for; the class axis of every array is the last."""
    if outputs.tokens:
        return _with_tokens(call, outputs, cotangent, saved)
    if 0 in call.operands.x.shape:
        return generic.run(call, outputs, cotangent, saved)
    rest = Outputs(grad_targets=outputs.grad_targets, weight=outputs.weight)
    others = generic.run(call, rest, cotangent) if any(rest) else Outcome()
    outputs = outputs._replace(grad_targets=False, weight=False)
    if not any(outputs):
        return others
    made = Launcher(call).needed(outputs, cotangent, saved)
    return made._replace(grad_targets=others.grad_targets, weight=others.weight)


def _with_tokens(call: LossCall, outputs: Outputs, cotangent: Cotangent, saved: Saved) -> Outcome:
    """Compute outputs with tokens: those by plain operations, in blocks of rows.

    They start from the statistics of the kernel's pass, so that they search for no maximum.
    """
    by_kernel = outputs._replace(tokens=False, stats=True)
    made = run(call, by_kernel, cotangent, saved)
    beside = Outputs(rows=True, tokens=True, entropy=outputs.entropy, rank=outputs.rank)
    known = made.stats if saved is None else saved
    tokens = generic.run(call, beside, saved=known).tokens
    return made._replace(tokens=tokens, stats=made.stats if outputs.stats else None)


def reduced(
    call: LossCall, cotangent: Array | None = None, *, grad: bool, keep: bool
) -> tuple[Array, Array | None, Array | None]:
    """Return the mean or the sum, its gradient if `grad`, and what `again` reads if `keep`."""
    o, options = call.operands, call.options
    memory = call.memory if cotangent is None else None
    if memory is not None:
        known = relaunch.reduced(memory, o.x, o.targets, grad, keep)
        if known is not None:
            return known
    weight = None
    if grad and not options.indexed and options.reduction == "mean":
        # The gradient of every row needs the denominator, which must be known before the rows.
        weight = generic.run(call, Outputs(weight=True)).weight
    launcher = Launcher(call)
    one_or_given = 1.0 if cotangent is None else cotangent
    made = launcher.reduced(call.normalizer, one_or_given, weight, grad=grad, keep=keep)
    if memory is not None:
        relaunch.remember(memory, (grad, keep), launcher)
    return made


def again(
    call: LossCall, arrays: Sequence[Array], cotangent: Array, kept: Array, grad: Array | None
) -> Array:
    """Return the gradient of what was `reduced`, times the cotangent.

    arrays: the operands, which `call` need not hold.
    grad: the gradient for a cotangent of 1, if it was computed in the forward pass. The GPU
    overwrites it unless it finds that the cotangent is 1; the bits are the same either way.
    """
    memory = call.memory
    if memory is not None:
        known = relaunch.again(memory, arrays[0], arrays[1], cotangent, kept, grad)
        if known is not None:
            return known
    launcher = Launcher(call.of(Operands(*arrays)))
    made = launcher.again(cotangent, kept, grad)
    if memory is not None:
        key = relaunch.ANEW if grad is None else relaunch.WRITTEN
        relaunch.remember(memory, key, launcher, cotangent)
    return made
