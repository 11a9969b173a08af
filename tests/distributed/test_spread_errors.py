"""Ranks that disagree, refuse, die or stay away: an error on the others, in time; no number."""

from __future__ import annotations

import re
from typing import Any

import numpy as np
import pytest

import xloss
from spread import Alone, ended, run
from spread_errors import SECONDS, leaving, together


@pytest.mark.parametrize("kind", ["mpi", "gloo"])
def test_ranks_that_disagree_all_raise_and_stay_in_step(kind: str) -> None:
    """Two exchanges of the rows, and none backward."""
    for rank, told in enumerate(run(kind, 3, together, kind)):
        for expected, said in told:
            assert re.fullmatch(expected, said), (rank, said)


@pytest.mark.parametrize("when", ["asleep", "dead at the sum"])
def test_a_rank_that_dies_or_stays_away_is_an_error_in_time(when: str) -> None:
    """gloo notices a closed connection at once, and silence by the group's timeout."""
    for said, seconds in ended("gloo", 3, leaving, when, answer=(0, 2)):
        assert "Error" in said
        assert seconds < SECONDS + 4


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
    with xloss.use_engine("generic"):
        plain = loss(z, y, group=..., softcap=5.0)
    assert plain[0] == pytest.approx(float(xloss.cross_entropy(z, y, softcap=5.0)), rel=1e-15)
    with xloss.use_engine("cpu"):
        loss(z, y, group=...)
        for option in ({"label_smoothing": 0.1}, {"softcap": 5.0}):
            with pytest.raises(xloss.EngineUnavailable, match=next(iter(option))):
                loss(z, y, group=..., **option)
