"""What any implementation must do: read the logits once, or multiply a linear layer's matrices."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from importlib.util import find_spec
from typing import Any, NamedTuple

import numpy as np

from xloss_conformance.timing import Call, spread

from .work import Data, Work

BLOCK = 1024  # rows of logits that the matrix products hold at once, on the host


class Bound(NamedTuple):
    """What every implementation must do, as a call, and the bytes that its time counts for."""

    call: Call
    moves: int
    share: float = 1.0  # of its time, which counts

    def told(self, name: str, times: Sequence[float]) -> dict[str, Any]:
        """Return it as the record has it."""
        taken = spread([seconds * self.share for seconds in times])
        return {"by": name, **taken, "gb_s": self.moves / taken["median_ms"] / 1e6}


def on_host(work: Work, given: Data, threads: int) -> dict[str, Bound]:
    """Return calls that read the logits once; of a linear layer its products, by blocks."""
    has_torch = find_spec("torch") is not None
    if work.features:
        products = f"torch.matmul, {BLOCK} rows at a time"
        return {products: Bound(_products(work, given), work.nbytes)} if has_torch else {}
    values = np.ones(max(threads, work.nbytes // 4), np.float32)
    parts = np.array_split(values, threads)
    pool = ThreadPoolExecutor(threads)
    read = {f"numpy.max, {threads} threads": Call(lambda: max(map(float, pool.map(np.max, parts))))}
    if has_torch:
        import torch

        tensor = torch.from_numpy(values)
        read[f"torch.sum, {threads} threads"] = Call(lambda: torch.sum(tensor))
    return {name: Bound(call, work.nbytes) for name, call in read.items()}


def _products(work: Work, given: Data) -> Call:
    """Return the products that the linear loss and its gradients stand on, BLOCK rows a time."""
    import torch

    x, weight = torch.as_tensor(given.x), torch.as_tensor(given.weight)
    logits = torch.empty((min(BLOCK, len(x)), len(weight)), dtype=x.dtype)

    def run() -> Any:
        to_x, to_weight = torch.empty_like(x), torch.zeros_like(weight)
        for at in range(0, len(x), BLOCK):
            part = x[at : at + BLOCK]
            z = torch.matmul(part, weight.T, out=logits[: len(part)])
            if work.gradient:
                torch.matmul(z, weight, out=to_x[at : at + BLOCK])
                to_weight.addmm_(z.T, part)
        return to_x, to_weight

    return Call(run)


def of_copy(work: Work, copy: Callable[[], Any]) -> dict[str, Bound]:
    """Return a copy of the logits, on a GPU; its time counts for the bytes that the loss moves."""
    share = work.moved / (2 * work.nbytes)
    return {"at the speed of a copy": Bound(Call(copy), work.moved, share)}


def of_products(work: Work, given: Data) -> dict[str, Bound]:
    """Return the three products alone, of all rows at once, in the dtype of PyTorch's tensors."""
    import torch

    x, _, weight = given
    logits = x.new_empty(work.shape)
    outs = torch.empty_like(x), torch.empty_like(weight)

    def products() -> None:
        torch.mm(x, weight.T, out=logits)
        torch.mm(logits, weight, out=outs[0])
        torch.mm(logits.T, x, out=outs[1])

    return {"the three products alone": Bound(Call(products), work.moved)}
