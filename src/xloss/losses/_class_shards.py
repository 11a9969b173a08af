"""Prepares the call of a loss whose classes are sharded over ranks."""

from __future__ import annotations

from math import prod
from typing import Any

from .._arrays.context import Context, read
from .._arrays.host_data import fitted
from .._arrays.inspect import INTEGERS, Array, as_written, dtype_name
from ..backends import process_groups
from ..core.call import LossCall
from ..core.linear import Linear
from ..core.options import Operands, Options
from ..core.targets import bounds
from ..core.value_checks import check_targets, check_values
from . import _check as check
from . import _check_linear as check_linear
from ._check_top_k import refuse
from ._host_targets import HostData
from ._prepare import Given, given_options, linear_call, weighed

# Numbers by which ranks compare their arguments: as many whichever loss a rank calls, so that ranks
# that call different losses find that out instead of waiting for each other.
FINGERPRINTS = 11
LABELS = "an integer array of global class indices"


@as_written
def prepare_shard(x: Any, targets: Any, *, weight: Any, **keywords: Any) -> LossCall:
    """Prepare cross-entropy of the classes that this rank holds, outside of torch.compile."""
    refuse(targets, "vocab_parallel_cross_entropy", LABELS)
    given = ("logits_shard", x, targets, None)
    return process_groups.uncompiled(_prepared, *given, class_weight=weight, **keywords)


@as_written
def prepare_linear(
    features: Any,
    weight: Any,
    targets: Any,
    *,
    group: Any,
    bias: Any,
    block_rows: Any,
    **keywords: Any,
) -> LossCall:
    """Prepare cross-entropy of features with a weight that is whole, or a shard on each rank."""
    layer = (weight, bias, block_rows)
    if group is None:
        return linear_call(features, layer, targets, **keywords)
    refuse(targets, "linear_cross_entropy with a group", LABELS)
    given = ("features", features, targets, layer)
    return process_groups.uncompiled(_prepared, *given, group=group, **keywords)


def _prepared(
    first: str,
    x: Any,
    targets: Any,
    layer: tuple[Any, Any, Any] | None,
    *,
    group: Any,
    class_weight: Any,
    sample_weight: Any,
    where: Any,
    ignore_index: Any,
    validate: Any,
    **keywords: Any,
) -> LossCall:
    """Prepare either; layer: the weight, the bias and `block_rows` that make logits of x."""
    x, cx = check.logits(first, x)
    ranks = process_groups.of(group, cx)
    weight_name = "weight" if layer is None else "class_weight"
    linear = None
    try:
        if layer is not None:
            linear = check_linear.checked(x, *layer, cx, empty=True)
        elif x.ndim == 0:
            raise ValueError(f"{first}: expected at least one axis, got shape ()")
        host_data = HostData(targets, ignore_index, sample_weight, where)
        targets, ignore_index = fitted(targets, ignore_index, cx)
        given = Given(labels(x, targets, cx, first), True, ignore_index)
        on_host = validate == "auto" and host_data.on_host("auto", cx)
        options, normalizer, reads = given_options(
            "cross_entropy", given, cx, first, on_host, validate=validate, **keywords
        )
        rows = tuple(x.shape[:-1])
        size = x.shape[-1] if linear is None else int(linear.weight.shape[0])
        operands = Operands(
            x,
            given.targets,
            check.class_weight(class_weight, size, cx, first, weight_name),
            check.row_array("sample_weight", sample_weight, rows, cx, first),
            check.row_array("where", where, rows, cx, first),
        )
        if reads:
            own = Operands(x, None, operands.class_weight)
            check_values(own, options, read(cx), 1, weight_name)
        fingerprints = fingerprints_of(operands, options, cx, normalizer, reads, linear)
    except Exception:
        process_groups.refuse(ranks, FINGERPRINTS)
        raise
    shard = process_groups.shard(ranks, size, fingerprints, first if layer is None else "weight")
    if reads:
        every = operands._replace(class_weight=None)  # the logits are elsewhere, too
        cx = check_targets(every, options, read(cx), shard.classes)
    elif on_host:
        host_data.check(options, shard.classes)
    # Class weights are not scaled: each rank has only its own.
    bare = operands._replace(class_weight=None)
    made, normalizer = weighed(bare, options, cx, shard.classes, normalizer)
    operands = made._replace(class_weight=operands.class_weight)
    return LossCall(
        "vocab_parallel_cross_entropy" if layer is None else "linear_cross_entropy",
        options,
        cx,
        operands,
        shard.classes if layer is None else size,
        -1,
        normalizer,
        (first,) if layer is None else (first, "weight", "bias"),
        linear,
        shard,
        ranks,
    )


def labels(x: Any, targets: Any, cx: Context, first: str) -> Array:
    """Check the labels. Soft targets are refused: a rank would need those of all classes."""
    t = check.beside("targets", targets, cx, first, LABELS)
    if dtype_name(t.dtype) not in INTEGERS:
        raise TypeError(f"targets: expected {LABELS}, got {check.described(targets)}")
    rows = tuple(x.shape[:-1])
    if tuple(t.shape) != rows:
        raise ValueError(
            f"targets: class indices must have the shape of {first} without the class axis, "
            f"{rows}; got {tuple(t.shape)}"
        )
    return t


def fingerprints_of(
    o: Operands,
    options: Options,
    cx: Context,
    normalizer: Any,
    reads: bool,
    linear: Linear | None = None,
) -> dict[str, int]:
    """Return a fingerprint of everything that must be the same on all ranks.

    The keys are the errors that are raised where ranks differ.
    """
    t: Any = o.targets
    low = high = total = 0
    if reads and prod(t.shape):
        low, high = bounds(t, cx)
        total = int(cx.xp.sum(cx.cast(t, cx.label_dtype)))
    given = tuple(a is not None for a in (o.class_weight, o.sample_weight, o.where, normalizer))
    number = normalizer if isinstance(normalizer, float) else None
    rows = tuple(int(n) for n in t.shape)
    first = "logits_shard" if linear is None else "features"
    # The gradient to features is summed over ranks in backward: all ranks must want it, or none.
    follows = linear is not None and bool(getattr(o.x, "requires_grad", False))
    facts = {
        "group: another loss": linear is None,
        f"{first}: other rows": rows,
        f"{first}: another dtype": dtype_name(cx.compute_dtype),
        "label_smoothing, z_loss, softcap, ignore_index, reduction or validate: another": (
            options._replace(engine=None)
        ),
        "weight, sample_weight, where or normalizer: given otherwise": given,
        "normalizer: another": number,
        "targets: another least label": low,
        "targets: another largest label": high,
        "targets: another sum of labels": total,
        "block_rows: another": linear and linear.block_rows,
        "features: requires_grad is another": follows,
    }
    return {name: process_groups.fingerprint(fact) for name, fact in facts.items()}
