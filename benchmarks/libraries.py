"""What a library does for its contenders: arrays, by the suite's adapters, calls, times and bounds.

On the host one clock is read for all; on a GPU, or where that is rehearsed, a library's own. The
bounds are what any implementation must do: read the logits once, or multiply matrices.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache, partial
from importlib.util import find_spec
from typing import Any, NamedTuple

import numpy as np

from xloss_conformance import timing
from xloss_conformance.bench import Missing
from xloss_conformance.libraries import array_library
from xloss_conformance.timing import Call, spread

from .clocks import Queue, events
from .work import Data, Work, drawn, laid_out

HOST, GPU, REHEARSAL = "host", "cuda", "cpu"  # where a run is
HOST_RUNS = 100  # calls in a row, so few that no queue of launches fills
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


def _reading(work: Work, given: Data, threads: int) -> dict[str, Bound]:
    """Return calls that read the logits once; of a linear layer its products, by blocks."""
    has_torch = find_spec("torch") is not None
    if work.features:
        products = f"torch.matmul, {BLOCK} rows at a time"
        return {products: Bound(_products(work, given, BLOCK), work.nbytes)} if has_torch else {}
    values = np.ones(max(threads, work.nbytes // 4), np.float32)
    parts = np.array_split(values, threads)
    pool = ThreadPoolExecutor(threads)
    read = {f"numpy.max, {threads} threads": Call(lambda: max(map(float, pool.map(np.max, parts))))}
    if has_torch:
        import torch

        tensor = torch.from_numpy(values)
        read[f"torch.sum, {threads} threads"] = Call(lambda: torch.sum(tensor))
    return {name: Bound(call, work.nbytes) for name, call in read.items()}


def _products(work: Work, given: Data, block: int) -> Call:
    """Return the products that the linear loss and its gradients stand on, `block` rows a time."""
    import torch

    x, weight = torch.as_tensor(given.x), torch.as_tensor(given.weight)
    logits = x.new_empty((min(block, len(x)), len(weight)))

    def run() -> Any:
        to_x, to_weight = torch.empty_like(x), torch.empty_like(weight)
        for at in range(0, len(x), block):
            part = x[at : at + block]
            z = torch.matmul(part, weight.T, out=logits[: len(part)])
            if work.gradient:
                torch.matmul(z, weight, out=to_x[at : at + block])
                to_weight.addmm_(z.T, part, beta=min(at, 1))
        return to_x, to_weight

    return Call(run)


def _copy(work: Work, copy: Callable[[], Any]) -> dict[str, Bound]:
    """Return a copy of the logits, on a GPU; its time counts for the bytes that the loss moves."""
    share = work.moved / (2 * work.nbytes)
    return {"at the speed of a copy": Bound(Call(copy), work.moved, share)}


# ---- Libraries -----------------------------------------------------------------------------------


class Library:
    """NumPy; others differ in what they override."""

    name = "numpy"
    call: Callable[..., Call] = staticmethod(timing.on_numpy)

    def __init__(self, device: str = HOST, threads: int = 1) -> None:
        self.device, self.threads, self.on_gpu = device, threads, device == GPU
        self.adapter = array_library(GPU if self.on_gpu and self.name == "torch" else self.name)
        self.module: Any = self.adapter.module

    def given(self, work: Work) -> Data:
        """Return the arguments of a call."""
        some = drawn(work) if self.on_gpu else _on_host(work.data)
        made = Data(*(a if a is None else self.adapter.array(a) for a in some))
        # Where rows are repeated on the GPU, few bytes go through the bus.
        return laid_out(work, made) if self.on_gpu else made

    def clock(self, launches: bool = False) -> Any:
        """Return the clock; with `launches` one of what a call costs the host."""
        if launches:
            wait = self.wait
            runs = HOST_RUNS if self.on_gpu else 5
            return Queue(settle=lambda got: wait(), short=1e9, runs=runs, quiet=True)
        return timing.HostClock() if self.device == HOST else self.queue()

    def queue(self) -> Queue:
        return Queue()

    def bounds(self, work: Work, given: Data) -> dict[str, Bound]:
        """Return what any implementation must do: read the logits, or multiply matrices."""
        if self.device == HOST:
            return _reading(work, given, self.threads)
        if work.features:
            products = _products(work, given, len(given.x))
            return {"the three products alone": Bound(products, work.moved)}
        return self.copies(work, given)

    def copies(self, work: Work, given: Data) -> dict[str, Bound]:
        """Return a copy of the logits on a GPU."""
        return {}

    def wait(self) -> None:
        """Wait for what is queued up."""

    def fresh(self) -> None:
        """Forget what was compiled for another work, and hand unused memory back."""
        if self.device != HOST:
            self.adapter.forget()

    def peak(self, call: Call) -> int | None:
        """Return the most bytes that a call holds beyond those before it, where they are told."""
        return None


@lru_cache(1)
def _on_host(work: Work) -> Data:
    return laid_out(work, drawn(work))


class Torch(Library):
    """PyTorch, on the host or its current GPU."""

    name = "torch"
    call = staticmethod(timing.on_torch)

    def __init__(self, device: str = HOST, threads: int = 1) -> None:
        super().__init__(device, threads)
        if device == HOST:
            self.module.set_num_threads(threads)

    def given(self, work: Work) -> Data:
        return self._linear(work) if self.on_gpu and work.features else super().given(work)

    def _linear(self, work: Work) -> Data:
        """Draw a linear layer on the GPU, which takes the host many seconds."""
        torch, (rows, classes) = self.module, work.shape
        rng = torch.Generator(GPU).manual_seed(0)

        def normal(count: int, scale: float) -> Any:
            made = torch.randn((count, work.features), generator=rng, device=GPU) * scale
            return made.to(getattr(torch, work.dtype))

        x, weight = normal(rows, 1.0), normal(classes, 3 * work.features**-0.5)
        return Data(x, torch.randint(classes, (rows,), generator=rng, device=GPU), weight)

    def queue(self) -> Queue:
        """Return a clock of the GPU's events; a rehearsal has none, and reads the host's."""
        if not self.on_gpu:
            return super().queue()
        marks = [self.module.cuda.Event(enable_timing=True) for _ in range(2)]
        return events(marks, lambda start, end: start.elapsed_time(end))

    def copies(self, work: Work, given: Data) -> dict[str, Bound]:
        to = self.module.empty_like(given.x)
        return _copy(work, lambda: to.copy_(given.x))

    def wait(self) -> None:
        if self.on_gpu:
            self.module.cuda.synchronize()

    def fresh(self) -> None:
        self.module.compiler.reset()  # beyond some shapes it would run eagerly
        if self.on_gpu:
            self.module.cuda.empty_cache()

    def peak(self, call: Call) -> int | None:
        if not self.on_gpu:
            return None
        cuda = self.module.cuda
        call.before()
        cuda.synchronize()
        before = cuda.memory_allocated()
        cuda.reset_peak_memory_stats()
        call.run()
        cuda.synchronize()
        most = cuda.max_memory_allocated()
        call.before()
        return int(most - before)


class Cupy(Library):
    """CuPy's current GPU."""

    name = "cupy"

    def queue(self) -> Queue:
        marks = [self.module.cuda.Event() for _ in range(2)]
        return events(marks, self.module.cuda.get_elapsed_time)

    def copies(self, work: Work, given: Data) -> dict[str, Bound]:
        to = self.module.empty_like(given.x)
        return _copy(work, lambda: self.module.copyto(to, given.x))

    def wait(self) -> None:
        self.module.cuda.get_current_stream().synchronize()

    def fresh(self) -> None:
        self.module.get_default_memory_pool().free_all_blocks()


class Jax(Library):
    """JAX, on the host or its first GPU; it has no events and no copy that is not compiled away."""

    name = "jax"

    def __init__(self, device: str = HOST, threads: int = 1) -> None:
        os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")  # else it takes 3/4 of it
        super().__init__(device, threads)
        self.call = partial(timing.on_jax, waits=device == HOST)
        if self.on_gpu and self.module.default_backend() != "gpu":
            raise Missing("jax: JAX finds no GPU: a machine with one, and jax's CUDA plugin")

    def queue(self) -> Queue:
        """Return the host's clock around calls that are queued up, and waited for in the end."""
        wait = self.module.block_until_ready
        # Each that is queued up holds a gradient of its own.
        return Queue(settle=wait, finish=wait, runs=8)


class Tensorflow(Library):
    """TensorFlow on the host."""

    name = "tensorflow"
    call = staticmethod(timing.on_tensorflow)


LIBRARIES = {kind.name: kind for kind in (Library, Torch, Cupy, Jax, Tensorflow)}
