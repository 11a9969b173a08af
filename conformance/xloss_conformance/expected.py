"""What must come of a case: the oracle's rows, laid out as the arguments are, as pairs of floats.

The answers to the catalogue stand in ``expected.npz``, which only saves time: they are found by a
hash of the arguments as stored and of the oracle's source, and computed where there is none.

    python -m xloss_conformance.expected     # rebuilds the file

Source: ``oracle.py`` on mpmath; the file names version, digits and date.
"""

from __future__ import annotations

import hashlib
import io
import json
import sys
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from . import packed, top_k
from .model import BINARY, Array, Case, Exact, Expected, Missing, Stored
from .oracle_rows import rows_of
from .packed import LINEAR, TOKENS
from .rounding import stored
from .top_k import TOP_K

FILE = Path(__file__).with_name("expected.npz")
HERE = Path(__file__).parent


@cache
def answer(case: Case, dtype: str) -> Expected:
    """Return what must come of a case, from the file or from the oracle."""
    arguments = stored(case, dtype)
    return _filed().get(key(case, arguments)) or compute(case, arguments)


def key(case: Case, arguments: Stored) -> str:
    """Return the hash of everything that the answer depends on."""
    digest = hashlib.sha256(_source())
    if case.loss in TOKENS:
        digest.update(packed.source())
    if case.loss == TOP_K:
        digest.update(top_k.source())
    digest.update(f"{case.loss} {case.tile} {case.to_targets}".encode())
    options = {k: v for k, v in arguments.options.items() if k != "validate"}
    given = {"x": arguments.x, "t": arguments.targets, "u": arguments.upstream, **options}
    for name in sorted(given):
        value = given[name]
        if isinstance(value, np.ndarray):
            shape = value.shape
            # A tile is told by its shape and its first copy: converted whole, it would fill memory.
            tiled = case.tile > 1 and value.ndim and not value.strides[0]
            value = value[:1] if tiled else value
            value = value if value.dtype.kind in "iub" else np.asarray(value, np.float64)
            value = value.astype(np.int64) if value.dtype.kind == "i" else value
            digest.update(f"{name} {shape} {value.dtype}".encode())
            digest.update(np.ascontiguousarray(value).tobytes())
        else:
            digest.update(f"{name} {value!r}".encode())
    return digest.hexdigest()[:24]


@cache
def _source() -> bytes:
    return (HERE / "oracle.py").read_bytes()


def compute(case: Case, arguments: Stored) -> Expected:
    """Ask the oracle."""
    try:
        from . import oracle
    except ModuleNotFoundError as error:
        raise Missing(
            f"{case.name} in {arguments.dtype}: {FILE.name} has no answer to it, and to compute "
            f'one takes {error.name}: pip install "xloss[conformance]"'
        ) from error

    if case.loss in TOKENS:
        return _with_fields(case, arguments)
    joined = arguments if case.loss == LINEAR else None
    if joined is not None:
        case, arguments = packed.logits_case(case, arguments, packed.exact_logits(arguments))
    axis, normalizer = case.axis, arguments.options.get("normalizer")
    reduction = arguments.options.get("reduction", "none" if case.loss == "entropy" else "mean")
    binary = case.loss in BINARY
    shape, x, rows_x, rows_t, s, keep, options, pos_weight = rows_of(case, arguments)
    count = len(keep)

    known: dict[Any, Any] = {}
    rows: list[Any] = [None] * count
    for i in np.flatnonzero(keep):
        own = {} if pos_weight is None else {"pos_weight": float(pos_weight[i])}
        t = None if rows_t[i] is None else np.asarray(rows_t[i])
        token = (_token(rows_x[i]), None if t is None else t.tobytes(), s[i], *own.values())
        if token not in known:
            known[token] = _row(case.loss, rows_x[i], t, float(s[i]), {**options, **own})
        rows[i] = known[token]

    each = reduction == "none"
    divisor = None if normalizer is None else float(normalizer)
    total = oracle.reduce(rows, reduction="sum" if each else reduction, normalizer=divisor)
    upstream = np.asarray(arguments.upstream, np.float64)
    scale = np.broadcast_to(upstream, shape if each else ()).ravel()
    scales = [oracle.mp.mpf(float(v)) for v in scale] * (1 if each else count)

    def gradient(parts: Sequence[Any], like: Any, shape: tuple[int, ...]) -> Exact:
        done: dict[Any, Any] = {}
        hi, lo = np.zeros(like.shape), np.zeros(like.shape)
        for i, part in enumerate(parts):
            if part is not None:
                token = (id(rows[i]), scales[i])
                if token not in done:
                    row = part if isinstance(part, list) else [part]
                    done[token] = exact([v * scales[i] for v in row])
                hi[i], lo[i] = done[token]
        back = [v.reshape(shape) for v in (hi, lo)]
        return Exact(*(back if binary else (np.moveaxis(v, -1, axis) for v in back)))

    losses = [total.value * (case.tile if reduction == "sum" else 1)]
    if each:
        losses = [oracle.ZERO if row is None else row.loss for row in rows]
    value = Exact(*(v.reshape(shape if each else ()) for v in exact(losses)))
    to_targets = None
    if case.to_targets:
        # Of top-k targets there is another number of slots than of classes.
        like = np.asarray(arguments.targets) if case.loss == TOP_K else x
        rows_like = rows_t if case.loss == TOP_K else rows_x
        to_targets = gradient(total.grads_targets, rows_like, like.shape)
    if joined is not None:
        pairs = zip(total.grads, scales, strict=True)
        parts = [None if part is None else [v * up for v in part] for part, up in pairs]
        chained = [exact(row) for row in packed.chain(joined, parts)]
        grad = Exact(*(np.stack([row[i] for row in chained]) for i in range(2)))
        rest = np.zeros(len(joined.x) - count, bool)
        return Expected(value, grad, to_targets, np.concatenate([~keep, rest]))
    return Expected(value, gradient(total.grads, rows_x, x.shape), to_targets, ~keep.reshape(shape))


