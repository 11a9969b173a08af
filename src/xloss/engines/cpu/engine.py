"""The engine compiled for the host by Numba: cross-entropy in one pass, on threads of its own.

The kernels take addresses, so that NumPy arrays and torch tensors are read and written in place,
whatever their strides, and so that one compilation serves all.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache
from importlib.util import find_spec
from time import perf_counter
from types import SimpleNamespace
from typing import Any

from ..._arrays.inspect import has_memory
from ...core.call import LossCall
from ...core.options import UNIT_COTANGENT, Cotangent, Outcome, Outputs, Saved
from .. import generic, memory_checks
from . import fork_safety, kept_objects
from .arguments import KERNELS
from .call import COLUMN_KERNEL_MAX_CLASSES, HostCall
from .kernel_folder import folder_of, stamp
from .token_call import TokenCall

name = "cpu"
compiled = True
# With fewer classes a gradient computes its statistics again: the columns kernel needs the
# exponentials in any case, and reading what an earlier call has saved costs more.
save_stats_from = COLUMN_KERNEL_MAX_CLASSES + 1


def unavailable() -> str | None:
    """Say why no call can be taken on this machine, or None."""
    found = _load()
    return found if isinstance(found, str) else None


@cache
def _load() -> Any:
    """Return the kernels that the engine calls, or the reason why there are none.

    Numba is imported where the disk does not hold them.
    """
    if find_spec("numba") is None:
        return 'Numba is not installed: pip install "xloss[fast]"'
    return kept_objects.load(folder_of(stamp()), load_numba) or load_numba()


@cache
def load_numba() -> Any:
    """Import Numba and the kernels; return them, or the reason why there are none."""
    with fork_safety.importing:
        try:
            from .kernels.columns import columns
            from .kernels.rows import rows
            from .kernels.token_rows import scan_columns, scan_rows
        except Exception as error:  # Numba refuses NumPys newer than itself, among others
            return f"Numba cannot be imported: {error}"
        found = {"scan_rows": scan_rows, "scan_columns": scan_columns}
        return SimpleNamespace(like=kept_objects.LIKE, rows=rows, columns=columns, **found)


def refuses(call: LossCall) -> str | None:
    """Say why this call cannot be taken, or None; the reason is never its size."""
    o, cx, kind = call.operands, call.cx, call.options.kind
    if kind != "cross_entropy":
        return f"only cross_entropy is compiled, not {kind}"
    if cx.library in TRACED:
        known = all(isinstance(n, int) for n in o.x.shape)
        return unavailable() if known else "a length is a symbol"
    if cx.library not in ("numpy", "torch") or not cx.on_host:
        return f"it reads arrays of NumPy and of torch in host memory, not of {cx.library}"
    if not cx.inplace_ok:
        return "the call is traced or differentiated by plain operations"
    if cx.library == "torch" and not all(a is None or has_memory(a) for a in o):
        return "a tensor's memory does not hold its values"
    return unavailable()


# A library whose compiler calls the kernels from its programs: entered by its backend.
TRACED: dict[str, Any] = {}


def run(
    call: LossCall, outputs: Outputs, cotangent: Cotangent = UNIT_COTANGENT, saved: Saved = None
) -> Outcome:
    """Compute what is asked for of a whole call; the class axis of every array is the last."""
    traced = TRACED.get(call.cx.library)
    if traced is not None:
        beside = Outcome()
        if outputs.tokens:  # which XLA makes of the logits itself
            wanted = Outputs(rows=True, tokens=True, entropy=outputs.entropy, rank=outputs.rank)
            beside = generic.run(call, wanted)
            outputs = outputs._replace(tokens=False)
        made: Outcome = traced(call, outputs, cotangent, saved)
        return made._replace(tokens=beside.tokens)
    row_shape = memory_checks.check_operands(call)
    memory_checks.check_gradient(cotangent, saved, row_shape, call.cx)
    # The kernels have no gradient to targets, and sum the weights only beside the losses.
    weight_alone = outputs.weight and not outputs.total
    by_generic = Outputs(grad_targets=outputs.grad_targets, weight=weight_alone)
    others = Outcome()
    if any(by_generic):
        others = generic.run(call, by_generic, cotangent)
    outputs = outputs._replace(grad_targets=False, weight=outputs.weight and outputs.total)
    if not any(outputs):
        return others
    if 0 in call.operands.x.shape:
        outcome = generic.run(call, outputs, cotangent, saved)
    else:
        kind = TokenCall if outputs.tokens else HostCall
        outcome = kind(_load(), call, outputs, cotangent, saved).result()
    return outcome._replace(
        grad_targets=others.grad_targets, weight=others.weight if weight_alone else outcome.weight
    )


def warm() -> Iterator[tuple[str, float]]:
    """Compile every kernel, or find it on disk; yield its name and the seconds that took."""
    kernels = _load()
    if isinstance(kernels, str):
        return
    kernels = load_numba()
    for dtype, like in kernels.like.items():
        for name, nothing in KERNELS.items():
            start = perf_counter()
            getattr(kernels, name)(like, *nothing)
            yield f"{name} {dtype}", perf_counter() - start
