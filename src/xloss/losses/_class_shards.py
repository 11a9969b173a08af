"""From the arguments of a loss whose classes are spread over ranks to a prepared call."""

from __future__ import annotations

from math import prod
from typing import Any

from .._arrays.context import Context, read
from .._arrays.host_data import fitted
from .._arrays.inspect import INTEGERS, Array, dtype_name
from .._arrays.ops import cast
from ..backends import process_groups
from ..core.call import LossCall
from ..core.linear import Linear
from ..core.options import Operands, Options
from ..core.targets import bounds
from ..core.value_checks import check_class_weight, check_labels
from . import _check as check
from . import _check_linear as check_linear
from ._host_targets import Given
from ._prepare import entropy_spec, linear_call, weighed

FACTS = 11  # what ranks compare, each a number, whichever loss they call


def prepare_shard(x: Any, targets: Any, *, group: Any, **keywords: Any) -> LossCall:
    """Prepare cross-entropy of a slice of the classes; torch.compile cannot trace the exchange."""
    return process_groups.uncompiled(shard_call, x, targets, group=group, **keywords)


def prepare_linear(
    features: Any, weight: Any, targets: Any, *, group: Any, **keywords: Any
) -> LossCall:
    """Prepare cross-entropy of features, whose matrix is whole or a slice on each rank."""
    if group is None:
        return linear_call(features, weight, targets, **keywords)
    return process_groups.uncompiled(
        linear_shard_call, features, weight, targets, group=group, **keywords
    )


def shard_call(
    x: Any,
    targets: Any,
    *,
    group: Any,
    weight: Any,
    sample_weight: Any,
    where: Any,
    **keywords: Any,
) -> LossCall:
    """Prepare cross-entropy of the slice of the classes that this rank holds."""
    first = "logits_shard"
    x, cx = check.logits(first, x)
    ranks = process_groups.of(group, cx)
    try:
        if x.ndim == 0:
            raise ValueError(f"{first}: expected at least one axis, got shape ()")
        given = Given(targets, keywords["ignore_index"], sample_weight, where)
        targets, keywords["ignore_index"] = fitted(targets, keywords["ignore_index"], cx)
        t = labels(x, targets, cx, first)
        on_host = keywords["validate"] == "auto" and given.on_host("auto", cx)
        options, normalizer, reads = entropy_spec(t, True, cx, first, on_host, **keywords)
        rows = tuple(x.shape[:-1])
        operands = Operands(
            x,
            t,
            check.class_weight(weight, x.shape[-1], cx, first),
            check.row_array("sample_weight", sample_weight, rows, cx, first),
            check.row_array("where", where, rows, cx, first),
        )
        if reads:
            check_class_weight(operands, options, read(cx), "weight")
        told = facts(operands, options, cx, normalizer, reads)
    except Exception:
        process_groups.refuse(ranks, FACTS)
        raise
    shard = process_groups.shard(ranks, x.shape[-1], told, first)
    if reads:
        cx = check_labels(operands, options, read(cx), shard.classes)
    elif on_host:
        given.check(options, shard.classes)
    operands, normalizer = weighed_rows(operands, options, cx, shard.classes, normalizer)
    return LossCall(
        "vocab_parallel_cross_entropy",
        options,
        cx,
        operands,
        shard.classes,
        -1,
        normalizer,
        (first,),
        None,
        shard,
        ranks,
    )


