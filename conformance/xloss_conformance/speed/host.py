"""Time and memory on the host, beside peers: python -m xloss_conformance.speed.host.

Every figure is a median of runs that take turns with the peer's, in one process. Peers: SciPy's
log_softmax with a gather, and PyTorch's eager cross_entropy.
"""

from __future__ import annotations

import os
import platform
import statistics
import subprocess
import sys
import time
import tracemalloc
from collections.abc import Callable
from typing import Any

import numpy as np

import xloss

SHAPES = [(65536, 10), (8192, 1000), (2048, 32000), (512, 128256)]
Calls = dict[str, Callable[[], Any]]


def in_turns(calls: Calls, rounds: int) -> dict[str, float]:
    """Return each call's median milliseconds; they take turns, so that all meet the same noise."""
    times: dict[str, list[float]] = {name: [] for name in calls}
    for name in calls:
        calls[name]()
    for _ in range(rounds):
        for name, call in calls.items():
            start = time.perf_counter()
            call()
            times[name].append((time.perf_counter() - start) * 1e3)
    return {name: statistics.median(taken) for name, taken in times.items()}


def peak(call: Callable[[], Any]) -> int:
    """Return the most bytes NumPy held beyond the inputs."""
    tracemalloc.start()
    before = tracemalloc.get_traced_memory()[0]
    tracemalloc.reset_peak()
    call()
    most = tracemalloc.get_traced_memory()[1] - before
    tracemalloc.stop()
    return most


def large(shape: tuple[int, int], rounds: int) -> tuple[dict[str, float], float, float]:
    """Time one shape; return milliseconds and peak memory in shares of the logits."""
    import torch
    from scipy.special import log_softmax

    rng = np.random.default_rng(0)
    z = rng.standard_normal(shape, dtype=np.float32) * 3
    y = rng.integers(0, shape[1], shape[0])
    tz, ty = torch.from_numpy(z), torch.from_numpy(y)
    leaf = tz.clone().requires_grad_()
    eager = torch.nn.functional.cross_entropy
    both = xloss.value_and_grad(xloss.cross_entropy)

    def backward(loss: Callable[..., Any]) -> None:
        leaf.grad = None
        loss(leaf, ty).backward()

    ms = in_turns(
        {
            "xloss": lambda: xloss.cross_entropy(z, y),
            "SciPy": lambda: -log_softmax(z, axis=-1)[np.arange(len(y)), y].mean(),
            "torch": lambda: eager(tz, ty),
            "xloss on torch": lambda: xloss.cross_entropy(tz, ty),
            "xloss, gradient": lambda: both(z, y),
            "torch, backward": lambda: backward(eager),
            "xloss on torch, backward": lambda: backward(xloss.cross_entropy),
        },
        rounds,
    )
    value = peak(lambda: xloss.cross_entropy(z, y)) / z.nbytes
    return ms, value, peak(lambda: both(z, y)) / z.nbytes


def small() -> dict[str, float]:
    """Return microseconds of a call on (32, 10)."""
    import torch

    rng = np.random.default_rng(0)
    z, y = rng.standard_normal((32, 10), dtype=np.float32), rng.integers(0, 10, 32)
    tz, ty = torch.from_numpy(z), torch.from_numpy(y)
    both = xloss.value_and_grad(xloss.cross_entropy)
    calls: Calls = {
        "NumPy": lambda: xloss.cross_entropy(z, y),
        "NumPy, with gradient": lambda: both(z, y),
        "torch": lambda: xloss.cross_entropy(tz, ty),
    }
    return {name: ms * 1e3 for name, ms in in_turns(calls, 5000).items()}


PROBE = """
import time, numpy as np
start = time.perf_counter()
import xloss
middle = time.perf_counter()
xloss.cross_entropy(np.zeros((4, 3), np.float32), np.array([0, 1, 2, 0]))
print((middle - start) * 1e3, (time.perf_counter() - middle) * 1e3)
"""


def imports(rounds: int = 9) -> tuple[float, float]:
    """Return milliseconds that importing xloss adds to NumPy's, and that the first call takes."""
    # As installed: with compiled bytecode, which the first run writes.
    env = {k: v for k, v in os.environ.items() if k != "PYTHONDONTWRITEBYTECODE"}
    command = [sys.executable, "-c", PROBE]
    runs = [
        subprocess.run(command, capture_output=True, text=True, check=True, env=env)
        for _ in range(rounds + 1)
    ]
    pairs = [tuple(map(float, run.stdout.split())) for run in runs[1:]]
    return statistics.median(p[0] for p in pairs), statistics.median(p[1] for p in pairs)


def report(rounds: int = 7) -> str:
    """Return the tables of docs/performance.md, in Markdown."""
    import scipy
    import torch

    torch.set_num_threads(2)
    taken, first = imports()
    lines = [
        f"Machine: {platform.processor() or platform.machine()}, "
        f"{torch.get_num_threads()} threads for PyTorch, one for NumPy. NumPy {np.__version__}, "
        f"PyTorch {torch.__version__}, SciPy {scipy.__version__}, "
        f"Python {platform.python_version()}.",
        "",
        "| float32, milliseconds | " + " | ".join(f"({n}, {c})" for n, c in SHAPES) + " |",
        "| --- |" + " --- |" * len(SHAPES),
    ]
    made = [large(shape, rounds) for shape in SHAPES]
    for name in made[0][0]:
        lines.append(f"| {name} | " + " | ".join(f"{ms[name]:.1f}" for ms, _, _ in made) + " |")
    ratios = [f"{ms['SciPy'] / ms['xloss']:.2f}" for ms, _, _ in made]
    lines.append("| **SciPy / xloss** | " + " | ".join(ratios) + " |")
    ratios = [f"{ms['torch'] / ms['xloss']:.2f}" for ms, _, _ in made]
    lines.append("| **torch eager / xloss** | " + " | ".join(ratios) + " |")
    ratios = [f"{ms['torch, backward'] / ms['xloss, gradient']:.2f}" for ms, _, _ in made]
    lines.append("| **torch backward / xloss gradient** | " + " | ".join(ratios) + " |")
    lines.append("| peak beyond the inputs, value | " + _shares(v for _, v, _ in made))
    lines.append("| peak beyond the inputs, with gradient | " + _shares(g for _, _, g in made))
    lines += ["", "| a call on (32, 10) | microseconds |", "| --- | --- |"]
    lines += [f"| {name} | {us:.0f} |" for name, us in small().items()]
    lines += ["", f"`import xloss` adds {taken:.0f} ms to `import numpy`; "
              f"the first NumPy call takes {first:.1f} ms."]  # fmt: skip
    return "\n".join(lines)


def _shares(values: Any) -> str:
    return " | ".join(f"{100 * v:.1f}%" for v in values) + " |"


if __name__ == "__main__":
    print(report())
