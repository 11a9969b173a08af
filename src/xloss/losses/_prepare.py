"""Prepares calls: checks the arguments of a public function and collects them in a `LossCall`."""

from __future__ import annotations

from math import inf
from typing import Any, NamedTuple

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


class Given(NamedTuple):
    """Targets as they came, checked, with the class axis or the slots last."""

    targets: Any
    indexed: bool  # they are class indices
    ignore_index: Any = None
    indices: Any = None  # the listed classes, where they name a few of each row
    rest: str | None = None


def given_targets(
    x: Any, targets: Any, axis: int, ignore_index: Any, cx: Context, first: str
) -> Given:
    """Check targets along a class axis; x has the shape of the logits, which `first` names."""
    if isinstance(targets, TopKTargets):
        indices, probs, ignore_index = check_top_k.checked(
            x, targets, axis, ignore_index, cx, first
        )
        return Given(probs, False, ignore_index, indices, targets.rest)
    targets, ignore_index = fitted(targets, ignore_index, cx)
    t, indexed = check.class_targets(x, targets, axis, cx, first)
    return Given(t if indexed else check.move_last(t, axis, cx), indexed, ignore_index)


# The bounds of each option that is a number, and whether None stands for its absence.
NUMBERS = {
    "label_smoothing": (0.0, 1.0),
    "z_loss": (0.0, inf),
    "softcap": (0.0, inf),
    "gamma": (0.0, inf),
    "alpha": (0.0, 1.0),
    "eps": (0.0, 0.5),
}
OPTIONAL = ("softcap", "alpha", "eps")


def given_options(
    kind: str,
    given: Given,
    cx: Context,
    first: str,
    on_host: bool = False,
    *,
    reduction: Any,
    normalizer: Any,
    validate: Any = "auto",
    log_target: Any = False,
    **numbers: Any,
) -> tuple[Options, Any, bool]:
    """Return checked options, the normalizer, and whether the targets may be read."""
    reduction, normalizer = check.reduction(reduction, normalizer, cx, first)
    few = given.indices is not None
    labels = given.indices if few else given.targets
    validate, reads = check.validate(validate, labels, cx, on_host=on_host)
    if log_target is not True and log_target is not False:
        raise TypeError(f"log_target: expected True or False, got {check.described(log_target)}")
    for name, value in numbers.items():
        if value is not None or name not in OPTIONAL:
            low, high = NUMBERS[name]
            numbers[name] = check.number(name, value, low, high, above=name == "softcap")
    options = Options(
        kind=kind,
        indexed=given.indexed,
        ignore_index=check.ignored(given.ignore_index, given.indexed or few),
        log_target=log_target,
        reduction=reduction,
        validate=validate,
        engine=asked_for(),
        rest=given.rest,
        **numbers,
    )
    return options, normalizer, reads


@as_written
def classes_call(
    name: str,
    x: Any,
    targets: Any,
    *,
    first: str = "logits",
    axis: Any,
    weight: Any,
    sample_weight: Any,
    where: Any,
    ignore_index: Any,
    normalizer: Any = None,
    validate: Any,
    **options: Any,
) -> LossCall:
    """Prepare a loss along a class axis with class indices or probabilities as targets."""
    key = None
    few = isinstance(targets, TopKTargets)
    if few and name != "cross_entropy":
        check_top_k.refuse(targets, name, "soft targets of all classes, or take cross_entropy")
    plain = weight is sample_weight is where is normalizer is None
    if plain and not few and fingerprints.taken(x):
        # With their names: two callers may give the same options in another order.
        names = tuple(options)
        key = fingerprints.key(
            x, targets, names, name, axis, ignore_index, validate, *options.values()
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
    given = given_targets(x, targets, axis, ignore_index, cx, first)
    on_host = host_data.on_host(validate, cx)
    made, normalizer, reads = given_options(
        name, given, cx, first, on_host, normalizer=normalizer, validate=validate, **options
    )
    x = check.move_last(x, axis, cx)
    rows = tuple(x.shape[:-1])
    operands = Operands(
        x,
        given.targets,
        check.class_weight(weight, classes, cx, first),
        check.row_array("sample_weight", sample_weight, rows, cx, first),
        check.row_array("where", where, rows, cx, first),
        indices=given.indices,
    )
    if few and spread(x):
        raise TypeError(f"targets: TopKTargets beside a DTensor as {first} are not taken")
    if reads and not spread(x):  # each rank of a DTensor checks its own labels
        cx = read(cx)
        if given.indexed or few or validate is True:
            cx = check_values(operands, made, cx, classes, named=axis_back(axis, x.ndim))
    elif on_host:
        host_data.check(made, classes, axis)
    operands, normalizer = weighed(operands, made, cx, classes, normalizer)
    call = LossCall(name, made, cx, operands, classes, axis, normalizer, (first, "targets"))
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


def linear_call(
    features: Any,
    layer: tuple[Any, Any, Any],
    targets: Any,
    *,
    class_weight: Any,
    sample_weight: Any,
    where: Any,
    ignore_index: Any,
    validate: Any,
    **options: Any,
) -> LossCall:
    """Prepare cross-entropy of features; layer: weight, bias and `block_rows`, for their logits."""
    first = "features"
    x, cx = check.logits(first, features)
    linear = check_linear.checked(x, *layer, cx)
    classes = linear.weight.shape[0]
    logits = check_linear.Shaped((*x.shape[:-1], classes))
    host_data = HostData(targets, ignore_index, sample_weight, where, class_weight)
    given = given_targets(logits, targets, -1, ignore_index, cx, "the logits")
    on_host = host_data.on_host(validate, cx)
    made, normalizer, reads = given_options(
        "cross_entropy", given, cx, first, on_host, validate=validate, **options
    )
    rows = tuple(x.shape[:-1])
    operands = Operands(
        x,
        given.targets,
        check.class_weight(class_weight, classes, cx, first, "class_weight"),
        check.row_array("sample_weight", sample_weight, rows, cx, first),
        check.row_array("where", where, rows, cx, first),
        indices=given.indices,
    )
    if reads:
        cx = read(cx)
        if given.indexed or given.rest is not None or validate is True:
            cx = check_targets(operands, made, cx, classes, "class_weight")
    elif on_host:
        host_data.check(made, classes, weight="class_weight")
    operands, normalizer = weighed(operands, made, cx, classes, normalizer)
    names = (first, "weight", "targets", "bias")
    return LossCall(
        "linear_cross_entropy", made, cx, operands, classes, -1, normalizer, names, linear
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
    sample_weight: Any,
    where: Any,
    **options: Any,
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
    made, normalizer, reads = given_options(name, Given(t, indexed), cx, first, **options)
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
        if reads:
            cx = check_values(operands, made, read(cx), 0)
        elif host_data.on_host("auto", cx):
            host_data.check(made, 0)
    operands, normalizer = weighed(operands, made, cx, classes, normalizer)
    return LossCall(name, made, cx, operands, classes, at, normalizer, (first, "targets"))


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
