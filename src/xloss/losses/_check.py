"""Checks of arguments, before any arithmetic.

Each error names the argument and says what it was and what was expected.
"""

from __future__ import annotations

from math import inf
from numbers import Real
from typing import Any

import numpy as np

from .._arrays import host_data as host_data
from .._arrays.context import Context, context
from .._arrays.foreign import described as described
from .._arrays.foreign import foreign
from .._arrays.inspect import (
    FLOATS,
    INTEGERS,
    Array,
    Namespace,
    compiling,
    device,
    dtype_name,
    is_symbol,
    is_tracer,
    library,
    namespace,
    readable,
    spread,
)
from ..engines.memory_checks import check_storage
from ._hints import fixed_hint
from ._lengths import is_empty, is_length, is_negative, same_length, same_shape

REDUCTIONS = ("mean", "sum", "none")


def taken(name: str, x: Any, expected: str) -> Namespace:
    """Return the namespace of an array; for anything else raise, saying what to pass instead."""
    xp = namespace(x)
    if xp is np:
        return xp
    odd = foreign(name, x, xp)
    if odd is not None:
        raise TypeError(f"{name}: expected {expected}, got {odd.what}; pass {odd.instead}")
    return xp


def logits(name: str, x: Any) -> tuple[Array, Context]:
    """Check the first argument, which decides library, device and dtype of the call."""
    xp = taken(name, x, "a dense array of an Array API library")
    if isinstance(x, np.generic):
        x = np.asarray(x)
    elif library(xp) == "tensorflow":
        x = xp.ranked(name, x)
    if dtype_name(x.dtype) not in FLOATS:
        raise TypeError(
            f"{name}: expected a real floating dtype ({', '.join(FLOATS)}), got {described(x)}"
        )
    cx = context(x, xp)
    if cx.on_host:
        check_storage(name, x, cx)
    return x, cx


def same_home(name: str, x: Any, cx: Context, first: str, expected: str) -> Array:
    """Check that an argument is an array of the logits' library and on their device."""
    xp = cx.xp
    if xp is np and type(x) is np.ndarray:
        return x
    found = taken(name, x, expected)
    if found is not xp:
        raise TypeError(
            f"{name}: expected an array of {cx.library} as {first} is, got one of {library(found)}"
        )
    if isinstance(x, np.generic):
        return np.asarray(x)
    if cx.library == "tensorflow":
        return xp.ranked(name, x)  # TensorFlow moves it to the operation's device itself
    there = device(x)
    if cx.library != "jax" and there is not None and there != cx.device:
        raise ValueError(f"{name}: on device {there}, but {first} is on {cx.device}")
    if cx.on_host:
        check_storage(name, x, cx)
    return x


def beside(name: str, x: Any, cx: Context, first: str, expected: str) -> Array:
    """Check labels or weights, which may be NumPy arrays whatever the library of the logits."""
    if cx.xp is np or not host_data.is_host(x):
        return same_home(name, x, cx, first, expected)
    if not compiling() and not host_data.movable(x):
        raise TypeError(f"{name}: expected {expected}, got {described(x)}")
    return host_data.moved(x, cx)


def integer(name: str, value: Any) -> int:
    """Check a whole number."""
    if isinstance(value, bool) or not isinstance(value, (int, np.integer)):
        raise TypeError(f"{name}: expected an int, got {described(value)}")
    return int(value)


def class_axis(name: str, x: Array, axis: Any, *, empty: bool = False) -> tuple[int, int]:
    """Return the class axis counted from the end, and the number of classes, which may be 0."""
    if isinstance(axis, bool) or not isinstance(axis, (int, np.integer)):
        raise TypeError(
            f"axis: expected an int, got {described(axis)}" + fixed_hint("axis", axis, "int")
        )
    n = x.ndim
    if n == 0:
        raise ValueError(f"{name}: expected at least one axis, got shape ()")
    if not -n <= axis < n:
        raise ValueError(f"axis: expected -{n} <= axis < {n} for {name} of {n} axes, got {axis}")
    axis = int(axis) - n if axis >= 0 else int(axis)
    classes = x.shape[axis]
    if classes != classes or classes is None:
        raise ValueError(f"{name}: the class axis must have a known length")
    if not empty and is_empty(classes):
        raise ValueError(f"{name}: expected at least one class, got shape {tuple(x.shape)}")
    return axis, classes


