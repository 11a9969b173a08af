"""One call beside the several that it replaces: `token_stats`, and targets of few classes."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import numpy as np
from numpy.testing import assert_allclose

import xloss
from xloss_conformance.timing import Call, in_turns, spread

from .processes import Found

SHAPES = ((65536, 10), (4096, 1000), (512, 32000), (128, 128256))
TINY = ((64, 10), (16, 100))
LISTED = 32  # classes of a row that a list of targets holds
STATS, LISTS = "token_stats", "TopKTargets"


# What is compared, on whose arrays, and both calls: the first is in place of the second.
Row = tuple[str, str, Callable[[], Any], Callable[[], Any]]


def compared(threads: int, tiny: bool) -> Iterator[Found]:
    """Time both calls of every row, in turns, if they return the same."""
    rng = np.random.default_rng(0)
    for shape in TINY if tiny else SHAPES:
        z = 3 * rng.standard_normal(shape, np.float32)
        y = rng.integers(0, shape[1], shape[0])
        for what, library, one, several in rows(rng, z, y):
            name = f"{what} on {library}, {shape}"
            for mine, theirs in zip(one(), several(), strict=True):
                # Both answer the same question; how exactly is the conformance suite's to say.
                assert_allclose(mine, theirs, rtol=1e-4, atol=1e-5, err_msg=name)
            calls = {"one": Call(one), "several": Call(several)}
            taken = in_turns(calls, seconds=0.01 if tiny else 1.0)
            about = {"what": what, "library": library, "shape": list(shape)}
            times = {which: spread(of) for which, of in taken.items()}
            yield "rows", {"name": name, **about, **times}


def rows(rng: np.random.Generator, z: Any, y: Any) -> Iterator[Row]:
    """Give what is compared on logits of one shape, on NumPy and on PyTorch."""
    yield STATS, "numpy", partial(_stats, z, y), partial(_many, z, y)
    yield _lists(rng, z)
    import torch

    tensors = torch.from_numpy(z), torch.from_numpy(y)
    yield STATS, "torch", partial(_stats, *tensors), partial(_many_torch, *tensors)


def _stats(z: Any, y: Any) -> tuple[Any, ...]:
    found = xloss.token_stats(z, y)
    return found.loss, found.lse, found.entropy, found.max_prob, found.correct


def _many(z: Any, y: Any) -> tuple[Any, ...]:
    loss, top = xloss.cross_entropy(z, y, reduction="none"), np.asarray(xloss.softmax(z)).max(-1)
    return loss, xloss.logsumexp(z), xloss.entropy(z), top, z.argmax(-1) == y


def _many_torch(z: Any, y: Any) -> tuple[Any, ...]:
    import torch

    loss = torch.nn.functional.cross_entropy(z, y, reduction="none")
    log_probs = torch.log_softmax(z, -1)
    probs = log_probs.exp()
    entropy = -(probs * log_probs).sum(-1)
    return loss, torch.logsumexp(z, -1), entropy, probs.amax(-1), z.argmax(-1) == y


def _lists(rng: np.random.Generator, z: Any) -> Row:
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

    return LISTS, "numpy", lambda: step(z, xloss.TopKTargets(indices, probs)), written
