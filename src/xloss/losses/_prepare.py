"""Prepares calls: checks the arguments of a public function and collects them in a `LossCall`."""

from __future__ import annotations

from math import inf
from typing import Any

from .._arrays.context import Context, read
from .._arrays.host_data import fitted
from .._arrays.inspect import INTEGERS, as_written, dtype_name, spread
from ..backends import fingerprints
from ..core.call import LossCall
from ..core.options import Operands, Options
from ..core.value_checks import axis_back, check_targets, check_values
from ..core.weights import mean_weights
from ..engines import asked_for
from . import _check as check
from . import _check_linear as check_linear
from . import _check_top_k as check_top_k
from ._host_targets import HostData
from ._lengths import is_empty
from .top_k import TopKTargets


@as_written
def classes_call(
    name: str,
    x: Any,
    targets: Any,
    *,
    first: str = "logits",
    kind: str | None = None,
    axis: Any = -1,
    weight: Any = None,
    sample_weight: Any = None,
    where: Any = None,
    ignore_index: Any = None,
    label_smoothing: Any = 0.0,
    z_loss: Any = 0.0,
    softcap: Any = None,
    gamma: Any = 0.0,
    eps: Any = None,
    reduction: Any = "mean",
    normalizer: Any = None,
    validate: Any = "auto",
) -> LossCall:
    """Prepare a loss along a class axis with class indices or probabilities as targets."""
    key = None
    few = isinstance(targets, TopKTargets)
    if few and (kind or name) != "cross_entropy":
        check_top_k.refuse(targets, name, "soft targets of all classes, or take cross_entropy")
    if not few and weight is sample_weight is where is normalizer is None:
        key = fingerprints.key(
            x,
            targets,
            name,
            kind,
            axis,
            ignore_index,
            label_smoothing,
            z_loss,
            softcap,
            gamma,
            eps,
            reduction,
            validate,
        )
        known = None if key is None else fingerprints.find(key)
        if known is not None:
            if known.axis != -1:
                x = check.move_last(x, known.axis, known.cx)
                if not known.options.indexed:
                    targets = check.move_last(targets, known.axis, known.cx)
            return known.of(Operands(x, targets))
    x, cx = check.logits(first, x)
    axis, classes = check.class_axis(first, x, axis)
    host_data = HostData(targets, ignore_index, sample_weight, where, weight)
    indices = rest = None
    if isinstance(targets, TopKTargets):
        rest, indexed = targets.rest, False
        indices, t, ignore_index = check_top_k.checked(x, targets, axis, ignore_index, cx, first)
    else:
        targets, ignore_index = fitted(targets, ignore_index, cx)
        t, indexed = check.class_targets(x, targets, axis, cx, first)
    reduction, normalizer = check.reduction(reduction, normalizer, cx, first)
    on_host = host_data.on_host(validate, cx)
    validate, reads = check.validate(
        validate, t if indices is None else indices, cx, on_host=on_host
    )
    options = Options(
        kind=kind or name,
        indexed=indexed,
        ignore_index=check.ignored(ignore_index, indexed or few),
        label_smoothing=check.number("label_smoothing", label_smoothing, 0.0, 1.0),
        z_loss=check.number("z_loss", z_loss, 0.0),
        softcap=None if softcap is None else check.number("softcap", softcap, 0.0, above=True),
        gamma=check.number("gamma", gamma, 0.0),
        eps=check.clip_eps(eps),
        reduction=reduction,
        validate=validate,
        engine=asked_for(),
        rest=rest,
    )
    x = check.move_last(x, axis, cx)
    rows = tuple(x.shape[:-1])
    operands = Operands(
        x,
        t if indexed or few else check.move_last(t, axis, cx),
        check.class_weight(weight, classes, cx, first),
        check.row_array("sample_weight", sample_weight, rows, cx, first),
        check.row_array("where", where, rows, cx, first),
        indices=indices,
    )
    if few and spread(x):
        raise TypeError(f"targets: TopKTargets beside a DTensor as {first} are not taken")
    if reads and not spread(x):  # each rank of a DTensor checks its own labels
        cx = read(cx)
        if indexed or few or validate is True:
            cx = check_values(operands, options, cx, classes, named=axis_back(axis, x.ndim))
    elif on_host:
        host_data.check(options, classes, axis)
    operands, normalizer = weighed(operands, options, cx, classes, normalizer)
    call = LossCall(name, options, cx, operands, classes, axis, normalizer, (first, "targets"))
    return call if key is None or reads else fingerprints.keep(key, call)


