"""Benchmarks of logits that are cut: real workers and ranks, at sizes of a rehearsal."""

from __future__ import annotations

import multiprocessing
import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest

from xloss_conformance.speed import ranks
from xloss_conformance.speed.contenders import AT_SCALE
from xloss_conformance.speed.cuts import OPS, spots, works
from xloss_conformance.speed.markdown_scale import markdown_scale
from xloss_conformance.speed.plan import BadPlan, Plan, Step, chosen, steps
from xloss_conformance.speed.processes import BenchFailed, results
from xloss_conformance.speed.publish import SCALE_DOCUMENT, SCALE_RECORD, one_page, published
from xloss_conformance.speed.targets import judged
from xloss_conformance.speed.work import Work

dask = pytest.importorskip("dask")
pytest.importorskip("distributed")
pytest.importorskip("torch.distributed")
DOCS = Path(__file__).parents[1] / "docs"
PACE = {"seconds": 0.01, "least": 2, "most": 3}
DASK, RANKS = AT_SCALE["dask"][1], AT_SCALE["ranks"][1]


def done(task: str, asked: list[Work], **arguments: Any) -> list[Any]:
    """Do a task as a run does, that of ranks without a process between; give its results."""
    if task in ranks.TASKS:
        told = list(ranks.TASKS[task](asked, threads=1, **arguments))
        return [entry for kind, entry in told if kind == "result"]
    step = Step("works", "at_scale", {"task": task, "works": asked, **arguments}, 1, alone=True)
    found = list(results([step]))
    assert [entry for _, kind, entry in found if kind == "missing"] == []
    return [entry for _, kind, entry in found if kind == "result"]


# ---- Real processes ----------------------------------------------------------------------------


def test_dask_is_timed_on_threads_and_on_workers() -> None:
    asked = [
        Work("dask", (16, 60), gradient, chunks=(8, 30), processes=workers)
        for gradient, workers in ((False, 0), (True, 0), (True, 2))
    ]
    found = done("dask_times", asked, names=DASK, **PACE)
    assert [work["name"] for work in found] == [work.name for work in asked]
    for work in found:
        assert work["refused"] == []
        assert [run["contender"] for run in work["runs"]] == list(DASK)
        assert all(run["runs"] >= 1 and run["min_ms"] > 0.1 for run in work["runs"])


def test_memory_of_workers_is_that_of_all_of_them() -> None:
    asked = Work("dask", (512, 32000), True, chunks=(256, 32000), processes=2)
    (found,) = done("dask_memory", [asked], name="dask, by chunk", trials=1)
    assert found["reason"] == ""
    assert 0.9 < found["peak_bytes"] / asked.nbytes < 1.5  # a chunk's gradient on each


def test_ranks_are_timed_and_agree() -> None:
    asked = [Work("vocab-parallel", (8, 60), gradient, processes=2) for gradient in (False, True)]
    found = done("ranks_times", asked, names=RANKS, **PACE)
    assert [work["name"] for work in found] == [work.name for work in asked]
    for work in found:
        assert work["refused"] == []
        assert [run["contender"] for run in work["runs"]] == list(RANKS)


def test_memory_of_ranks_is_that_of_all_of_them() -> None:
    asked = Work("vocab-parallel", (512, 32000), True, processes=2)
    (found,) = done("ranks_memory", [asked], name="torch by hand", trials=1)
    assert found["reason"] == ""
    assert 0.99 < found["peak_bytes"] / asked.nbytes < 1.2  # the gradient's slices


def _first_fails() -> Iterator[tuple[str, Any]]:
    import torch.distributed

    if torch.distributed.get_rank() == 0:
        raise KeyError("of the first")
    time.sleep(60)
    yield "result", None


def test_a_rank_that_fails_says_so_and_the_others_are_ended() -> None:
    before, start = set(multiprocessing.active_children()), time.monotonic()
    with pytest.raises(ranks.RankFailed, match=r"^rank 0: KeyError: 'of the first'\n"):
        list(ranks._in_ranks(2, _first_fails, {}))
    assert set(multiprocessing.active_children()) <= before
    assert time.monotonic() - start < 50


