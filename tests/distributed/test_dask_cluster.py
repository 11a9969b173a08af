"""Dask on worker processes: the same bits as in this one, though a worker dies in the middle."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import xloss
from cluster import SECONDS, cluster, until, wait_here

distributed = pytest.importorskip("distributed", reason="pip install 'xloss[distributed]'")
dask = pytest.importorskip("dask", reason="pip install 'xloss[distributed]'")
da = pytest.importorskip("dask.array", reason="pip install 'xloss[distributed]'")

RNG = np.random.default_rng(3)
Z = RNG.standard_normal((12, 10)) * 5
Z[1, :5] = -np.inf  # the first chunks of this row hold no possible class
Z[4] = -40.0
Z[4, 7] = 0.0  # its loss is 4e-17: a merge that subtracts loses it
Y = RNG.integers(0, 10, 12)
Y[1], Y[4], Y[9] = 8, 7, -100
T = RNG.random((12, 10))
T[1, :5] = 0.0
T /= T.sum(1, keepdims=True)
WEIGHT, SAMPLE = RNG.random(10) + 0.5, RNG.random(12)
EMPTY = np.empty((0, 0))  # else Dask calls a function of chunks once here, to see what comes out
CUT = da.from_array(Z, chunks=(5, 4))
CHUNKS = {"rows": (5, 10), "classes": (12, 3), "both": (5, 4)}


@pytest.fixture(scope="module")
def client() -> Iterator[Any]:
    with (
        cluster(3) as (address, _),
        distributed.Client(address, timeout=SECONDS, set_as_default=False) as client,
    ):
        client.wait_for_workers(3, timeout=SECONDS)
        yield client


def computed(client: Any, *lazy: Any) -> list[np.ndarray]:
    """Compute on the cluster: it gives up, and does not hang."""
    futures = client.compute(list(lazy))
    return [np.asarray(f.result(timeout=SECONDS)) for f in futures]


def same_bits(got: list[np.ndarray], want: list[Any]) -> None:
    for g, w in zip(got, want, strict=True):
        assert (g.dtype, g.shape) == (np.asarray(w).dtype, np.asarray(w).shape)
        assert g.tobytes() == np.asarray(w).tobytes()


def graph(z: Any) -> Any:
    """Return a loss and its gradient, of chunks of their own for each array."""
    return xloss.value_and_grad(xloss.cross_entropy)(z, da.from_array(Y, chunks=4))


# ---- Undisturbed ---------------------------------------------------------------------------------


@pytest.mark.parametrize("chunks", CHUNKS)
def test_every_loss_has_the_bits_of_one_process(client: Any, chunks: str) -> None:
    """Labels and soft targets, weights, and logits of 32 bits; what the workers send is merged."""
    cut = CHUNKS[chunks]
    z, t = da.from_array(Z, chunks=cut), da.from_array(T, chunks=(4, 10))
    y, sample = da.from_array(Y, chunks=4), da.from_array(SAMPLE, chunks=7)
    weighted = {"weight": da.from_array(WEIGHT, chunks=3), "sample_weight": sample}
    options = {"label_smoothing": 0.1, "z_loss": 0.01, "softcap": 20.0, **weighted}
    log_p = da.from_array(np.asarray(xloss.log_softmax(Z, axis=-1)), chunks=cut)
    grad, loss = xloss.value_and_grad, xloss.cross_entropy
    lazy = [
        *grad(loss)(z, y),
        *grad(loss)(z, y, **options),
        *grad(loss, 1)(z, t, **weighted),
        *grad(loss)(z.astype(np.float32), y),
        *grad(xloss.focal_loss)(z, y, **weighted),
        *grad(xloss.kl_div)(log_p, t),
        *grad(xloss.binary_cross_entropy_with_logits)(z, t),
    ]
    want = dask.compute(*lazy, scheduler="sync")
    assert np.isfinite(want[0])
    same_bits(computed(client, *lazy), list(want))


# ---- A worker dies -------------------------------------------------------------------------------


def waiting(folder: Path, z: Any) -> Any:
    """Return logits whose last chunk says which process computes it, and waits to be let go."""

    def block(part: np.ndarray, block_info: Any = None) -> np.ndarray:
        if block_info[0]["chunk-location"] == (2, 2):
            wait_here(folder)
        return part

    return z.map_blocks(block, meta=EMPTY)


def test_a_worker_killed_in_the_middle_changes_no_bit(client: Any, tmp_path: Path) -> None:
    """What the dead one had computed is computed again, by others."""
    want = list(dask.compute(*graph(CUT), scheduler="sync"))
    futures = client.compute(list(graph(waiting(tmp_path, CUT))))
    os.kill(int(until(tmp_path / "waits")), signal.SIGKILL)
    (tmp_path / "go").touch()
    same_bits([np.asarray(f.result(timeout=SECONDS)) for f in futures], want)
