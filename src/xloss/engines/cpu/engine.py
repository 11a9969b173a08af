"""The engine compiled for the host by Numba: cross-entropy in one pass, on threads of our own.

The kernels take addresses, so that NumPy arrays and torch tensors are read and written in place,
whatever their strides, and so that one compilation serves all.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache
from importlib.util import find_spec
from math import fsum, prod
from time import perf_counter
from types import SimpleNamespace
from typing import Any

import numpy as np

from ..._arrays.context import Context, context, read
from ..._arrays.inspect import Array, dtype_name, has_memory
from ..._arrays.ops import cast
from ...core.options import UNIT_COTANGENT, Cotangent, Operands, Options, Outcome, Outputs
from ...core.row_blocks import block_slices
from ...core.targets import prepare
from .. import fork_safety, generic, memory_checks
from ..row_layout import Place, element, place, readable_labels
from . import thread_pool

name = "cpu"

# Classes: up to here several rows to a vector are faster than several classes. Beyond, rows whose
# classes lie apart are copied to C order piece by piece: the bits depend on no layout.
COLUMN_KERNEL_MAX_CLASSES = 96
save_stats_from = COLUMN_KERNEL_MAX_CLASSES + 1  # below, a gradient costs less anew
THREAD_CHUNK = 2**20  # elements handed to a thread at once
PIECES = 8  # so many at least, where none has fewer than SINGLE_THREAD_MAX elements
COPIED = 2**18  # elements, where a piece of many classes is copied
ROWS = 2**14  # rows: labels and weights that need it are copied piece by piece
SINGLE_THREAD_MAX = 2**16  # elements: below, waking another thread costs more than it saves


def unavailable() -> str | None:
    """Say why no call can be taken on this machine, or None."""
    found = _load()
    return found if isinstance(found, str) else None


@cache
def _load() -> Any:
    """Import Numba and the kernels; return them, or the reason why there are none."""
    with fork_safety.importing:
        if find_spec("numba") is None:
            return 'Numba is not installed: pip install "xloss[fast]"'
        try:
            from .kernels.bits import LIKE
            from .kernels.columns import columns
            from .kernels.rows import rows
        except Exception as error:  # Numba refuses NumPys newer than itself, among others
            return f"Numba cannot be imported: {error}"
        return SimpleNamespace(like=LIKE, rows=rows, columns=columns)


def refuses(o: Operands, options: Options, cx: Context) -> str | None:
    """Say why this call cannot be taken, or None; never by its size."""
    if options.kind != "cross_entropy":
        return f"only cross_entropy is compiled, not {options.kind}"
    if cx.library not in ("numpy", "torch") or not cx.on_host:
        return f"it reads arrays of NumPy and of torch in host memory, not of {cx.library}"
    if not cx.inplace_ok:
        return "the call is traced or differentiated by plain operations"
    if cx.library == "torch" and not all(a is None or has_memory(a) for a in o):
        return "a tensor's memory does not hold its values"
    return unavailable()


def reduces(o: Operands, options: Options) -> bool:
    """Leave the sum and the mean to whoever asked for the rows."""
    return False


REQUIRED: Any = ("C", "ALIGNED")


def run(
    o: Operands,
    options: Options,
    cx: Context,
    classes: int,
    outputs: Outputs,
    cotangent: Cotangent = UNIT_COTANGENT,
    saved: tuple[Array, ...] | None = None,
) -> Outcome:
    """Compute what is needed of a whole call; the class axis of every array is the last."""
    memory_checks.check_gradient(
        cotangent, saved, memory_checks.check_operands(o, options, cx, classes), cx
    )
    rest = Outputs(grad_targets=outputs.grad_targets, weight=outputs.weight and not outputs.total)
    others = generic.run(o, options, cx, classes, rest, cotangent) if any(rest) else Outcome()
    outputs = outputs._replace(grad_targets=False, weight=outputs.weight and outputs.total)
    if not any(outputs):
        return others
    if 0 in o.x.shape:
        made = generic.run(o, options, cx, classes, outputs, cotangent, saved)
    else:
        made = _Call(o, options, cx, classes, outputs, cotangent, saved).result()
    return made._replace(
        grad_targets=others.grad_targets, weight=others.weight if rest.weight else made.weight
    )


class _Call:
    """One call: its arrays as NumPy sees them, cut into pieces that threads take in turn."""

    def __init__(
        self,
        o: Operands,
        options: Options,
        cx: Context,
        classes: int,
        outputs: Outputs,
        cotangent: Cotangent,
        saved: tuple[Array, ...] | None,
    ) -> None:
        self.x, self.options, self.cx, self.classes, self.outputs = (
            o.x,
            options,
            cx,
            classes,
            outputs,
        )
        self.rows = tuple(o.x.shape[:-1])
        self.count = prod(self.rows)
        kernels = _load()
        self.like = kernels.like[dtype_name(o.x.dtype)]
        self.acc = np.dtype(dtype_name(cx.compute_dtype))
        self.np = (
            cx
            if cx.library == "numpy"
            else read(context(np.empty(0, self.acc), np), cx.labels_verified)
        )
        self.soft = None if options.indexed else o.targets
        weight = None if o.class_weight is None else self.numbers(o.class_weight)
        self.class_weight = weight
        # Soft targets are read by the kernel; what a row weighs but for them is found beside it.
        self.operands = Operands(
            None,
            self.host(o.targets) if options.indexed else None,
            weight if options.indexed else None,
            self.host(o.sample_weight),
            self.host(o.where),
        )
        bare = cx.labels_verified and weight is o.sample_weight is o.where is None
        # Where labels begin that need nothing done to them.
        self.labels = readable_labels(self.operands.targets) if bare else 0
        self.cotangent, self.ups = 1.0, None
        if isinstance(cotangent.row_loss, float) or cotangent.row_loss.ndim == 0:
            self.cotangent = float(cotangent.row_loss)
        else:
            self.ups = self.flat(cotangent.row_loss, np.float64)
        self.dead = cotangent.any_row_counts is not None and not bool(cotangent.any_row_counts)
        self.place_arrays(outputs, saved)
        self.kernel = kernels.rows if self.by_rows else kernels.columns

    def place_arrays(self, outputs: Outputs, saved: tuple[Array, ...] | None) -> None:
        """Find where the logits lie, and make room for what is wanted."""
        self.at = place(self.x)
        self.by_rows = self.classes > COLUMN_KERNEL_MAX_CLASSES
        if self.by_rows and self.at is not None and self.at.class_step != 1:
            self.at = None
        self.losses = np.empty(self.count, self.acc) if outputs.rows else None
        self.maxima = self.rests = self.grad = None
        self.to = Place(0, 1, 0, 0, 1)
        self.known = saved is not None and self.options.indexed and not self.options.label_smoothing
        if saved is not None and self.known:
            self.maxima, self.rests = self.flat(saved[0], self.acc), self.flat(saved[1], np.float64)
        elif outputs.stats:
            self.maxima, self.rests = np.empty(self.count, self.acc), np.empty(self.count)
        if outputs.grad:
            xp, x = self.cx.xp, self.x
            numpy = self.cx.library == "numpy"
            dtype = x.dtype.newbyteorder("=") if numpy else x.dtype
            # As the logits lie; a subclass such as a memory map is not imitated.
            if numpy:
                self.grad = np.empty_like(x, dtype, subok=False)
            elif x.is_contiguous():
                # NumPy asks for large pages: filling PyTorch's fresh memory takes twice as long.
                bits = np.empty(tuple(x.shape), f"i{x.element_size()}")
                self.grad = xp.from_numpy(bits).view(dtype)
            else:
                self.grad = xp.empty_like(x)
            to = place(self.grad)
            if to is None or (self.by_rows and to.class_step != 1):
                self.grad = xp.empty(x.shape, dtype=dtype, device=self.cx.device)
                to = place(self.grad)
            assert to is not None
            self.to = to

    def host(self, a: Array | None) -> Any:
        """Return a NumPy array on the same memory; bfloat16 has none there and is copied wider."""
        if a is None or isinstance(a, np.ndarray | np.generic):
            return None if a is None else np.asarray(a)
        a = a.detach()  # force: an upstream may be a negated view, or autograd's zeros
        return (a.float() if dtype_name(a.dtype) == "bfloat16" else a).numpy(force=True)

    def flat(self, a: Array, dtype: Any) -> Any:
        """Return one number a row of the whole call."""
        return np.require(self.host(a), dtype, REQUIRED).reshape(-1)

    def numbers(self, a: Array) -> Any:
        """Return an array in C order and in the arithmetic's dtype."""
        return np.require(self.host(a), self.acc, REQUIRED)

    def budget(self) -> int:
        """Return the most rows of a piece.

        Of shapes alone where the columns kernel adds up a block of losses: its bits depend on where
        a block begins. The rows kernel adds them exactly enough, wherever a piece ends.
        """
        most = COPIED if self.at is None and self.by_rows else THREAD_CHUNK
        elements = min(most, max(SINGLE_THREAD_MAX, self.count * self.classes // PIECES))
        return max(1, min(int(elements // self.classes), ROWS))

    def result(self) -> Outcome:
        """Compute all pieces."""
        budget = self.budget()
        if self.count <= budget:
            totals = np.zeros((1, 4))
            self.step((slice(None),) * len(self.rows), 0, self.count, totals)
            return self.made(totals)
        pieces = list(block_slices(self.rows, self.classes, self.np, budget))
        firsts = [0]
        for piece in pieces:
            lengths = (len(range(*s.indices(n))) for s, n in zip(piece, self.rows, strict=True))
            firsts.append(firsts[-1] + prod(lengths))
        totals = np.zeros((len(pieces), 4))

        def step(i: int) -> None:
            self.step(pieces[i], firsts[i], firsts[i + 1] - firsts[i], totals[i])

        if self.count * self.classes < SINGLE_THREAD_MAX:
            for i in range(len(pieces)):
                step(i)
        else:
            thread_pool.run(step, len(pieces))
        return self.made(totals)

    def step(self, piece: tuple[slice, ...], first: int, count: int, totals: Any) -> None:
        """Compute one piece: `count` rows, of which `first` is the first."""
        classes = self.classes
        held: list[Any] = []
        targets: tuple[int, ...] = (0, 0, self.labels + 8 * first, 0, 0, 0, 0)
        if not self.labels:
            targets, held = self.targets(piece, count)
        at = self.at
        if at is None:
            if self.cx.library == "torch":
                x = self.x.detach()[piece].contiguous()
                x = x.clone() if place(x) is None else x  # its memory is not aligned
            else:
                x = np.require(self.x[piece], self.x.dtype.newbyteorder("="), REQUIRED)
            held.append(x)
            at = place(x)
            assert at is not None
            at = Place(at.address - first * classes * self.like.itemsize, 2**60, 0, classes, 1)
        options = self.options
        self.kernel(
            self.like,
            first,
            count,
            classes,
            *at,
            *targets,
            element(self.ups, first),
            self.cotangent,
            self.dead,
            options.label_smoothing,
            options.z_loss,
            options.softcap or 0.0,
            self.known,
            element(self.losses, first),
            element(totals, 0) if self.outputs.total else 0,
            element(self.maxima, first),
            element(self.rests, first),
            *self.to,
        )

    def targets(self, piece: tuple[slice, ...], count: int) -> tuple[tuple[int, ...], list[Any]]:
        """Make a piece's targets safe; return where they begin, and what must live meanwhile."""
        whole = count == self.count
        o = self.operands
        if not whole:

            def part(a: Any) -> Any:
                return None if a is None else a[piece].reshape(-1)

            o = Operands(
                None, part(o.targets), o.class_weight, part(o.sample_weight), part(o.where)
            )
        soft = None
        with np.errstate(all="ignore"):
            t = prepare(o, self.options, self.np, self.classes)
            if self.soft is not None:
                soft = self.numbers(self.soft if whole else self.soft[piece])
        held: list[Any] = [t, soft]

        def address(a: Any, dtype: Any) -> int:
            """Return where an array begins that the kernel reads as it lies; 0 for None."""
            if a is None:
                return 0
            # Of one row, NumPy makes scalars, whose memory is a copy that nothing holds.
            fits = isinstance(a, np.ndarray) and a.dtype == dtype
            if not (fits and a.flags.c_contiguous and a.flags.aligned):
                a = np.require(a, dtype, REQUIRED)
                held.append(a)
            return int(a.__array_interface__["data"][0])

        places = (
            address(soft, self.acc),
            address(self.class_weight, self.acc),
            address(t.labels, np.int64),
            address(t.row_present, np.bool_),
            address(t.label_invalid, np.bool_),
            address(t.sample_weight, np.float64),
            address(t.label_weight, np.float64),
        )
        return places, held

    def made(self, totals: Any) -> Outcome:
        """Return what was asked for as arrays of the input's library."""
        cx, outputs = self.cx, self.outputs

        def shaped(a: Any) -> Any:
            return None if a is None else home(a.reshape(self.rows))

        def home(a: Any) -> Any:
            return a if cx.library == "numpy" else cx.xp.from_numpy(np.asarray(a))

        stats = (
            (shaped(self.maxima), shaped(self.rests)) if outputs.stats and not self.known else None
        )
        return Outcome(
            rows=shaped(self.losses),
            total=home(_sum(totals[:, :2])) if outputs.total else None,
            weight=home(_sum(totals[:, 2:])) if outputs.weight else None,
            grad=None if self.grad is None else cast(cx, self.grad, self.x.dtype),
            stats=stats,
        )


def _sum(parts: Any) -> Any:
    """Sum exactly; infinities and NaN as they come."""
    try:
        return np.float64(fsum(parts.ravel().tolist()))
    except (OverflowError, ValueError):
        return np.sum(parts)


def warm() -> Iterator[tuple[str, float]]:
    """Compile every kernel, or find it on disk; yield its name and the seconds that took."""
    kernels = _load()
    if isinstance(kernels, str):
        return
    for dtype, like in kernels.like.items():
        for kernel in (kernels.rows, kernels.columns):
            start = perf_counter()
            none = Place(0, 1, 0, 0, 1)
            kernel(
                like,
                0,
                0,
                1,
                *none,
                0,
                0,
                0,
                0,
                0,
                0,
                0,
                0,
                1.0,
                False,
                0.0,
                0.0,
                0.0,
                False,
                0,
                0,
                0,
                0,
                *none,
            )
            yield f"{kernel.__name__} {dtype}", perf_counter() - start