def move_last(x: Array, axis: int, cx: Context) -> Array:
    """Move the class axis to the end, as a view where the library has views."""
    if axis == -1:
        return x
    n = x.ndim
    order = [i for i in range(n) if i != n + axis]
    return cx.xp.permute_dims(x, (*order, n + axis))


def class_targets(x: Array, targets: Any, axis: int, cx: Context, first: str) -> tuple[Array, bool]:
    """Check class indices or probabilities against the logits' shape."""
    expected = "an integer array of class indices or a floating array of probabilities"
    if cx.library == "tensorflow":
        targets = cx.xp.shaped(targets, x.shape, axis)
    t = beside("targets", targets, cx, first, expected)
    name = dtype_name(t.dtype)
    if name in INTEGERS:
        n = x.ndim
        rows = tuple(s for i, s in enumerate(x.shape) if i != n + axis)
        if not same_shape(tuple(t.shape), rows):
            raise ValueError(
                f"targets: class indices must have the shape of {first} without the class axis, "
                f"{rows}; got {tuple(t.shape)}" + _axis_hint(x, t, axis)
            )
        return t, True
    if name not in FLOATS:
        raise TypeError(f"targets: expected {expected}, got {described(targets)}")
    if not same_shape(tuple(t.shape), tuple(x.shape)):
        raise ValueError(
            f"targets: probabilities must have the shape of {first}, {tuple(x.shape)}; "
            f"got {tuple(t.shape)}; class indices must have an integer dtype"
        )
    return t, False


def element_targets(
    x: Array, targets: Any, cx: Context, first: str, *, binary: bool
) -> tuple[Array, bool]:
    """Check targets of the logits' shape; binary losses also take bool and integers."""
    expected = f"a floating array of the shape of {first}" + (", or bool, or 0 and 1" * binary)
    if cx.library == "tensorflow":
        targets = cx.xp.shaped(targets, x.shape)
    t = beside("targets", targets, cx, first, expected)
    name = dtype_name(t.dtype)
    indexed = binary and (name in INTEGERS or name in ("bool", "bool_"))
    if name not in FLOATS and not indexed:
        raise TypeError(f"targets: expected {expected}, got {described(targets)}")
    if not same_shape(tuple(t.shape), tuple(x.shape)):
        raise ValueError(
            f"targets: must have the shape of {first}, {tuple(x.shape)}; got {tuple(t.shape)}"
        )
    return t, indexed


def _axis_hint(x: Array, t: Array, axis: int) -> str:
    shape = tuple(x.shape)
    fits = [i for i in range(len(shape)) if shape[:i] + shape[i + 1 :] == tuple(t.shape)]
    if fits:
        return f"; did you mean axis={fits[0]}?"
    if len(t.shape) == len(shape) and t.shape[axis] == 1:
        return "; drop the targets' axis of length 1"
    return ""


def class_weight(w: Any, classes: int, cx: Context, first: str, name: str = "weight") -> Any:
    """Check a weight for each class."""
    if w is None:
        return None
    w = _number_array(name, w, cx, first, "a floating array of shape (classes,)")
    if not same_shape(tuple(w.shape), (classes,)):
        raise ValueError(f"{name}: expected shape ({classes},), got {tuple(w.shape)}")
    return w


def _number_array(name: str, w: Any, cx: Context, first: str, expected: str) -> Array:
    w = beside(name, w, cx, first, expected)
    if dtype_name(w.dtype) not in FLOATS and dtype_name(w.dtype) not in INTEGERS:
        raise TypeError(f"{name}: expected {expected}, got {described(w)}")
    if cx.library == "torch" and w.requires_grad:
        raise ValueError(f"{name}: is a constant of the loss, but requires_grad is True")
    return w


