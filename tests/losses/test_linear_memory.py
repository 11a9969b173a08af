"""linear_cross_entropy's peak memory in a fresh process: never all the logits."""

from __future__ import annotations

from itertools import product
from pathlib import Path
from typing import Any

import pytest

from fresh import said
from nightly import core

# All logits: 3072 x 16384 float32, 192 MiB; the gradients 2.4. The room for a block's logits is
# half of what it is, as are the rows.
SCRIPT = """
def kibibytes(name):
    lines = open("/proc/self/status").read().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(name))

def beyond(function, *given, **options):  # how much more memory it takes than what is there, in MiB
    before = kibibytes("VmRSS")
    open("/proc/self/clear_refs", "w").write("5")  # the peak begins anew
    made = function(*given, **options)
    return (kibibytes("VmHWM") - before) // 1024

import numpy as np, xloss
from xloss.core import linear
linear.LOGITS_BUDGET_BYTES //= 2
rows, width, classes = 3072, 32, 16384
rng = np.random.default_rng(0)

def data(rows, classes):
    x = rng.standard_normal((rows, width), dtype=np.float32)
    w = rng.standard_normal((classes, width), dtype=np.float32)
    return x, w, rng.integers(0, classes, rows)

def run(x, w, y, **options):
    if "{library}" == "numpy":
        return xloss.value_and_grad(xloss.linear_cross_entropy, (0, 1))(x, w, y, **options)
    if "{library}" == "torch":
        import torch
        x, w = (torch.from_numpy(a).requires_grad_() for a in (x, w))
        loss = xloss.linear_cross_entropy(x, w, torch.from_numpy(y), **options)
        loss.sum().backward()
        return x.grad, w.grad
    import jax
    loss = lambda x, w: jax.numpy.sum(xloss.linear_cross_entropy(x, w, y, **options))
    return jax.block_until_ready(jax.jit(jax.grad(loss, (0, 1)))(x, w))

if "{library}" == "jax":
    import jax.numpy as jnp
else:
    class jnp:
        asarray = staticmethod(lambda a: a)
given = [jnp.asarray(a) for a in data(rows, classes)]
for options in {options}:
    # Libraries loaded, kernels compiled, threads started.
    run(*map(jnp.asarray, data(16, classes)), **options)
    print(beyond(run, *given, **options))
"""


def peaks(library: str, *options: dict[str, Any]) -> list[int]:
    """Return the peak beyond the inputs in MiB, with each of these options."""
    script = SCRIPT.replace("{library}", library).replace("{options}", repr(options))
    return [int(line) for line in said(script).split()]


linux = pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="needs Linux's /proc")


@linux
@pytest.mark.parametrize(
    ("library", "reduction"),
    core(
        product(("numpy", "torch", "jax"), ("mean", "none")),
        lambda library, reduction: (library == "torch") == (reduction == "none"),
    ),
)
def test_the_peak_is_the_gradients_and_less_than_128_mib(library, reduction):
    """192 MiB of logits are never there: as blocks are chosen, and as they are asked for."""
    pytest.importorskip(library)
    given = {"reduction": reduction}
    # Smaller first: what it frees, the larger may take without a new page.
    asked, chosen = peaks(library, {**given, "block_rows": 128}, given)
    # Blocks of 128 rows: 8 MiB of logits, a few of their size, and what the product packs.
    assert asked < 3 + 96
    assert chosen < 3 + 128


@linux
def test_the_measure_sees_whole_logits():
    """One block of every row does hold them."""
    assert peaks("numpy", {"block_rows": 3072})[0] > 192
