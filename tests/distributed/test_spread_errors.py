"""Ranks that disagree, refuse, die or stay away: an error on the others, in time; no number."""

from __future__ import annotations

import re
from functools import cache

import numpy as np
import pytest

import xloss
from nightly import core
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
}
OWN = {
    "refused": "TypeError: targets: expected an integer array of global class indices, got .*",
    "negative": r"ValueError: weight: negative at position \(1,\)",
}  # what rank 1 itself is told


@cache
def told(kind: str) -> list[dict[str, str]]:
    """What three ranks are told that stay together."""
    return run(kind, 3, together, kind)


@pytest.mark.parametrize("kind", ["mpi", "gloo"])
def test_ranks_that_disagree_all_raise_and_stay_in_step(kind: str) -> None:
    for name, expected in EXPECTED.items():
        if name == "features" and kind == "mpi":
            continue  # NumPy's arrays have no such thing
        for rank, said in enumerate(told(kind)):
            wanted = OWN.get(name, expected) if rank == 1 else expected
            assert re.fullmatch(wanted, said[name]), (name, rank, said[name])


def test_labels_that_are_not_read_and_differ_give_nan() -> None:
    for said in told("gloo"):
        first, second = map(float, said["unseen"].split())
        assert first == pytest.approx(np.log(9), rel=1e-7)
        assert np.isnan(second)


WHEN = ("dead", "asleep", "dead at the maximum", "dead at the sum")


@pytest.mark.parametrize("when", core(WHEN, lambda when: when in ("asleep", "dead at the sum")))
def test_a_rank_that_dies_or_stays_away_is_an_error_in_time(when: str) -> None:
    """gloo notices a closed connection at once, and silence by the group's timeout."""
    for said, seconds in ended("gloo", 3, leaving, "gloo", when, answer=(0, 2)):
        assert "Error" in said
        assert seconds < SECONDS + 4


def test_a_rank_that_dies_under_mpi_ends_the_others() -> None:
    """mpiexec ends the job; MPI itself has no timeout."""
    assert ended("mpi", 3, leaving, "mpi", "dead", timeout=60) == [EOFError] * 3


def test_two_exchanges_of_the_rows_and_none_backward() -> None:
    """A maximum of 4 bytes a row, four sums of 8; and before them 13 numbers of every rank."""
    forward = f"all_gather 104, all_reduce {7 * 4}, all_reduce {7 * 4 * 8}"
    assert [said["forward"] for said in told("gloo")] == [forward] * 3
    assert [said["backward"] for said in told("gloo")] == ["0"] * 3


@pytest.mark.parametrize(
    ("group", "message"),
    [
        (None, "group: expected an mpi4py communicator for arrays of numpy, got 'NoneType'"),
        ("v", "group: expected an mpi4py communicator for arrays of numpy, got 'v'"),
    ],
)
def test_what_is_no_group(group: object, message: str) -> None:
    with pytest.raises(TypeError, match=re.escape(message)):
        xloss.vocab_parallel_cross_entropy(np.zeros((1, 2)), np.array([0]), group=group)


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


def test_a_mesh_axis_that_is_not_there() -> None:
    jnp = pytest.importorskip("jax.numpy")
    with pytest.raises(ValueError, match="group: no mesh axis 'v' here; call inside shard_map"):
        xloss.vocab_parallel_cross_entropy(jnp.zeros((1, 2)), jnp.array([0]), group="v")
    with pytest.raises(
        TypeError, match="group: expected the name of a mesh axis, inside shard_map"
    ):
        xloss.vocab_parallel_cross_entropy(jnp.zeros((1, 2)), jnp.array([0]), group=1)


def test_libraries_without_ranks() -> None:
    strict = pytest.importorskip("array_api_strict")
    z, y = strict.zeros((1, 2)), strict.asarray([0])
    with pytest.raises(
        TypeError, match="group: arrays of array_api_strict are spread over no group"
    ):
        xloss.vocab_parallel_cross_entropy(z, y, group=object())
