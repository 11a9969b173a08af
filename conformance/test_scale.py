"""What docs/scale.md says is what its program writes, and the formulas are what is counted."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import xloss
from xloss_conformance.speed import collectives as by
from xloss_conformance.speed import publish, scale
from xloss_conformance.speed.publish import published

DOCS = Path(__file__).parents[1] / "docs"
PAGE = (DOCS / scale.DOCUMENT).read_text("utf-8")
DTYPES = {"float32": 4, "bfloat16": 2}
OPTIONS: tuple[dict[str, Any], ...] = ({}, {"weight": "ones"}, {"label_smoothing": 0.1})
CALLS = [(dtype, options) for options in OPTIONS for dtype in DTYPES]
Counts = list[list[dict[str, Any]]]  # by rank, by call


def counts(folder: Path, whose: str) -> Counts:
    """Return what each of two processes counted."""
    torch = pytest.importorskip("torch")
    if not torch.distributed.is_available() or not torch.distributed.is_gloo_available():
        pytest.skip("this torch has no gloo")
    import counted

    torch.multiprocessing.spawn(counted.count, (str(folder), whose, CALLS), nprocs=counted.RANKS)
    return [json.loads((folder / f"{rank}.json").read_text()) for rank in range(counted.RANKS)]


@pytest.fixture(scope="module")
def of_torch(tmp_path_factory: pytest.TempPathFactory) -> Counts:
    return counts(tmp_path_factory.mktemp("torch"), "of_torch")


@pytest.fixture(scope="module")
def of_xloss(tmp_path_factory: pytest.TempPathFactory) -> Counts:
    return counts(tmp_path_factory.mktemp("xloss"), "of_xloss")


def rows() -> int:
    from counted import ROWS

    return int(ROWS)


def as_counted(calls: by.Collectives) -> list[list[Any]]:
    return [[call.kind, call.nbytes] for call in calls]


def near(nbytes: int) -> Any:
    """Return bytes an element: what is held for a row or a class is a tenth of one and less."""
    return pytest.approx(nbytes, abs=0.1)


@pytest.mark.parametrize("dtype", DTYPES)
def test_loss_parallel_is_counted_as_the_formulas_say(of_torch: Counts, dtype: str) -> None:
    size = DTYPES[dtype]
    held = by.loss_parallel_held(size)
    for rank in of_torch:
        found = rank[CALLS.index((dtype, {}))]
        assert found["forward"] == as_counted(by.loss_parallel(rows(), size))
        assert found["backward"] == []
        assert found["saved"] == near(held.saved)
        assert found["forward most"] == near(held.forward - size)  # beside the logits
        assert found["backward most"] == near(held.backward - held.saved)
        assert found["loss"] == f"torch.{dtype}"


def test_loss_parallel_has_no_label_smoothing(of_torch: Counts) -> None:
    for rank in of_torch:
        assert rank[CALLS.index(("float32", {"label_smoothing": 0.1}))].keys() == {"refused"}


@pytest.mark.parametrize(("dtype", "options"), CALLS)
def test_xloss_is_counted_as_the_formulas_say(
    of_xloss: Counts, dtype: str, options: dict[str, Any]
) -> None:
    size = DTYPES[dtype]
    calls = by.xloss(rows(), size, "weight" in options, "label_smoothing" in options)
    for rank in of_xloss:
        found = rank[CALLS.index((dtype, options))]
        assert found["forward"] == as_counted(calls)
        assert found["backward"] == []
        assert found["saved"] == near(by.xloss_held(size).saved)
        assert found["loss"] == "torch.float32"


def test_the_page_is_what_the_program_writes() -> None:
    again = "write it again: python -m xloss_conformance.speed.scale"
    assert scale.written(PAGE, published(DOCS)) == PAGE, again
    assert len(PAGE.splitlines()) < 150


def test_a_new_run_is_a_new_page(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    record = published(DOCS)
    for work in record["works"]:
        for run in work["runs"]:
            if run["contender"] == "xloss torch":
                run["median_ms"] = work["elements"] * 123.45e-6
    monkeypatch.setattr(publish, "draw", lambda *_: ())
    (tmp_path / scale.DOCUMENT).write_text(PAGE, encoding="utf-8")
    publish.write(record, tmp_path)
    assert "123.45 ns an element of bfloat16" in (tmp_path / scale.DOCUMENT).read_text("utf-8")


def test_a_page_without_its_markers_is_refused() -> None:
    with pytest.raises(ValueError, match="expected <!-- steps --> and <!-- end --> once"):
        scale.written(PAGE.replace("<!-- steps -->", ""), published(DOCS))


def test_what_a_rank_sends_adds_up_to_what_must_be_sent() -> None:
    """Each of T sums needs T - 1 terms brought, and T - 1 copies of it taken away."""
    for ranks in (1, 2, 8, 64):
        assert by.Collective("all-reduce", 64).moved(ranks) * ranks == 2 * (ranks - 1) * 64
        assert by.Collective("all-gather", 16).moved(ranks) * ranks == ranks * (ranks - 1) * 16


def test_time_is_start_hops_and_bytes() -> None:
    net = by.Network("made up", speed=1e6, hop=1e-3)
    call = by.Collective("all-reduce", 4_000_000)
    assert call.seconds(8, net, start=0.5) == pytest.approx(0.5 + 6e-3 + 7.0)
    assert by.Collective("all-gather", 1_000_000).seconds(4, net, 0.5) == pytest.approx(3.502)
    assert call.seconds(1, net, start=0.5) == 0


def test_blocks_of_a_linear_head_send_what_the_whole_would() -> None:
    rows, classes = 8192, 16032
    whole, cut = by.xloss(rows, 4), by.linear(rows, classes)
    assert len(cut) == 1 + 2 * by.blocks(rows, classes) > len(whole)
    assert by.moved(cut, 8) == pytest.approx(by.moved(whole, 8))


def test_a_shard_s_evaluation_is_under_200_bytes() -> None:
    rng = np.random.default_rng(3)
    total = xloss.Evaluation()
    for rows in (10_000, 40_000, 30_000):
        logits = rng.normal(size=(rows, 50)).astype(np.float32)
        labels = rng.integers(50, size=rows)
        total = total.update(logits, labels, sample_weight=rng.random(rows).astype(np.float32))
    assert 100 < len(json.dumps(total.to_dict())) < 200
