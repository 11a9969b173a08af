"""Ranks that disagree, refuse, die or stay away: an error on the others, in time; no number."""

from __future__ import annotations

import re
from typing import Any

import numpy as np
import pytest

import xloss
from spread import Alone, ended, run
from spread_errors import SECONDS, leaving, together
from xloss.engines.cpu import engine as cpu

EXPECTED = {
    "rows": "ValueError: logits_shard: other rows on rank 1 than on rank 0",
    "dtype": "ValueError: logits_shard: another dtype on rank 1 than on rank 0",
    "option": "ValueError: label_smoothing, z_loss, softcap, ignore_index, reduction or validate: "
    "another on rank 1 than on rank 0",
    "weight": "ValueError: weight, sample_weight, where or normalizer: given otherwise on rank 1 "
    "than on rank 0",
    "normalizer": "ValueError: normalizer: another on rank 1 than on rank 0",
    "labels": "ValueError: targets: another largest label on rank 1 than on rank 0",
    "refused": "RuntimeError: group: rank 1 refused its arguments; see its own error",
    "negative": "RuntimeError: group: rank 1 refused its arguments; see its own error",
    "bad label": r"IndexError: targets: label 9 at position \(3,\) is outside \[0, 9\) for 9 .*",
    "no class": "ValueError: logits_shard: expected at least one class on some rank",
    "group": "TypeError: group: expected .* got 'v'",
    "blocks": "ValueError: block_rows: another on rank 1 than on rank 0",
    "another loss": "ValueError: group: another loss on rank 1 than on rank 0",
    "features": "ValueError: features: requires_grad is another on rank 1 than on rank 0",
    "well": f"value {float(np.float32(np.log(9)))!r}",
    # Labels that are not read, and differ: no number.
    "unseen": r"2\.197224\d* nan",
    # A maximum of 4 bytes a row, and four sums of 8; before them 13 numbers of every rank.
    "forward": f"all_gather 104, all_reduce {7 * 4}, all_reduce {7 * 4 * 8}",
    "backward": "0",
}
ON_GLOO = ("features", "unseen", "forward", "backward")  # NumPy's arrays have no requires_grad
OWN = {
    "refused": "TypeError: targets: expected an integer array of global class indices, got .*",
    "negative": r"ValueError: weight: negative at position \(1,\)",
}  # what rank 1 itself is told


@pytest.mark.parametrize("kind", ["mpi", "gloo"])
def test_ranks_that_disagree_all_raise_and_stay_in_step(kind: str) -> None:
    """Two exchanges of the rows, and none backward."""
    for rank, said in enumerate(run(kind, 3, together, kind)):
        for name, expected in EXPECTED.items():
            if kind == "gloo" or name not in ON_GLOO:
                wanted = OWN.get(name, expected) if rank == 1 else expected
                assert re.fullmatch(wanted, said[name]), (name, rank, said[name])


@pytest.mark.parametrize("when", ["asleep", "dead at the sum"])
def test_a_rank_that_dies_or_stays_away_is_an_error_in_time(when: str) -> None:
    """gloo notices a closed connection at once, and silence by the group's timeout."""
    for said, seconds in ended("gloo", 3, leaving, "gloo", when, answer=(0, 2)):
        assert "Error" in said
        assert seconds < SECONDS + 4


def test_a_rank_that_dies_under_mpi_ends_the_others() -> None:
    """mpiexec ends the job; MPI itself has no timeout."""
    assert ended("mpi", 3, leaving, "mpi", "dead", timeout=60) == [EOFError] * 3


NAMES_OF_GROUPS = [
    ("numpy", "v", TypeError, "expected an mpi4py communicator for arrays of numpy, got 'v'"),
    ("jax.numpy", "v", ValueError, "no mesh axis 'v' here; call inside shard_map"),
    ("array_api_strict", 1, TypeError, "arrays of array_api_strict are spread over no group"),
]


@pytest.mark.parametrize(("library", "group", "error", "message"), NAMES_OF_GROUPS)
def test_what_is_no_group(library: str, group: object, error: Any, message: str) -> None:
    xp = pytest.importorskip(library)
    with pytest.raises(error, match=f"^group: {message}"):
        xloss.vocab_parallel_cross_entropy(xp.zeros((1, 2)), xp.asarray([0]), group=group)


def test_an_engine_asked_for_by_name(monkeypatch: pytest.MonkeyPatch) -> None:
    """It takes the call, or says why not; the generic one takes all."""

    monkeypatch.setattr("xloss.backends.process_groups.of", lambda group, cx: Alone())
    z, y = np.linspace(0, 1, 600).reshape(2, 300), np.array([0, 299])
    loss = xloss.value_and_grad(xloss.vocab_parallel_cross_entropy)
    calls = []
    real = cpu.run
    monkeypatch.setattr(cpu, "run", lambda *a, **k: calls.append(1) or real(*a, **k))
    with xloss.use_engine("generic"):
        plain = loss(z, y, group=...)
    assert not calls
    with xloss.use_engine("cpu"):
        value, grad = loss(z, y, group=...)
        assert len(calls) == 2
        for option in ({"label_smoothing": 0.1}, {"softcap": 5.0}):
            with pytest.raises(xloss.EngineUnavailable, match=next(iter(option))):
                loss(z, y, group=..., **option)
    np.testing.assert_allclose(value, plain[0], rtol=1e-15)
    np.testing.assert_allclose(grad, plain[1], rtol=1e-14)
