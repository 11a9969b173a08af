"""What runs on one set of aligned chunks when Dask computes a graph."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ..._arrays.context import context
from ..._arrays.inspect import FLOATS, INTEGERS, Array, namespace
from ...core import class_slices
from ...core.family import evaluate
from ...core.options import Cotangent, Operands, Options, Outcome, Outputs
from ...core.targets import prepare
from ...core.value_checks import axis_back, check_values
from ...engines import choose
from ...engines import class_slices as by_chunk
from ...engines.memory_checks import BOOLS, NUMBERS, fits

Chunks = dict[str, Any]


def step(
    *chunks: Any,
    step: Any,
    names: Any,
    options: Options,
    classes: int,
    acc: str,
    first: str,
    cuts: Any = None,
    axis: int = -1,
) -> Array:
    """Run one step on one aligned set of chunks; `first` is what the user calls x.

    `cuts`: the chunks of all rows, where values are to be checked; `axis`: where the classes were.
    """
    got = dict(zip(names, chunks, strict=True))
    compare(got, options, classes, first)
    if cuts is not None and "x" in got and "targets" in got:
        check_values(
            operands(got),
            options,
            context(got["x"], namespace(got["x"]))._replace(values_readable=True),
            classes,
            class_weight_name(first),
            _positions(got, cuts, axis),
        )
    made: Array = step(got, options, classes, acc)
    return made


def class_weight_name(first: str) -> str:
    """Return what the user calls the class weight."""
    return "class_weight" if first == "features" else "weight"


def compare(got: Chunks, options: Options, classes: int, first: str) -> None:
    """Check chunks against each other: they know their lengths, which Dask may not.

    NumPy would broadcast a chunk of one row, and a compiled engine read beyond it.
    """
    lead = next(name for name in ("x", "packed", "targets") if name in got)
    a = got[lead]
    names = {"x": first, "class_weight": class_weight_name(first), "up": "cotangent"}
    xp = namespace(a)
    if xp is None:
        came = type(a).__name__
        raise TypeError(f"{names.get(lead, lead)}: in a chunk, expected an array, got {came}")
    cx, shape = context(a, xp), tuple(a.shape)
    soft = bool(classes) and not options.indexed
    rows = shape[:-1] if classes and (lead != "targets" or soft) else shape
    if "ids" in got:  # how many classes Dask takes the chunk to have
        shape = (*rows, len(got["ids"]))
    labels = INTEGERS if classes else (*INTEGERS, *BOOLS)
    expected: dict[str, tuple[tuple[int, ...], Any]] = {
        "x": (shape, FLOATS),
        "targets": (shape if soft else rows, labels if options.indexed else FLOATS),
        "class_weight": ((classes,), NUMBERS),
        "sample_weight": (rows, NUMBERS),
        "where": (rows, BOOLS),
        "pos_weight": (rows, NUMBERS),
    }
    for name, (fitting, kinds) in expected.items():
        if name in got:
            fits(names.get(name, name), got[name], fitting, kinds, cx, "in a chunk, ")
    if "up" in got:
        fits("cotangent", got["up"], rows if got["up"].ndim else (), NUMBERS, cx, "in a chunk, ")


def _positions(got: Chunks, cuts: Any, axis: int) -> Callable[[tuple[int, ...]], str]:
    """Return what names a position in the chunk by that in the array, or by the chunk."""
    block = got["block"]
    starts = [sum(lengths[:i]) for lengths, i in zip(cuts, block, strict=True)]
    if "ids" in got:
        starts.append(_start(got))

    in_order = axis_back(axis, got["x"].ndim)

    def named(at: tuple[int, ...]) -> str:
        before = starts[: len(at)]
        if any(n != n for n in before):
            return f"{in_order(at)} of chunk {tuple(block)}"
        return in_order(tuple(int(n) + i for n, i in zip(before, at, strict=True)))

    return named


def operands(got: Chunks, like: Array | None = None) -> Operands:
    """Return the operands that there are chunks of."""
    names = ("targets", "class_weight", "sample_weight", "where", "pos_weight")
    return Operands(got.get("x", like), *(got.get(name) for name in names))


def _start(got: Chunks) -> int:
    return int(got["ids"][0])


def stats(got: Chunks, options: Options, classes: int, acc: str) -> Array:
    """Return the statistics of a part of the classes."""
    return by_chunk.chunk_stats(operands(got), options, classes, _start(got))[..., None, :]


def merge(parts: Array, options: Options, acc: str) -> Array:
    """Merge the statistics of all parts of the classes."""
    xp = namespace(parts)
    like = xp.empty((0,), dtype=acc)
    each = [parts[..., i, :] for i in range(parts.shape[-2])]
    return class_slices.merged(each, options, like)


def seconds(got: Chunks, options: Options, classes: int, acc: str) -> Array:
    """Return a part's share of the sums that need the whole row's statistics."""
    sums = class_slices.second_sums(operands(got), got["packed"], options, classes, _start(got))
    return sums[..., None, :]  # type: ignore[index]


def rows(got: Chunks, options: Options, classes: int, acc: str) -> Array:
    """Return row losses and row weights from merged statistics."""
    packed = got["packed"]
    xp = namespace(packed)
    like = xp.empty((0,), dtype=acc)
    both = class_slices.rows(operands(got, packed), packed, got.get("sums"), options, classes, like)
    return xp.stack(list(both), axis=-1)


def equal(predicted: Array, target: Array) -> Array:
    """Compare classes; a target that is none, or is ignored, is never predicted."""
    cx = context(predicted, namespace(predicted))
    fits("targets", target, tuple(predicted.shape), INTEGERS, cx, "in a chunk, ")
    return predicted == target


def weights(got: Chunks, options: Options, classes: int, acc: str) -> Array:
    """Return row weights from labels alone."""
    labels = got["targets"]
    xp = namespace(labels)
    cx = context(xp.empty((0,), dtype=acc), xp)
    weight = prepare(operands(got, labels), options, cx, classes).row_weight
    return xp.ones(labels.shape) if weight is None else weight


def row_shares(got: Chunks, options: Options, classes: int, acc: str) -> Array:
    """Return row losses and row weights of chunks that need no merging."""
    o = operands(got)
    made = _evaluate(o, options, classes, Outputs(rows=True), Cotangent())
    xp = namespace(o.x)
    cx = context(o.x, xp)
    t = prepare(o, options, cx, classes)
    losses = xp.astype(made.rows, cx.sum_dtype)
    both = xp.stack(
        [losses, xp.ones_like(losses) if t.row_weight is None else t.row_weight], axis=-1
    )
    return both[..., None, :] if classes else both


def _evaluate(
    o: Operands, options: Options, classes: int, outputs: Outputs, cotangent: Cotangent
) -> Outcome:
    cx = context(o.x, namespace(o.x))
    if options.kind == "cross_entropy":  # whole rows; of the others a chunk may be part of a row
        return choose(o, options, cx).run(o, options, cx, classes, outputs, cotangent)
    return evaluate(o, options, cx, classes, outputs, cotangent)


def _gradient(got: Chunks, options: Options, classes: int, want: str) -> Array:
    o = operands(got)
    cotangent = Cotangent(got.get("up", 1.0), got.get("share"), got.get("live"))
    if "packed" in got:
        sums = got.get("sums")
        return by_chunk.chunk_gradients(
            o, got["packed"], sums, cotangent, options, classes, _start(got), want
        )
    outputs = Outputs(grad=want == "x", grad_targets=want == "targets")
    made = _evaluate(o, options, classes, outputs, cotangent)
    return made.grad if want == "x" else made.grad_targets


def gradient_x(got: Chunks, options: Options, classes: int, acc: str) -> Array:
    """Return the gradient to x."""
    return _gradient(got, options, classes, "x")


def gradient_targets(got: Chunks, options: Options, classes: int, acc: str) -> Array:
    """Return the gradient to soft targets."""
    return _gradient(got, options, classes, "targets")


def elements(got: Chunks, options: Options, classes: int, acc: str) -> Array:
    """Return softmax or its logarithm."""
    return class_slices.elements(operands(got), got["packed"], options)