def weighed(
    o: Operands, options: Options, cx: Context, classes: int, normalizer: Any
) -> tuple[Operands, Any]:
    """Scale the weights of a mean to near 1, so that their sums neither overflow nor underflow.

    The backends of JAX and TensorFlow do it inside their graphs. DTensors are left alone, as no
    rank has all rows.
    """
    if cx.library in ("jax", "tensorflow") or any(spread(a) for a in o if a is not None):
        return o, normalizer
    lazy = cx.library == "dask"
    return mean_weights(o, options, cx, classes, normalizer, by_label=not lazy, rounded=lazy)


def entropy_spec(
    t: Any,
    indexed: bool,
    cx: Context,
    first: str,
    on_host: bool,
    *,
    ignore_index: Any,
    label_smoothing: Any,
    z_loss: Any,
    softcap: Any,
    reduction: Any,
    normalizer: Any,
    validate: Any,
) -> tuple[Options, Any, bool]:
    """Return cross_entropy's options, the normalizer, and whether the targets may be read."""
    reduction, normalizer = check.reduction(reduction, normalizer, cx, first)
    validate, reads = check.validate(validate, t, cx, on_host=on_host)
    options = Options(
        kind="cross_entropy",
        indexed=indexed,
        ignore_index=check.ignored(ignore_index, indexed),
        label_smoothing=check.number("label_smoothing", label_smoothing, 0.0, 1.0),
        z_loss=check.number("z_loss", z_loss, 0.0),
        softcap=None if softcap is None else check.number("softcap", softcap, 0.0, above=True),
        reduction=reduction,
        validate=validate,
        engine=asked_for(),
    )
    return options, normalizer, reads


def linear_call(
    features: Any,
    weight: Any,
    targets: Any,
    *,
    bias: Any,
    class_weight: Any,
    block_rows: Any,
    sample_weight: Any,
    where: Any,
    ignore_index: Any,
    **keywords: Any,
) -> LossCall:
    """Prepare cross-entropy of features and a weight, whose product is the logits."""
    first = "features"
    x, cx = check.logits(first, features)
    linear = check_linear.checked(x, weight, bias, block_rows, cx)
    classes = linear.weight.shape[0]
    logits = check_linear.Shaped((*x.shape[:-1], classes))
    host_data = HostData(targets, ignore_index, sample_weight, where, class_weight)
    indices = rest = None
    if isinstance(targets, TopKTargets):
        rest, indexed = targets.rest, False
        indices, t, ignore_index = check_top_k.checked(
            logits, targets, -1, ignore_index, cx, "the logits"
        )
    else:
        targets, ignore_index = fitted(targets, ignore_index, cx)
        t, indexed = check.class_targets(logits, targets, -1, cx, "the logits")
    on_host = host_data.on_host(keywords["validate"], cx)
    options, normalizer, reads = entropy_spec(
        t if indices is None else indices,
        indexed or rest is not None,
        cx,
        first,
        on_host,
        ignore_index=ignore_index,
        **keywords,
    )
    options = options._replace(indexed=indexed, rest=rest)
    rows = tuple(x.shape[:-1])
    operands = Operands(
        x,
        t,
        check.class_weight(class_weight, classes, cx, first, "class_weight"),
        check.row_array("sample_weight", sample_weight, rows, cx, first),
        check.row_array("where", where, rows, cx, first),
        indices=indices,
    )
    if reads:
        cx = read(cx)
        if indexed or rest is not None or options.validate is True:
            cx = check_targets(operands, options, cx, classes, "class_weight")
    elif on_host:
        host_data.check(options, classes, weight="class_weight")
    operands, normalizer = weighed(operands, options, cx, classes, normalizer)
    names = (first, "weight", "targets", "bias")
    return LossCall(
        "linear_cross_entropy", options, cx, operands, classes, -1, normalizer, names, linear
    )


