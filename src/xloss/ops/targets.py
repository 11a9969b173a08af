"""Targets made and counted."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from .. import backends
from .._arrays.context import context, functional
from .._arrays.inspect import INTEGERS, dtype_name, gathered, is_integer, is_real_float
from .._typing import Array
from ..core.call import LossCall
from ..core.options import Operands, Options
from ..core.row_stats import label_mask
from ..core.targets import prepare, safe_labels, total_weight
from ..core.value_checks import check_values
from ..engines import asked_for
from ..losses import _check as check
from ..losses._lengths import is_empty


def one_hot(labels: Array, num_classes: int, /, *, axis: int = -1, dtype: Any = None) -> Array:
    r"""Class indices as rows of zeros with a single one.

    Parameters
    ----------
    labels : integer array of any shape
        Class indices of any integer dtype.
    num_classes : int >= 1
        Length of the new axis.
    axis : int, default -1
        Where the new axis stands in the result.
    dtype : optional
        The library's own dtype object for the result. Absent: its default floating dtype.

    Returns
    -------
    Array
        Of the labels' shape with the class axis inserted. A label outside [0, num_classes)
        that cannot be read (see Raises) gives NaN in a floating dtype, zeros in another.

    Raises
    ------
    TypeError
        An argument of the wrong type or dtype. The message names it.
    ValueError
        An argument of the wrong shape or value. The message names it.
    IndexError
        A label outside [0, num_classes) in a concrete host array.

    See Also
    --------
    smooth_labels : spreads a share of each of these over the other classes.
    cross_entropy : takes the labels themselves.

    References
    ----------
    Bishop, *Pattern Recognition and Machine Learning* (2006), section 2.2 ("1-of-K").

    Examples
    --------
    >>> import numpy as np
    >>> from xloss import one_hot
    >>> one_hot(np.array([1, 0]), 3)
    array([[0., 1., 0.],
           [1., 0., 0.]])
    """
    xp = check.taken("labels", labels, "an integer array")
    if dtype_name(labels.dtype) not in INTEGERS:
        raise TypeError(f"labels: expected an integer array, got {check.described(labels)}")
    num_classes = check.integer("num_classes", num_classes)
    if num_classes < 1:
        raise ValueError(f"num_classes: expected at least 1, got {num_classes}")
    labels = np.asarray(labels) if isinstance(labels, np.generic) else labels
    axis = check.integer("axis", axis)
    n = labels.ndim + 1
    if not -n <= axis < n:
        raise ValueError(f"axis: expected -{n} <= axis < {n}, got {axis}")
    if dtype is None:
        info = xp.__array_namespace_info__()
        dtype = info.default_dtypes(device=context(labels, xp).device)["real floating"]
    cx = functional(context(labels, xp))
    options = Options("one_hot", indexed=True, validate="auto")
    if check.validate("auto", labels, cx)[1]:
        shape = (*labels.shape, num_classes)
        check_values(
            Operands(xp.broadcast_to(labels[..., None], shape), labels), options, cx, num_classes
        )
    safe, _, bad = safe_labels(labels, num_classes, None, cx)
    hot = label_mask(safe, num_classes, cx)
    out = xp.astype(hot if bad is None else hot & ~bad[..., None], dtype)
    if bad is not None and is_real_float(dtype):
        # Cast, for NumPy makes float64 of a bfloat16 and a Python float.
        out = cx.cast(xp.where(bad[..., None], math.nan, out), dtype)
    axes = list(range(n - 1))
    axes.insert(axis % n, n - 1)
    placed: Array = out if axes[-1] == n - 1 else xp.permute_dims(out, tuple(axes))
    return placed


def smooth_labels(
    probs: Array, epsilon: float, /, *, axis: int = -1, where: Array | None = None
) -> Array:
    r"""Spread a share of each target over the classes: ``(1 - epsilon) t + epsilon (sum t) u``.

    u is uniform over the possible classes. The losses' own ``label_smoothing`` does the same.

    Parameters
    ----------
    probs : floating array of at least one axis
        Soft targets: probabilities along the class axis, which may stand anywhere.
    epsilon : float in [0, 1]
        The share of each target that is spread.
    axis : int, default -1
        The class axis.
    where : array of bool that broadcasts to the shape of probs, optional
        The possible classes, over which the share is spread. Absent: all.

    Returns
    -------
    Array
        Of the shape of probs; float64 for float64 probs, else float32.

    Raises
    ------
    TypeError
        An argument of the wrong type, dtype or library. The message names it.
    ValueError
        An argument of the wrong shape, value or device. The message names it.

    See Also
    --------
    one_hot : makes soft targets of class indices.
    cross_entropy : does the same by its ``label_smoothing``, without the array.

    References
    ----------
    Szegedy et al., "Rethinking the Inception architecture for computer vision" (2016).

    Examples
    --------
    >>> import numpy as np
    >>> from xloss import smooth_labels
    >>> smooth_labels(np.array([1.0, 0.0]), 0.1)
    array([0.95, 0.05])
    """
    t, cx = check.logits("probs", probs)
    at, classes = check.class_axis("probs", t, axis)
    share = check.number("epsilon", epsilon, 0.0, 1.0)
    there = check.row_array("where", where, tuple(t.shape), cx, "probs")
    xp = cx.xp
    t = cx.cast(t, cx.compute_dtype)
    mass = cx.cast(xp.sum(t, axis=at, keepdims=True, dtype=cx.sum_dtype), cx.compute_dtype)
    if there is None:
        spread = share * mass / classes
    else:
        number = xp.sum(xp.astype(there, cx.compute_dtype), axis=at, keepdims=True)
        with cx.quiet():
            uniform = share * mass / xp.where(number == 0, 1.0, number)
        spread = xp.where(there, uniform, 0.0)
    smoothed: Array = (1.0 - share) * t + spread
    return smoothed


def effective_count(
    targets: Array,
    /,
    *,
    axis: int = -1,
    weight: Array | None = None,
    sample_weight: Array | None = None,
    where: Array | None = None,
    ignore_index: int | None = -100,
) -> Array:
    r"""Denominator of the mean cross-entropy: ``sum_i sample_weight_i sum_j weight_j t_ij``.

    Added over micro-batches and ranks it is the ``normalizer`` with which their losses and
    gradients add up to those of the whole batch.

    Parameters
    ----------
    targets : array, integer or floating
        Class indices of any integer dtype and of shape (*rows), or soft targets of any floating
        dtype, with a class axis.
    axis : int, default -1
        The class axis of soft targets.
    weight : array of shape (classes,), optional
        A constant weight for each class, of any integer or floating dtype. Absent: 1 for each.
    sample_weight : array that broadcasts to (*rows), optional
        A constant weight for each row, of any integer or floating dtype. A row of weight 0 is
        absent.
    where : array of bool that broadcasts to (*rows), optional
        False makes a row absent: it contributes exactly nothing, whatever stands in it, NaN
        included.
    ignore_index : int or None, default -100
        The label of absent rows; None: no label is special. With soft targets it is unused, and
        an error if it is 0 or more.

    Returns
    -------
    Array
        0-d; float64 where the device has it, else float32.

    Raises
    ------
    TypeError
        An argument of the wrong type, dtype or library. The message names it.
    ValueError
        An argument of the wrong shape, value or device. The message names it.
    IndexError
        A label outside [0, classes) that is not ``ignore_index``, in a concrete host array. Without
        ``weight`` the number of classes is not known, and only negative labels are bad.

    See Also
    --------
    cross_entropy : takes the count of a whole batch as its ``normalizer``.

    References
    ----------
    The weighted mean of :func:`cross_entropy`.

    Examples
    --------
    >>> import numpy as np
    >>> from xloss import effective_count
    >>> float(effective_count(np.array([3, -100, 1])))
    2.0
    """
    # Of all ranks' rows: a rank's own count would be no denominator of the whole's loss.
    targets, weight, sample_weight, where = map(gathered, (targets, weight, sample_weight, where))
    xp = check.taken("targets", targets, "an array of class indices or of probabilities")
    for name, w in (("weight", weight), ("sample_weight", sample_weight)):
        if w is not None:
            check.taken(name, w, "a floating array")
    check.integer("axis", axis)
    indexed = is_integer(targets.dtype)
    if not indexed:
        t, cx = check.logits("targets", targets)
        at, classes = check.class_axis("targets", t, axis)
        t = check.move_last(t, at, cx)
        rows = tuple(t.shape[:-1])
    else:
        t = np.asarray(targets) if isinstance(targets, np.generic) else targets
        cx, at = context(t, xp), -1
        rows = tuple(t.shape)
        if weight is not None and getattr(weight, "ndim", None) != 1:
            raise ValueError("weight: expected one axis, the classes")
        classes = 2**31 - 1 if weight is None else weight.shape[0]
        if is_empty(classes):
            raise ValueError("weight: expected at least one class, got shape (0,)")
    for w in (weight, sample_weight):
        if w is not None and dtype_name(w.dtype) == "float64":
            cx = cx._replace(compute_dtype=cx.sum_dtype)
    options = Options(
        "cross_entropy",
        indexed=indexed,
        ignore_index=check.ignored(ignore_index, indexed),
        engine=asked_for(),
    )
    o = Operands(
        t,
        t,
        check.class_weight(weight, classes, cx, "targets"),
        check.row_array("sample_weight", sample_weight, rows, cx, "targets"),
        check.row_array("where", where, rows, cx, "targets"),
    )
    call = LossCall("effective_count", options, cx, o, classes, at, None, ("targets", "targets"))
    if indexed and cx.library == "dask":
        call = call._replace(operands=o._replace(x=t[..., None]))  # rows, and a class axis
    elif indexed and (cx.on_host or cx.library not in ("jax", "tensorflow")):
        cx = cx._replace(values_readable=check.validate("auto", t, cx)[1])
        with cx.quiet():
            made = prepare(o, options, cx, classes)
        if cx.values_readable and made.label_invalid is not None:
            shaped = Operands(
                xp.broadcast_to(t[..., None], (*rows, 1)), t, None, o.sample_weight, o.where
            )
            check_values(shaped, options, cx, classes)
        count: Array = cx.plain(total_weight(made, math.prod(rows), cx))
        return count
    count = cx.plain(backends.of(call).weight(call))
    return count