def row_array(name: str, w: Any, rows: tuple[Any, ...], cx: Context, first: str) -> Any:
    """Check and broadcast an array with one number or bool a row; it must not enlarge the rows."""
    if w is None:
        return None
    if name == "where":
        w = beside(name, w, cx, first, "a bool array")
        if dtype_name(w.dtype) not in ("bool", "bool_"):
            raise TypeError(f"where: expected a bool array, got {described(w)}")
    else:
        w = _number_array(name, w, cx, first, "a floating array that broadcasts to the rows")
    shape = tuple(w.shape)
    if not compiling() and shape == rows:
        return w
    tail = rows[len(rows) - len(shape) :] if len(shape) <= len(rows) else None
    fits = tail is not None and all(
        is_length(m, 1) or same_length(m, n) for m, n in zip(shape, tail, strict=True)
    )
    if not fits:
        raise ValueError(f"{name}: shape {shape} does not broadcast to the row shape {rows}")
    if cx.library == "dask" and any(n != n for n in (*rows, *shape)):
        return w  # Dask may not know the lengths: its backend compares and broadcasts the chunks
    return cx.xp.broadcast_to(w, rows)


def number(name: str, value: Any, low: float, high: float = inf, *, above: bool = False) -> float:
    """Check a Python number in [low, high] (above: low itself excluded), finite."""
    if compiling():
        from ..backends.torch import sizes as torch_sizes

        value = torch_sizes.constant(value)
    if type(value) is float:  # the usual case: asking the abstract class Real is slow
        got = value
    elif isinstance(value, bool) or not isinstance(value, Real):
        raise TypeError(
            f"{name}: expected a number, got {described(value)}" + fixed_hint(name, value)
        )
    else:
        got = float(value)
    if not low <= got <= high or got == inf or (above and got == low):
        opening = "(" if above else "["
        closing = "inf)" if high == inf else f"{high:g}]"
        raise ValueError(f"{name}: expected a number in {opening}{low:g}, {closing}, got {value!r}")
    return got


def ignored(index: Any, indexed: bool) -> int | None:
    """Check the label that marks absent rows."""
    if index is None:
        return None
    if isinstance(index, bool) or not isinstance(index, (int, np.integer)):
        raise TypeError(
            f"ignore_index: expected an int or None, got {described(index)}"
            + fixed_hint("ignore_index", index, "int")
        )
    if not indexed and index >= 0:
        raise ValueError(
            f"ignore_index: {index} has no meaning with probabilities as targets; "
            "use where= or sample_weight= to leave rows out"
        )
    return int(index) if indexed else None


def reduction(value: Any, normalizer: Any, cx: Context, first: str) -> tuple[str, Any]:
    """Check `reduction`, and `normalizer`, which replaces the denominator of a mean."""
    if not isinstance(value, str) or value not in REDUCTIONS:
        raise ValueError(f"reduction: expected one of {REDUCTIONS}, got {value!r}")
    if normalizer is None:
        return value, None
    if value != "mean":
        raise ValueError(f'normalizer: needs reduction="mean", got reduction={value!r}')
    known = isinstance(normalizer, Real) and not isinstance(normalizer, (bool, np.generic))
    if is_symbol(normalizer) or (known and compiling() and not is_negative(normalizer)):
        # An array: a number would make a graph of its own for each of its values.
        return value, cx.xp.full((), normalizer, dtype=cx.sum_dtype, device=cx.device)
    if known:
        return value, number("normalizer", normalizer, 0.0)
    n = _number_array("normalizer", normalizer, cx, first, "a number or a 0-d array")
    if tuple(n.shape) != ():
        raise ValueError(f"normalizer: expected a number or a 0-d array, got {described(n)}")
    return value, cx.xp.astype(n, cx.sum_dtype)


def validate_option(value: Any) -> None:
    """Check the value of `validate`."""
    if not (isinstance(value, bool) or (isinstance(value, str) and value == "auto")):
        raise ValueError(f'validate: expected "auto", True or False, got {value!r}')


def validate(value: Any, targets: Array, cx: Context, *, on_host: bool = False) -> tuple[Any, bool]:
    """Check `validate`, and tell whether the values of targets may be read.

    `on_host`: they came as NumPy arrays, and will be checked as such.
    """
    validate_option(value)
    if value is False or targets is None:
        return value, False
    if value is True and not on_host:
        if is_tracer(targets, cx.library) and (compiling() or not spread(targets)):
            raise ValueError("validate: True would read values that tracing does not have")
        return value, cx.library != "dask"  # on Dask each chunk is read when it is computed
    return value, readable(targets, cx.xp)