def linear_shard_call(
    features: Any,
    weight: Any,
    targets: Any,
    *,
    group: Any,
    bias: Any,
    class_weight: Any,
    block_rows: Any,
    sample_weight: Any,
    where: Any,
    **keywords: Any,
) -> LossCall:
    """Prepare cross-entropy of features that the ranks' slices of a matrix turn into logits."""
    first = "features"
    x, cx = check.logits(first, features)
    ranks = process_groups.of(group, cx)
    try:
        linear = check_linear.checked(x, weight, bias, block_rows, cx, empty=True)
        given = Given(targets, keywords["ignore_index"], sample_weight, where)
        targets, keywords["ignore_index"] = fitted(targets, keywords["ignore_index"], cx)
        t = labels(x, targets, cx, first)
        on_host = keywords["validate"] == "auto" and given.on_host("auto", cx)
        options, normalizer, reads = entropy_spec(t, True, cx, first, on_host, **keywords)
        rows, size = tuple(x.shape[:-1]), int(linear.weight.shape[0])
        operands = Operands(
            x,
            t,
            check.class_weight(class_weight, size, cx, first, "class_weight"),
            check.row_array("sample_weight", sample_weight, rows, cx, first),
            check.row_array("where", where, rows, cx, first),
        )
        if reads:
            check_class_weight(operands, options, read(cx), "class_weight")
        told = facts(operands, options, cx, normalizer, reads, linear)
    except Exception:
        process_groups.refuse(ranks, FACTS)
        raise
    shard = process_groups.shard(ranks, size, told, "weight")
    if reads:
        cx = check_labels(operands, options, read(cx), shard.classes)
    elif on_host:
        given.check(options, shard.classes)
    operands, normalizer = weighed_rows(operands, options, cx, shard.classes, normalizer)
    names = (first, "weight", "bias")
    return LossCall(
        "linear_cross_entropy",
        options,
        cx,
        operands,
        size,
        -1,
        normalizer,
        names,
        linear,
        shard,
        ranks,
    )


def weighed_rows(
    o: Operands, options: Options, cx: Context, classes: int, normalizer: Any
) -> tuple[Operands, Any]:
    """Bring the rows' weights near 1: of those of the classes each rank sees its own only."""
    made, normalizer = weighed(o._replace(class_weight=None), options, cx, classes, normalizer)
    return made._replace(class_weight=o.class_weight), normalizer


def labels(x: Any, targets: Any, cx: Context, first: str) -> Array:
    """Check the labels, which are the only targets that every rank can hold."""
    expected = "an integer array of global class indices"
    t = check.beside("targets", targets, cx, first, expected)
    if dtype_name(t.dtype) not in INTEGERS:
        raise TypeError(f"targets: expected {expected}, got {check.described(targets)}")
    rows = tuple(x.shape[:-1])
    if tuple(t.shape) != rows:
        raise ValueError(
            f"targets: class indices must have the shape of {first} without the class axis, "
            f"{rows}; got {tuple(t.shape)}"
        )
    return t


def facts(
    o: Operands,
    options: Options,
    cx: Context,
    normalizer: Any,
    reads: bool,
    linear: Linear | None = None,
) -> dict[str, int]:
    """Say what must be the same on every rank, in numbers; the names make the error."""
    t: Any = o.targets
    low = high = total = 0
    if reads and prod(t.shape):
        low, high = bounds(t, cx)
        total = int(cx.xp.sum(cast(cx, t, cx.label_dtype)))
    given = tuple(a is not None for a in (o.class_weight, o.sample_weight, o.where, normalizer))
    number = normalizer if isinstance(normalizer, float) else None
    rows = tuple(int(n) for n in t.shape)
    first = "logits_shard" if linear is None else "features"
    # The features' gradient is summed where it is wanted: by all ranks or by none.
    follows = linear is not None and bool(getattr(o.x, "requires_grad", False))
    return {
        "group: another loss": process_groups.fact(linear is None),
        f"{first}: other rows": process_groups.fact(rows),
        f"{first}: another dtype": process_groups.fact(dtype_name(cx.compute_dtype)),
        "label_smoothing, z_loss, softcap, ignore_index, reduction or validate: another": (
            process_groups.fact(options._replace(engine=None))
        ),
        "weight, sample_weight, where or normalizer: given otherwise": process_groups.fact(given),
        "normalizer: another": process_groups.fact(number),
        "targets: another least label": process_groups.fact(low),
        "targets: another largest label": process_groups.fact(high),
        "targets: another sum of labels": process_groups.fact(total),
        "block_rows: another": process_groups.fact(linear and linear.block_rows),
        "features: requires_grad is another": process_groups.fact(follows),
    }
