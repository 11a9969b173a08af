"""The steps of a graph: what runs on one set of aligned chunks when Dask computes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ..._arrays.context import context
from ..._arrays.inspect import FLOATS, INTEGERS, Array, namespace
from ...core import class_slices
from ...core.call import LossCall
from ...core.family import evaluate
from ...core.options import Cotangent, Operands, Options, Outcome, Outputs
from ...core.targets import prepare
from ...core.value_checks import axis_back, check_values
from ...engines import choose
from ...engines import class_slices as by_chunk
from ...engines.memory_checks import BOOLS, NUMBERS, fits

Chunks = dict[str, Any]  # one chunk of each array, by name


def step(
    *chunks: Any,
    step: Any,
    names: Any,
    options: Options,
    classes: int,
    compute_dtype: str,
    first: str,
    row_chunks: Any = None,
    axis: int = -1,
) -> Array:
    """Run one step on one set of aligned chunks.

    `names` are the chunks' names in order; `first` is what the user calls x. Where values are to
    be checked, `row_chunks` are the lengths of all chunks of rows; `axis` is where the user has the
    class axis.
    """
    got = dict(zip(names, chunks, strict=True))
    compare(got, options, classes, first)
    if row_chunks is not None and "x" in got and "targets" in got:
        check_values(
            operands(got),
            options,
            context(got["x"], namespace(got["x"]))._replace(values_readable=True),
            classes,
            class_weight_name(first),
            _positions(got, row_chunks, axis),
        )
    result: Array = step(got, options, classes, compute_dtype)
    return result


def class_weight_name(first: str) -> str:
    """Return what the user calls the class weight."""
    return "class_weight" if first == "features" else "weight"


def compare(got: Chunks, options: Options, classes: int, first: str) -> None:
    """Check chunks against each other: their lengths are known now, as Dask's may not have been.

    NumPy would broadcast a chunk of one row, and a compiled engine read beyond its end.
    """
    lead = next(name for name in ("x", "packed", "targets") if name in got)
    a = got[lead]
    names = {"x": first, "class_weight": class_weight_name(first)}
    xp = namespace(a)
    if xp is None:
        came = type(a).__name__
        raise TypeError(f"{names.get(lead, lead)}: in a chunk, expected an array, got {came}")
    cx, shape = context(a, xp), tuple(a.shape)
    soft = bool(classes) and not options.indexed
    rows = shape[:-1] if classes and (lead != "targets" or soft) else shape
    if "class_ids" in got:  # how many classes Dask takes the chunk to have
        shape = (*rows, len(got["class_ids"]))
    labels = INTEGERS if classes else (*INTEGERS, *BOOLS)
    of_targets = shape if soft else rows
    if "indices" in got:
        of_targets = (*rows, got["indices"].shape[-1])
    expected: dict[str, tuple[tuple[int, ...], Any]] = {
        "x": (shape, FLOATS),
        "indices": (of_targets, INTEGERS),
        "targets": (of_targets, labels if options.indexed else FLOATS),
        "class_weight": ((classes,), NUMBERS),
        "sample_weight": (rows, NUMBERS),
        "where": (rows, BOOLS),
        "pos_weight": (rows, NUMBERS),
    }
    for name, (fitting, kinds) in expected.items():
        if name in got:
            fits(names.get(name, name), got[name], fitting, kinds, cx, "in a chunk, ")
    if "row_loss" in got:
        cotangent = got["row_loss"]
        fits("cotangent", cotangent, rows if cotangent.ndim else (), NUMBERS, cx, "in a chunk, ")


def _positions(got: Chunks, row_chunks: Any, axis: int) -> Callable[[tuple[int, ...]], str]:
    """Return what describes a position in the chunk by the one in the user's array.

    Where chunks before it have unknown lengths the position is described within its chunk.
    """
    block = got["block"]
    starts = [sum(lengths[:i]) for lengths, i in zip(row_chunks, block, strict=True)]
    if "class_ids" in got:
        starts.append(_start(got))

    in_order = axis_back(axis, got["x"].ndim)

    def described(at: tuple[int, ...]) -> str:
        before = starts[: len(at)]
        if any(n != n for n in before):
            return f"{in_order(at)} of chunk {tuple(block)}"
        return in_order(tuple(int(n) + i for n, i in zip(before, at, strict=True)))

    return described


def operands(got: Chunks, like: Array | None = None) -> Operands:
    """Return the operands among the chunks; `like` stands for x where a step has no logits."""
    names = ("targets", "class_weight", "sample_weight", "where", "pos_weight", "indices")
    return Operands(got.get("x", like), *(got.get(name) for name in names))


def _start(got: Chunks) -> int:
    """Return the first class of a chunk."""
    return int(got["class_ids"][0])


# Each step takes chunks, options, the number of classes of whole rows, and the name of the dtype of
# the arithmetic. A chunk of logits may be a class slice: a part of the class axis.


def stats(got: Chunks, options: Options, classes: int, compute_dtype: str) -> Array:
    """Return the statistics of a class slice, (*rows, 1, statistics)."""
    return by_chunk.chunk_stats(operands(got), options, classes, _start(got))[..., None, :]


def merge(slices: Array, options: Options, compute_dtype: str) -> Array:
    """Merge the statistics of all class slices; slices: (*rows, slices, statistics)."""
    xp = namespace(slices)
    like = xp.empty((0,), dtype=compute_dtype)
    each = [slices[..., i, :] for i in range(slices.shape[-2])]
    return class_slices.merged(each, options, like)


def second_sums(got: Chunks, options: Options, classes: int, compute_dtype: str) -> Array:
    """Return a class slice's share of the sums that need the whole row's statistics."""
    sums = class_slices.second_sums(operands(got), got["packed"], options, classes, _start(got))
    return sums[..., None, :]  # type: ignore[index]  # built only for options that have them


def rows(got: Chunks, options: Options, classes: int, compute_dtype: str) -> Array:
    """Return row losses and row weights from merged statistics, (*rows, 2)."""
    packed = got["packed"]
    xp = namespace(packed)
    like = xp.empty((0,), dtype=compute_dtype)
    both = class_slices.rows(
        operands(got, packed), packed, got.get("second_sums"), options, classes, like
    )
    return xp.stack(list(both), axis=-1)


def equal(predicted: Array, target: Array) -> Array:
    """Compare classes; a target that is out of range or ignored equals no prediction."""
    cx = context(predicted, namespace(predicted))
    fits("targets", target, tuple(predicted.shape), INTEGERS, cx, "in a chunk, ")
    return predicted == target


def weights(got: Chunks, options: Options, classes: int, compute_dtype: str) -> Array:
    """Return row weights from labels, without logits."""
    labels = got["targets"]
    xp = namespace(labels)
    cx = context(xp.empty((0,), dtype=compute_dtype), xp)
    weight = prepare(operands(got, labels), options, cx, classes).row_weight
    return xp.ones(labels.shape) if weight is None else weight


def row_shares(got: Chunks, options: Options, classes: int, compute_dtype: str) -> Array:
    """Return row losses and row weights of chunks whose statistics need no merging.

    (*rows, 2), or (*rows, 1, 2) where there is a class axis: the shares of class slices are summed.
    """
    o = operands(got)
    outcome = _evaluate(o, options, classes, Outputs(rows=True), Cotangent())
    xp = namespace(o.x)
    cx = context(o.x, xp)
    t = prepare(o, options, cx, classes)
    losses = xp.astype(outcome.rows, cx.sum_dtype)
    row_weight = xp.ones_like(losses) if t.row_weight is None else t.row_weight
    both = xp.stack([losses, row_weight], axis=-1)
    return both[..., None, :] if classes else both


def tokens(
    got: Chunks, options: Options, classes: int, compute_dtype: str, asked: Outputs
) -> Array:
    """Return losses of whole rows and the numbers beside them, (*rows, numbers) in float64."""
    o = operands(got)
    outcome = _evaluate(o, options, classes, asked, Cotangent())
    xp = namespace(o.x)
    wide = context(o.x, xp).sum_dtype
    made = (outcome.rows, *(a for a in outcome.tokens or () if a is not None))
    return xp.stack([xp.astype(a, wide) for a in made], axis=-1)


def _evaluate(
    o: Operands, options: Options, classes: int, outputs: Outputs, cotangent: Cotangent
) -> Outcome:
    cx = context(o.x, namespace(o.x))
    if options.kind == "cross_entropy":  # whole rows; other kinds may come in class slices
        call = LossCall("", options, cx, o, classes)
        return choose(call).run(call, outputs, cotangent)
    return evaluate(o, options, cx, classes, outputs, cotangent)


def gradient(got: Chunks, options: Options, classes: int, compute_dtype: str, want: str) -> Array:
    """Return the gradient to "x", or to soft "targets"."""
    o = operands(got)
    cotangent = Cotangent(
        got.get("row_loss", 1.0), got.get("row_weight"), got.get("any_row_counts")
    )
    if "packed" in got:
        sums = got.get("second_sums")
        return by_chunk.chunk_gradients(
            o, got["packed"], sums, cotangent, options, classes, _start(got), want
        )
    outputs = Outputs(grad=want == "x", grad_targets=want == "targets")
    outcome = _evaluate(o, options, classes, outputs, cotangent)
    return outcome.grad if want == "x" else outcome.grad_targets


def elements(got: Chunks, options: Options, classes: int, compute_dtype: str) -> Array:
    """Return softmax or its logarithm."""
    return class_slices.elements(operands(got), got["packed"], options)