def test_what_a_task_raises_ends_the_run_in_one_line() -> None:
    with pytest.raises(BenchFailed, match="KeyError: 'no such task'"):
        done("no such task", [])


def _silent(pipe: Any) -> None:
    time.sleep(60)


def _dying(pipe: Any) -> None:
    os._exit(3)


@pytest.mark.parametrize(
    ("does", "said"),
    [(_silent, "the ranks have been silent for 0.5 s"), (_dying, "rank 0 died: exit code 3")],
    ids=["silent", "dying"],
)
def test_a_rank_that_hangs_or_dies_is_not_waited_for(does: Any, said: str) -> None:
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe(duplex=False)
    process = context.Process(target=does, args=(theirs,))
    process.start()
    theirs.close()
    silence = 0.5 if does is _silent else 30.0
    start = time.monotonic()
    try:
        with pytest.raises(ranks.RankFailed, match=said):
            list(ranks._heard([(process, ours)], silence))
        assert does is _dying or time.monotonic() - start < 4
    finally:
        process.kill()
        process.join()


# ---- The peers -----------------------------------------------------------------------------------


@pytest.mark.parametrize("name", DASK)
@pytest.mark.parametrize("chunks", [(4, 60), (16, 20), (8, 30)])
def test_every_expression_in_dask_is_the_loss(name: str, chunks: tuple[int, int]) -> None:
    from xloss_conformance.speed import by_dask

    x, y = by_dask.arrays(Work("dask", (16, 60), True, chunks=chunks))
    z, labels = x.compute(scheduler="sync").astype(np.float64), y.compute(scheduler="sync")
    p = np.exp(z) / np.exp(z).sum(-1, keepdims=True)
    hot = np.eye(60)[labels]
    losses = {
        "xloss dask": by_dask.ours,
        "dask": by_dask.operations,
        "dask, by chunk": by_dask.reduction,
    }
    value, grad = losses[name](x, y, True)
    assert grad.chunks == x.chunks
    assert grad.dtype == np.float32
    assert float(value.compute(scheduler="sync")) == pytest.approx(
        -np.log(p[hot == 1]).mean(), rel=1e-6
    )
    np.testing.assert_allclose(grad.compute(scheduler="sync"), (p - hot) / 16, atol=1e-8, rtol=2e-5)


