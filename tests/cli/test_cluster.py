"""xloss eval --scheduler: the same numbers, workers that die, and refusals, each of one line."""

import contextlib
import os
import signal
import socket
from pathlib import Path

import numpy as np
import pytest

from cli_runs import ended, fits, save_shards, started, told
from cluster import SECONDS, cluster, until
from xloss.cli import cluster as cluster_module
from xloss.cli import evaluate as evaluate_module

distributed = pytest.importorskip("distributed", reason="pip install 'xloss[distributed]'")

# What a worker runs first: a shard with a folder `.hold` beside it says who is at it, and waits.
HOLD = """
from pathlib import Path
from cluster import wait_here
from xloss.cli import cluster as tasks

def held(request, task, answer=tasks.on_worker):
    folder = Path(task.logits + ".hold")
    if folder.exists():
        wait_here(folder)
    return answer(request, task)

tasks.on_worker = held
"""
WORKER = " (on worker tcp://...)"


@pytest.fixture(scope="module")
def workers():
    """A cluster of three worker processes: its address, and a client to disturb it by."""
    with (
        cluster(3, HOLD) as (address, _),
        distributed.Client(address, timeout=SECONDS, set_as_default=False) as client,
    ):
        yield address, client


@pytest.fixture(autouse=True)
def shards(folder):
    """Shards of 7 classes in the current folder, and their labels."""
    rng = np.random.default_rng(2)
    labels = rng.integers(0, 7, 310)
    labels[::9] = -100
    save_shards("z", rng.normal(scale=4, size=(310, 7)).astype(np.float32))
    save_shards("y", labels)


@contextlib.contextmanager
def held(address):
    """Start the command, and stop in the middle: yield it, and who is at a shard."""
    hold = Path("z/shard-10.npy.hold")
    hold.mkdir()
    process = started(f"eval z y --json --scheduler {address}")
    try:
        yield process, int(until(hold / "waits"))
    finally:
        (hold / "go").touch()


def refusal_of(process):
    return told(ended(process, SECONDS), code=2)


def test_a_cluster_gives_the_numbers_of_one_process(workers, command, monkeypatch):
    """The whole answer, worst rows and findings too; shards whole, and cut in pieces."""
    address, _ = workers
    for i, row in ((1, 7), (9, 17), (9, 4)):
        logits = np.load(f"z/shard-{i}.npy")
        logits[row, 3] = np.nan
        np.save(f"z/shard-{i}.npy", logits)
    expected = command.answer("z y --worst 40", code=1)
    assert expected["findings"][0]["positions"] == [[7], [55], [68]]
    for logits in (evaluate_module.TASK_LOGITS, 7 * 4):
        monkeypatch.setattr(evaluate_module, "TASK_LOGITS", logits)
        assert command.answer(f"z y --worst 40 --scheduler {address}", code=1) == expected


def test_every_option_goes_to_the_workers(workers, command):
    address, _ = workers
    rng = np.random.default_rng(6)
    np.save("one.npy", rng.normal(size=(7, 9, 6)))
    np.savez("y.npz", y=rng.integers(0, 7, (9, 6, 1)), other=[])
    np.save("w.npy", rng.uniform(size=7))
    options = "--axis 0 --ignore-index 3 --label-smoothing 0.2 --weight w.npy --worst 3 --shift"
    line = f"one.npy y.npz::y {options}"
    got = command.answer(f"{line} --scheduler {address.removeprefix('tcp://')}")
    assert got == command.answer(line)
    assert got["counted"] > 0
    line = "z/shard-1.npy z/shard-1.npy --loss sigmoid_focal_loss"
    said = command.refusal(f"eval {line} --scheduler {address}")
    assert fits(f"...expected a target in [0, 1]{WORKER}", said)


def test_a_worker_killed_in_the_middle_changes_nothing(workers, command):
    address, client = workers
    client.wait_for_workers(3, timeout=SECONDS)
    with held(address) as (process, pid):
        assert pid in client.run(os.getpid).values()
        os.kill(pid, signal.SIGKILL)
    assert told(ended(process, SECONDS)) == command.answer("z y")


def test_a_shard_that_kills_its_workers_is_named():
    with cluster(1, HOLD, deaths=0) as (address, _), held(address) as (process, pid):
        os.kill(pid, signal.SIGKILL)
        said = refusal_of(process)
    assert fits(f"--scheduler {address}: workers died at .../z/shard-10.npy: ...", said)


def test_ctrl_c_ends_it(workers):
    address, _ = workers
    with held(address) as (process, _):
        process.send_signal(signal.SIGINT)
        ran = ended(process, SECONDS)
    assert (ran.returncode, ran.stdout, ran.stderr) == (130, "", "")


def test_a_scheduler_that_dies_in_the_middle_is_reported():
    with cluster(1, HOLD) as (address, head), held(address) as (process, _):
        os.kill(head.pid, signal.SIGKILL)
        said = refusal_of(process)
    assert said.startswith(f"--scheduler {address}: was lost, or has no worker: ")


@pytest.mark.parametrize("left", [{}, {"tcp://a": 1}])
def test_a_task_is_waited_for_as_long_as_there_is_a_worker(left):
    class Late:
        status = "pending"
        answers = iter([TimeoutError, TimeoutError, "done"])

        def result(self, timeout):
            answer = next(self.answers)
            if answer is TimeoutError:
                raise answer
            return answer

        def nthreads(self):
            return left

    if left:
        assert cluster_module._result(Late(), Late()) == "done"
    else:
        with pytest.raises(TimeoutError):
            cluster_module._result(Late(), Late())


def test_a_cluster_without_a_worker(command, monkeypatch):
    monkeypatch.setattr(cluster_module, "MAX_IDLE_SECONDS", 1)
    with cluster(0) as (address, _):
        said = command.refusal(f"eval z y --scheduler {address}")
    assert said.startswith(f"--scheduler {address}: was lost, or has no worker: ")


def test_addresses_of_no_scheduler(workers, command, monkeypatch):
    """A closed port, one that is silent, a worker's, and no address."""
    monkeypatch.setattr(cluster_module, "CONNECT_SECONDS", 1)
    _, client = workers
    worker = next(iter(client.scheduler_info()["workers"]))
    with socket.socket() as closed, socket.socket() as silent:
        for s in (closed, silent):
            s.bind(("127.0.0.1", 0))
        silent.listen()
        ports = [f"tcp://127.0.0.1:{s.getsockname()[1]}" for s in (closed, silent)]
        none = "no Dask scheduler answers: "
        expected = dict.fromkeys([*ports, "nonsense"], none) | {worker: "expected a scheduler's"}
        for address, why in expected.items():
            said = command.refusal(f"eval z y --scheduler {address}")
            assert said.startswith(f"--scheduler {address}: {why}")
    process = started("eval z y --scheduler nonsense")  # Dask logs nothing in a process either
    assert none in refusal_of(process)
