"""One call beside the several that it replaces: `token_stats`, and targets of few classes."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any, NamedTuple

import numpy as np

import xloss
from xloss_conformance.bench import head, load_average
from xloss_conformance.report.record import plain
from xloss_conformance.timing import Call, in_turns, spread

Record = dict[str, Any]
SHAPES = ((65536, 10), (4096, 1000), (512, 32000), (128, 128256))
TINY = ((64, 10), (16, 100))
LISTED = 32  # classes of a row that a list of targets holds
NAME = "performance-calls"
STATS, LISTS = "token_stats", "TopKTargets"


class WrongAnswer(Exception):
    """The calls of one row do not return the same."""


class Row(NamedTuple):
    """The calls of one row of the page: the first is in place of the second."""

    what: str
    library: str
    shape: tuple[int, int]
    one: Callable[[], Any]
    several: Callable[[], Any]


def rows(shapes: tuple[tuple[int, int], ...]) -> Iterator[Row]:
    """Yield what is compared, of every shape on NumPy and on PyTorch."""
    rng = np.random.default_rng(0)
    for shape in shapes:
        z = 3 * rng.standard_normal(shape, np.float32)
        y = rng.integers(0, shape[1], shape[0])
        yield Row(STATS, "numpy", shape, partial(_stats, z, y), partial(_many, z, y))
        yield from _lists(rng, z)
        yield from _on_torch(z, y)


def _stats(z: Any, y: Any) -> tuple[Any, ...]:
    found = xloss.token_stats(z, y)
    return found.loss, found.lse, found.entropy, found.max_prob, found.correct


def _many(z: Any, y: Any) -> tuple[Any, ...]:
    loss, top = xloss.cross_entropy(z, y, reduction="none"), np.asarray(xloss.softmax(z)).max(-1)
    return loss, xloss.logsumexp(z), xloss.entropy(z), top, z.argmax(-1) == y


def _on_torch(z: Any, y: Any) -> Iterator[Row]:
    try:
        import torch
    except ModuleNotFoundError:
        return
    a, b = torch.from_numpy(z), torch.from_numpy(y)

    def many() -> tuple[Any, ...]:
        loss = torch.nn.functional.cross_entropy(a, b, reduction="none")
        log_probs = torch.log_softmax(a, -1)
        probs = log_probs.exp()
        entropy = -(probs * log_probs).sum(-1)
        return loss, torch.logsumexp(a, -1), entropy, probs.amax(-1), a.argmax(-1) == b

    yield Row(STATS, "torch", z.shape, partial(_stats, a, b), many)


def _lists(rng: np.random.Generator, z: Any) -> Iterator[Row]:
    n, classes = z.shape
    listed = min(LISTED, classes)
    indices = np.argsort(rng.random((n, classes), np.float32), axis=-1)[:, :listed].copy()
    probs = rng.random((n, listed), np.float32)
    probs /= probs.sum(-1, keepdims=True)
    step = xloss.value_and_grad(xloss.cross_entropy)

    def written() -> Any:
        dense = np.zeros((n, classes), np.float32)
        np.put_along_axis(dense, indices, probs, -1)
        return step(z, dense)

    yield Row(LISTS, "numpy", z.shape, lambda: step(z, xloss.TopKTargets(indices, probs)), written)


def measure(keep: Callable[[Record], None], tiny: bool = False) -> Record:
    """Return the record of a run: the machine, and every row; `keep` is given it after each."""
    made: Record = {**head(), "rows": []}
    before = made["load"][0]
    for row in rows(TINY if tiny else SHAPES):
        for mine, theirs in zip(row.one(), row.several(), strict=True):
            pair = np.asarray(mine), np.asarray(theirs)
            # Both answer the same question; how exactly is the conformance suite's to say.
            if not np.allclose(*pair, rtol=1e-4, atol=1e-5):
                raise WrongAnswer(f"{row.what} on {row.library}, {row.shape}: not the same answers")
        calls = {"one": Call(row.one), "several": Call(row.several)}
        taken = in_turns(calls, seconds=0.01 if tiny else 1.0)
        times = {name: spread(t) for name, t in taken.items()}
        about = {"what": row.what, "library": row.library, "shape": list(row.shape)}
        made["rows"].append({**about, **times})
        made["load"] = [before, load_average()]
        keep(plain(made))
        print(" ".join(cells(made["rows"][-1])), flush=True)
    return made


def cells(row: Record) -> list[str]:
    """Return a row of the page's table."""
    one, several = row["one"]["median_ms"], row["several"]["median_ms"]
    shape = "({}, {})".format(*row["shape"])
    ratio = f"{several / one:.2f}×"
    return [row["what"], row["library"], shape, f"{one:.3g}", f"{several:.3g}", ratio]


def page(kept: Record) -> str:
    """Return the page of a record."""
    from .figures import table
    from .pages import WORDS

    machine, versions = kept["machine"], kept["versions"]
    named = ", ".join(f"{name} {versions[name]}" for name in ("numpy", "torch") if name in versions)
    heads = ["call", "library", "float32 shape", "ms", "the calls it replaces, ms", "ratio"]
    parts = [f"# {WORDS['titles'][NAME]}", WORDS["how"][NAME]]
    parts.append(
        f"{kept['date']}, {machine['processor']}, {kept['threads']} cores, {named}; load "
        f"average {kept['load'][0]} before and {kept['load'][-1]} after."
    )
    return "\n\n".join([*parts, table(heads, map(cells, kept["rows"]))]) + "\n"