def test_a_cluster_is_timed_when_it_has_forgotten_the_last_results(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    import distributed

    from xloss_conformance.speed import by_dask

    class Scheduler:
        tasks: ClassVar[list[Any]] = [(f"{by_dask.INPUT}-logits-(4, 60)", 0, 0), ("sum-1", 0), "x"]

    class Client:
        def run_on_scheduler(self, asked: Any) -> int:
            found: int = asked(Scheduler)
            Scheduler.tasks.pop()
            return found

    monkeypatch.setattr(distributed, "get_client", Client)
    by_dask.settled()
    assert Scheduler.tasks == []


def test_spots_of_a_gradient_have_the_labels_and_classes_far_apart() -> None:
    gradient = np.zeros((8, 40000))
    labels = np.asarray([5, 39999, -3, 40000, 0, 1, 2, 3])  # two of another rank's
    gradient[0, 5] = gradient[1, 39999] = 7.0
    found = spots(gradient, labels)
    assert found[:2].tolist() == [7.0, 7.0]
    assert 500 < len(found) <= 1000


def test_a_call_that_one_rank_lacks_is_timed_in_none(monkeypatch: pytest.MonkeyPatch) -> None:
    other = [{"contender": "torch by hand", "reason": "computes another gradient"}]
    monkeypatch.setattr(ranks, "_gathered", lambda mine: [mine, other])
    calls: Any = {"loss_parallel": 1, "torch by hand": 2}
    kept: tuple[Any, Any] = ranks._everywhere(calls, [])
    assert kept == ({"loss_parallel": 1}, other)


def test_a_call_takes_as_long_as_its_slowest_rank(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ranks, "_gathered", lambda mine: [mine, [0.5, 4.0, 1.0]])
    assert ranks._slowest([1.0, 2.0, 3.0]) == [1.0, 4.0, 3.0]


# ---- The plan, targets, the page -----------------------------------------------------------------


def test_what_is_cut_is_measured_when_asked_for_by_name() -> None:
    assert set(OPS) == {"dask", "vocab-parallel"}
    assert not set(OPS) & set(chosen(Plan())[0])
    asked = Plan(ops=tuple(OPS))
    assert chosen(asked)[0] == tuple(OPS)
    times = [step for step in steps(asked) if step.section == "works"]
    assert [len(step.arguments["works"]) for step in times] == [12, 6]
    assert all(step.alone for step in steps(asked))
    names = [work.name for work in works("dask", False)]
    assert names[0] == "float32 (4096, 32000) in chunks of (1024, 32000), threads, value"
    assert names[-1].endswith("(2048, 8000), 2 workers, value and gradient")
    assert works("vocab-parallel", False)[0].name == "float32 (4096, 32000) over 2 ranks, value"
    assert len(set(names)) == 12


def test_a_page_has_its_own_run() -> None:
    one_page(())
    one_page(("dask", "vocab-parallel"))
    one_page(("forward", "linear"))
    with pytest.raises(BadPlan, match="--publish: a page of its own is for dask"):
        one_page(("forward", "dask"))


def made(shares: dict[str, float], ms: dict[str, float]) -> dict[str, Any]:
    told = Work("vocab-parallel", (8, 60000), True, processes=2).told()
    times = {"runs": 3, "min_ms": 1.0, "q1_ms": 1.0, "q3_ms": 1.0, "gb_s": 1.0, "elements_s": 1.0}
    runs = [
        {"contender": who, "engine": "", **times, "median_ms": value} for who, value in ms.items()
    ]
    memory = [
        {**told, "contender": who, "peak_bytes": int(share * told["nbytes"]), "reason": ""}
        for who, share in shares.items()
    ]
    record: dict[str, Any] = {
        "schema": 1,
        "xloss": "0.1.0",
        "date": "2026-11-23",
        "threads": 2,
        "load": [0.1, 2.0],
        "command": "xloss bench --op vocab-parallel --publish docs",
        "ops": ["vocab-parallel"],
        "machine": {"python": "3.11", "platform": "Linux", "processor": "a CPU", "cores": 2},
        "versions": {},
        "seconds": 1.0,
        "missing": [],
        "contenders": [],
        "memory": memory,
        "works": [
            {
                **told,
                "runs": runs,
                "bound": None,
                "refused": [{"contender": "torch by hand", "reason": "fails"}],
            }
        ],
    }
    record["targets"] = judged(record)
    return record


def test_xloss_is_to_be_as_fast_as_each_peer_and_to_hold_no_more() -> None:
    ours, theirs = "xloss vocab-parallel", "loss_parallel"
    met = made({ours: 1.2, theirs: 1.2}, {ours: 2.0, theirs: 2.0})
    assert [(t["kind"], t["met"]) for t in met["targets"]] == [("ratio", True), ("bytes", True)]
    missed = made({ours: 1.21, theirs: 1.2}, {ours: 2.01, theirs: 2.0})
    assert [t["met"] for t in missed["targets"]] == [False, False]
    room = made({ours: 1.04, theirs: 1.0}, {})
    assert [t["met"] for t in room["targets"]] == [True]


def test_the_page_says_what_is_missed_and_what_was_not_timed() -> None:
    ours, theirs = "xloss vocab-parallel", "loss_parallel"
    page = markdown_scale(made({ours: 1.0, theirs: 4.0}, {ours: 3.0, theirs: 2.0}))
    assert "generated, by `xloss bench --op vocab-parallel --publish docs`" in page
    assert "**0.66× (≥ 1×) missed by 33.3 %**" in page
    assert "over 2 ranks, value and gradient | 100 % | 400 % | – |" in page
    assert "torch by hand: fails." in page
    assert "## Dask" not in page


def test_the_published_page_is_what_the_published_record_gives() -> None:
    kept = published(DOCS, SCALE_RECORD)
    again = "draw it again: xloss bench --publish docs --render"
    assert (DOCS / SCALE_DOCUMENT).read_text("utf-8") == markdown_scale(kept), again
    assert judged(kept) == kept["targets"], again