@as_written
def elements_call(
    name: str,
    x: Any,
    targets: Any,
    *,
    first: str = "logits",
    binary: bool = True,
    axis: Any = -1,
    pos_weight: Any = None,
    sample_weight: Any = None,
    where: Any = None,
    label_smoothing: Any = 0.0,
    gamma: Any = 0.0,
    alpha: Any = None,
    eps: Any = None,
    log_target: Any = False,
    reduction: Any = "mean",
    normalizer: Any = None,
) -> LossCall:
    """Prepare a loss of elementwise terms: a binary loss, or the divergence of class axes."""
    x, cx = check.logits(first, x)
    classes = 0
    at = -1
    if not binary:
        at, classes = check.class_axis(first, x, axis)
    check_top_k.refuse(targets, name, f"a floating array of the shape of {first}")
    host_data = HostData(targets, None, sample_weight, where)
    t, indexed = check.element_targets(x, targets, cx, first, binary=binary)
    reduction, normalizer = check.reduction(reduction, normalizer, cx, first)
    if not isinstance(log_target, bool):
        raise TypeError(f"log_target: expected True or False, got {check.described(log_target)}")
    options = Options(
        kind=name,
        indexed=indexed,
        gamma=check.number("gamma", gamma, 0.0),
        label_smoothing=check.number("label_smoothing", label_smoothing, 0.0, 1.0),
        alpha=None if alpha is None else check.number("alpha", alpha, 0.0, 1.0),
        eps=check.clip_eps(eps),
        log_target=log_target,
        reduction=reduction,
        engine=asked_for(),
    )
    if not binary:
        x, t = check.move_last(x, at, cx), check.move_last(t, at, cx)
    rows = tuple(x.shape[:-1]) if classes else tuple(x.shape)
    operands = Operands(
        x,
        t,
        None,
        check.row_array("sample_weight", sample_weight, rows, cx, first),
        check.row_array("where", where, rows, cx, first),
        check.row_array("pos_weight", pos_weight, rows, cx, first),
    )
    if dtype_name(t.dtype) in INTEGERS:
        if check.validate("auto", t, cx)[1]:
            cx = check_values(operands, options, read(cx), 0)
        elif host_data.on_host("auto", cx):
            host_data.check(options, 0)
    operands, normalizer = weighed(operands, options, cx, classes, normalizer)
    return LossCall(name, options, cx, operands, classes, at, normalizer, (first, "targets"))


@as_written
def logits_call(name: str, x: Any, *, axis: Any, first: str = "logits") -> LossCall:
    """Prepare a function of logits alone that returns one number a row.

    A row without classes is treated as a row with one masked class, which gives the same result.
    """
    x, cx = check.logits(first, x)
    at, classes = check.class_axis(first, x, axis, empty=True)
    options = Options(kind=name, reduction="none", engine=asked_for())
    x = check.move_last(x, at, cx)
    if is_empty(classes):
        # Made from a sum over no classes, so that an autodiff still sees the argument.
        x, classes = cx.cast(cx.xp.sum(x, axis=-1, keepdims=True) - inf, x.dtype), 1
    return LossCall(name, options, cx, Operands(x), classes, at, None, (first,))


def without_masked(x: Any, made: Any, axis: int) -> Any:
    """Drop the class that `logits_call` put in the place of none from an elementwise result."""
    if made.shape[axis] == x.shape[axis]:
        return made
    return made[(..., slice(0, 0), *(slice(None),) * (-1 - axis))]