def _with_fields(case: Case, arguments: Stored) -> Expected:
    """Return the answer of the row losses, and in the place of each loss every field of its row."""
    from .token_oracle import token_row

    asked, given = packed.loss_alone(case, arguments)
    losses = compute(asked, given)
    if asked.loss == LINEAR:
        asked, given = packed.logits_case(asked, given, packed.exact_logits(arguments))
    of = rows_of(asked, given)
    fields = packed.fields_of(case)
    nothing = [0] * (len(packed.FIELDS) - 1) + [of.rows.shape[-1]]
    found = []
    for x, t, s, keep in zip(of.rows, of.targets, of.sample_weight, of.keep, strict=True):
        row = nothing
        if keep:
            row = token_row(x.tolist(), _target(t), sample_weight=float(s), **of.options)
        found += row[: len(fields)]
    shape = (*losses.value.hi.shape, len(fields))
    return losses._replace(value=Exact(*(v.reshape(shape) for v in exact(found))))


def _target(t: Array) -> Any:
    """Return a row's target as the oracle takes it."""
    return int(t) if t.dtype.kind in "iu" else t.astype(np.float64).tolist()


def _token(row: Array) -> Any:
    return tuple(row.tolist()) if row.dtype == object else row.tobytes()


def _row(loss: str, x: Array, t: Array | None, s: float, options: dict[str, Any]) -> Any:
    from . import oracle

    if t is None:
        return oracle.entropy_row(x.tolist())
    if loss in BINARY:
        bad = t.dtype.kind in "iu" and int(t) not in (0, 1)
        target = float("nan") if bad else float(t)
        return oracle.binary_row(loss, float(x[0]), target, sample_weight=s, **options)
    if loss == "kl_div":
        return oracle.kl_row(x.tolist(), t.astype(np.float64).tolist(), sample_weight=s, **options)
    if loss == TOP_K:
        return top_k.row(x.tolist(), t, sample_weight=s, **options)
    return oracle.softmax_row(loss, x.tolist(), _target(t), sample_weight=s, **options)


def exact(values: Sequence[Any]) -> Exact:
    hi = np.array([float(v) for v in values])
    lo = [float(v - h) if np.isfinite(h) else 0.0 for v, h in zip(values, hi.tolist(), strict=True)]
    return Exact(hi, np.array(lo))


# The file: every answer's arrays, the gradient to targets last, flat and one after another, and
# their shapes.


@cache
def _filed() -> dict[str, Expected]:
    if not FILE.exists():
        return {}
    with np.load(FILE) as file:
        numbers, meta = file["numbers"], json.loads(file["index"].tobytes())
    if meta["oracle"] != hashlib.sha256(_source()).hexdigest():
        return {}
    sizes = [int(np.prod(shape)) for shapes in meta["answers"].values() for shape in shapes]
    flat = iter(np.split(numbers, np.cumsum(sizes)))
    return {
        k: _answer(*(next(flat).reshape(shape) for shape in shapes))
        for k, shapes in meta["answers"].items()
    }


def _answer(
    value: Array, lo: Array, grad: Array, grad_lo: Array, gone: Array, *t: Array
) -> Expected:
    by_targets = Exact(*t) if t else None
    return Expected(Exact(value, lo), Exact(grad, grad_lo), by_targets, gone.astype(bool))


def write(cases: Iterator[Case] | Sequence[Case]) -> int:
    """Compute every answer anew and write the file; return how many there are."""
    import mpmath

    from . import oracle

    answers: dict[str, list[Array]] = {}
    for case in cases:
        for dtype in case.dtypes if case.error is None else ():
            arguments = stored(case, dtype)
            token = key(case, arguments)
            if token not in answers:
                made = compute(case, arguments)
                answers[token] = [*made.value, *made.grad, made.absent, *(made.grad_targets or ())]
    meta = {
        "made by": "python -m xloss_conformance.expected",
        "oracle": hashlib.sha256(_source()).hexdigest(),
        "mpmath": mpmath.__version__,
        "digits": str(oracle.mp.dps),
        "date": datetime.now(UTC).date().isoformat(),
        "answers": {k: [v.shape for v in arrays] for k, arrays in answers.items()},
    }
    index = np.frombuffer(json.dumps(meta).encode(), np.uint8)
    buffer = io.BytesIO()
    flat = [np.asarray(v, np.float64).ravel() for arrays in answers.values() for v in arrays]
    np.savez_compressed(buffer, numbers=np.concatenate(flat), index=index)
    FILE.write_bytes(buffer.getvalue())
    return len(answers)


if __name__ == "__main__":
    from .cases import catalogue

    count = write([case for case in catalogue() if not case.on_demand])
    print(f"{FILE.name}: {count} answers, {FILE.stat().st_size:,} bytes", file=sys.stderr)
