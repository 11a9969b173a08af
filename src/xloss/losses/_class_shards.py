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
def prepare_shard(x: Any, targets: Any, *, group: Any, **keywords: Any) -> LossCall:
    """Prepare cross-entropy of a shard of the classes, outside of torch.compile."""
    refuse(targets, "vocab_parallel_cross_entropy", LABELS)
    return process_groups.uncompiled(shard_call, x, targets, group=group, **keywords)


@as_written
def prepare_linear(
    features: Any, weight: Any, targets: Any, *, group: Any, **keywords: Any
) -> LossCall:
    """Prepare cross-entropy of features with a weight that is whole, or a shard on each rank."""
    if group is None:
        return linear_call(features, weight, targets, **keywords)
    refuse(targets, "linear_cross_entropy with a group", LABELS)
    return process_groups.uncompiled(
        linear_shard_call, features, weight, targets, group=group, **keywords
    )


def shard_call(x: Any, targets: Any, *, weight: Any, **keywords: Any) -> LossCall:
    """Prepare cross-entropy of the shard of the classes that this rank holds."""
    return _prepared("logits_shard", x, targets, None, class_weight=weight, **keywords)


def linear_shard_call(
    features: Any, weight: Any, targets: Any, *, bias: Any, block_rows: Any, **keywords: Any
) -> LossCall:
    """Prepare cross-entropy of features with a weight of which each rank holds a shard."""
    return _prepared("features", features, targets, (weight, bias, block_rows), **keywords)


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
    operands, normalizer = weighed_rows(operands, options, cx, shard.classes, normalizer)
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


def weighed_rows(
    o: Operands, options: Options, cx: Context, classes: int, normalizer: Any
) -> tuple[Operands, Any]:
    """Scale the sample weights to near 1; class weights stay, as each rank has only its own."""
    made, normalizer = weighed(o._replace(class_weight=None), options, cx, classes, normalizer)
    return made._replace(class_weight=o.class_weight), normalizer


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
    return {
        "group: another loss": process_groups.fingerprint(linear is None),
        f"{first}: other rows": process_groups.fingerprint(rows),
        f"{first}: another dtype": process_groups.fingerprint(dtype_name(cx.compute_dtype)),
        "label_smoothing, z_loss, softcap, ignore_index, reduction or validate: another": (
            process_groups.fingerprint(options._replace(engine=None))
        ),
        "weight, sample_weight, where or normalizer: given otherwise": process_groups.fingerprint(
            given
        ),
        "normalizer: another": process_groups.fingerprint(number),
        "targets: another least label": process_groups.fingerprint(low),
        "targets: another largest label": process_groups.fingerprint(high),
        "targets: another sum of labels": process_groups.fingerprint(total),
        "block_rows: another": process_groups.fingerprint(linear and linear.block_rows),
        "features: requires_grad is another": process_groups.fingerprint(follows),
    }
