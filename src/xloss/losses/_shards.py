"""From the arguments of a loss whose classes are spread over ranks to a prepared call."""

from __future__ import annotations

from math import prod
from typing import Any

from .._xp import INTEGERS, Array, Context, cast, dtype_name, read
from ..backends import groups
from ..backends.call import Call
from ..core.linear import Linear
from ..core.spec import Operands, Spec
from ..core.targets import bounds
from ..core.values import check_class_weight, check_labels
from ..engines import asked_for
from . import _check as check

FACTS = 11  # what ranks compare, each a number, whichever loss they call


def shard_call(
    x: Any, targets: Any, *, group: Any, weight: Any, sample_weight: Any, where: Any,
    ignore_index: Any, label_smoothing: Any, z_loss: Any, softcap: Any, reduction: Any,
    normalizer: Any, validate: Any,
) -> Call:  # fmt: skip
    """Prepare cross-entropy of the slice of the classes that this rank holds."""
    first = "logits_shard"
    x, cx = check.logits(first, x)
    ranks = groups.of(group, cx)
    try:
        if x.ndim == 0:
            raise ValueError(f"{first}: expected at least one axis, got shape ()")
        t = labels(x, targets, cx, first)
        spec, normalizer, reads = _spec(
            t, cx, first, ignore_index=ignore_index, label_smoothing=label_smoothing,
            z_loss=z_loss, softcap=softcap, reduction=reduction, normalizer=normalizer,
            validate=validate,
        )  # fmt: skip
        rows = tuple(x.shape[:-1])
        operands = Operands(
            x, t, check.class_weight(weight, x.shape[-1], cx, first),
            check.row_array("sample_weight", sample_weight, rows, cx, first),
            check.row_array("where", where, rows, cx, first),
        )  # fmt: skip
        if reads:
            check_class_weight(operands, spec, read(cx), "weight")
        told = facts(operands, spec, cx, normalizer, reads)
    except Exception:
        groups.refuse(ranks, FACTS)
        raise
    shard = groups.shard(ranks, x.shape[-1], told, first)
    if reads:
        cx = check_labels(operands, spec, read(cx), shard.classes)
    return Call(
        "vocab_parallel_cross_entropy", spec, cx, operands, shard.classes, -1, normalizer,
        (first,), None, shard, ranks,
    )  # fmt: skip


def linear_shard_call(
    features: Any, weight: Any, targets: Any, *, group: Any, bias: Any, class_weight: Any,
    block_rows: Any, sample_weight: Any, where: Any, ignore_index: Any, label_smoothing: Any,
    z_loss: Any, softcap: Any, reduction: Any, normalizer: Any, validate: Any,
) -> Call:  # fmt: skip
    """Prepare cross-entropy of features that the ranks' slices of a matrix turn into logits."""
    first = "features"
    x, cx = check.logits(first, features)
    ranks = groups.of(group, cx)
    try:
        linear = check.linear(x, weight, bias, block_rows, cx, empty=True)
        t = labels(x, targets, cx, first)
        spec, normalizer, reads = _spec(
            t, cx, first, ignore_index=ignore_index, label_smoothing=label_smoothing,
            z_loss=z_loss, softcap=softcap, reduction=reduction, normalizer=normalizer,
            validate=validate,
        )  # fmt: skip
        rows, size = tuple(x.shape[:-1]), int(linear.weight.shape[0])
        operands = Operands(
            x, t, check.class_weight(class_weight, size, cx, first, "class_weight"),
            check.row_array("sample_weight", sample_weight, rows, cx, first),
            check.row_array("where", where, rows, cx, first),
        )  # fmt: skip
        if reads:
            check_class_weight(operands, spec, read(cx), "class_weight")
        told = facts(operands, spec, cx, normalizer, reads, linear)
    except Exception:
        groups.refuse(ranks, FACTS)
        raise
    shard = groups.shard(ranks, size, told, "weight")
    if reads:
        cx = check_labels(operands, spec, read(cx), shard.classes)
    names = (first, "weight", "bias")
    return Call(
        "linear_cross_entropy", spec, cx, operands, size, -1, normalizer, names, linear, shard,
        ranks,
    )  # fmt: skip


def _spec(
    t: Any, cx: Context, first: str, *, ignore_index: Any, label_smoothing: Any, z_loss: Any,
    softcap: Any, reduction: Any, normalizer: Any, validate: Any,
) -> tuple[Spec, Any, bool]:  # fmt: skip
    """Return the options, the normalizer, and whether the labels may be read."""
    reduction, normalizer = check.reduction(reduction, normalizer, cx, first)
    validate, reads = check.validate(validate, t, cx)
    spec = Spec(
        kind="cross_entropy", indexed=True, ignore_index=check.ignored(ignore_index, True),
        label_smoothing=check.number("label_smoothing", label_smoothing, 0.0, 1.0),
        z_loss=check.number("z_loss", z_loss, 0.0),
        softcap=None if softcap is None else check.number("softcap", softcap, 0.0, above=True),
        reduction=reduction, validate=validate, engine=asked_for(),
    )  # fmt: skip
    return spec, normalizer, reads


def labels(x: Any, targets: Any, cx: Context, first: str) -> Array:
    """Check the labels, which are the only targets that every rank can hold."""
    expected = "an integer array of global class indices"
    t = check.same_home("targets", targets, cx, first, expected)
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
    o: Operands, spec: Spec, cx: Context, normalizer: Any, reads: bool,
    linear: Linear | None = None,
) -> dict[str, int]:  # fmt: skip
    """Say what must be the same on every rank, in numbers; the names make the error."""
    t: Any = o.targets
    low = high = total = 0
    if reads and prod(t.shape):
        low, high = bounds(t, cx)
        total = int(cx.xp.sum(cast(cx, t, cx.index)))
    given = tuple(a is not None for a in (o.class_weight, o.sample_weight, o.where, normalizer))
    number = normalizer if isinstance(normalizer, float) else None
    rows = tuple(int(n) for n in t.shape)
    first = "logits_shard" if linear is None else "features"
    # The features' gradient is summed where it is wanted: by all ranks or by none.
    follows = linear is not None and bool(getattr(o.x, "requires_grad", False))
    return {
        "group: another loss": groups.fact(linear is None),
        f"{first}: other rows": groups.fact(rows),
        f"{first}: another dtype": groups.fact(dtype_name(cx.acc)),
        "label_smoothing, z_loss, softcap, ignore_index, reduction or validate: another": (
            groups.fact(spec._replace(engine=None))
        ),
        "weight, sample_weight, where or normalizer: given otherwise": groups.fact(given),
        "normalizer: another": groups.fact(number),
        "targets: another least label": groups.fact(low),
        "targets: another largest label": groups.fact(high),
        "targets: another sum of labels": groups.fact(total),
        "block_rows: another": groups.fact(linear and linear.block_rows),
        "features: requires_grad is another": groups.fact(follows),
    }
