"""xloss eval --scheduler: the same numbers, workers that die, and refusals, each of one line."""

import contextlib
import json
import os
import signal
import socket
import threading
from pathlib import Path

import numpy as np
import pytest

from cli_runs import ended, fits, limited, started, told
from cluster import CLUSTER, SECONDS, cluster, kill, until
from xloss.cli import cluster as cluster_module
from xloss.cli import evaluate as evaluate_module

distributed = pytest.importorskip("distributed", reason="pip install 'xloss[distributed]'")

SIZES = (40, 0, 25, 60, 1, 33, 50, 20, 10, 30, 31, 9)
# What a worker runs first: a shard with a `.hold` beside it says who is at it, and waits.
HOLD = """
import os, pathlib, time
from xloss.cli import run_task

def held(job, answer=run_task.run_task):
    hold = pathlib.Path(job["task"]["logits"] + ".hold")
    if hold.exists():
        draft = hold.with_suffix(f".{os.getpid()}")
        draft.write_text(str(os.getpid()))
        draft.rename(hold.with_suffix(".waits"))
        late = time.monotonic() + 60
        while hold.exists() and time.monotonic() < late:
            time.sleep(0.01)
    return answer(job)

run_task.run_task = held
"""
HIDE = "import sys; sys.modules['xloss'] = None"
WORKER = " (on worker tcp://...)"


def preloaded(code):
    """Return the environment in which workers run this code first."""
    return {"DASK_DISTRIBUTED__WORKER__PRELOAD": json.dumps([code])}


@pytest.fixture(scope="module")
def workers():
    """A cluster of three worker processes: its address, and a client to disturb it by."""
    with (
        cluster(3, env=preloaded(HOLD)) as (address, _),
        distributed.Client(address, timeout=SECONDS, set_as_default=False) as client,
    ):
        yield address, client


@pytest.fixture(autouse=True)
def shards(folder):
    """Twelve shards of 7 classes in the current folder, and their labels; nothing may hang."""
    rng = np.random.default_rng(2)
    for name in ("z", "y"):
        (folder / name).mkdir()
    for i, rows in enumerate(SIZES):
        labels = rng.integers(0, 7, rows)
        labels[::9] = -100
        np.save(f"z/shard-{i}.npy", rng.normal(scale=4, size=(rows, 7)).astype(np.float32))
        np.save(f"y/shard-{i}.npy", labels)
    with limited(SECONDS):
        yield folder


@contextlib.contextmanager
def held(address):
    """Start the command, and stop in the middle: yield it, and who is at a shard."""
    hold = Path("z/shard-10.npy.hold")
    hold.touch()
    process = started(f"eval z y --json --scheduler {address}")
    try:
        yield process, int(until(hold.with_suffix(".waits")))
    finally:
        hold.unlink(missing_ok=True)


def refusal_of(process):
    return told(ended(process, SECONDS), code=2)


# ---- The same numbers ----------------------------------------------------------------------------


def test_a_cluster_gives_the_numbers_of_one_process(workers, command, monkeypatch):
    """The whole answer, worst rows and findings too; shards whole, and cut in pieces."""
    address, _ = workers
    for i, row in ((2, 7), (5, 17), (5, 3)):
        logits = np.load(f"z/shard-{i}.npy")
        logits[row, 3] = np.nan
        np.save(f"z/shard-{i}.npy", logits)
    expected = command.answer("z y --worst 40", code=1)
    assert expected["findings"][0]["positions"] == [[47], [129], [143]]
    for logits in (evaluate_module.TASK_LOGITS, 7 * 4):
        monkeypatch.setattr(evaluate_module, "TASK_LOGITS", logits)
        got = command.answer(f"z y --worst 40 --scheduler {address}", code=1)
        assert got.pop("workers") in (1, 2, 3)
        assert got == expected


def test_only_the_workers_import_the_array_library(workers, command):
    address, _ = workers
    hidden = "import sys; sys.modules['array_api_strict'] = sys.modules['numba'] = None"
    line = f"eval z y --json --backend array_api_strict --scheduler {address}"
    got = told(ended(started(line, before=hidden), SECONDS))
    assert got["backend"] == "array_api_strict"
    assert got["loss"] == pytest.approx(command.answer("z y")["loss"], rel=1e-6)


def test_every_option_goes_to_the_workers(workers, command):
    address, _ = workers
    rng = np.random.default_rng(6)
    np.save("one.npy", rng.normal(size=(7, 9, 6)))
    np.savez("y.npz", y=rng.integers(0, 7, (9, 6, 1)), other=[])
    np.save("w.npy", rng.uniform(size=7))
    np.save("p.npy", rng.uniform(size=(9, 7)))
    np.save("bits.npy", rng.integers(0, 2, (9, 7)))
    options = "--axis 0 --ignore-index 3 --label-smoothing 0.2 --weight w.npy --worst 3 --shift"
    binary = "--loss binary_cross_entropy --label-smoothing 0.2 --eps 1e-3"
    for line in (f"one.npy y.npz::y {options}", f"p.npy bits.npy {binary}"):
        got = command.answer(f"{line} --scheduler {address.removeprefix('tcp://')}")
        assert got.pop("workers") >= 1
        assert got == command.answer(line)
        assert got["counted"] > 0
    line = "z/shard-0.npy z/shard-0.npy --loss sigmoid_focal_loss"
    said = command.refusal(f"eval {line} --scheduler {address}")
    assert fits(f"...expected a target in [0, 1]{WORKER}", said)


# ---- Workers that die, files that go -------------------------------------------------------------


def test_a_worker_killed_in_the_middle_changes_nothing(workers, command):
    address, client = workers
    client.wait_for_workers(3, timeout=SECONDS)
    with held(address) as (process, pid):
        assert pid in client.run(os.getpid).values()
        kill(pid)
    got = told(ended(process, SECONDS))
    assert 1 <= got.pop("workers") <= 4  # who came for the dead one is another
    assert got == command.answer("z y")


def test_a_shard_that_kills_its_workers_is_named(workers):
    address, client = workers

    def allow(failures, dask_scheduler=None):
        before = dask_scheduler.allowed_failures
        dask_scheduler.allowed_failures = failures
        return before

    client.wait_for_workers(3, timeout=SECONDS)
    before = client.run_on_scheduler(allow, 0)
    try:
        with held(address) as (process, pid):
            kill(pid)
            said = refusal_of(process)
    finally:
        client.run_on_scheduler(allow, before)
    assert fits(f"--scheduler {address}: 1 workers died at .../z/shard-10.npy, the last...", said)


def test_a_shard_that_a_worker_cannot_read_is_named(shards, workers):
    address, client = workers
    client.wait_for_workers(1, timeout=SECONDS)
    with held(address) as (process, _):
        Path("z/shard-10.npy").unlink()
    assert fits(f"{shards}/z/shard-10.npy: No such file or directory{WORKER}", refusal_of(process))


def test_a_scheduler_that_dies_in_the_middle_is_reported():
    with cluster(1, env=preloaded(HOLD)) as (address, head), held(address) as (process, _):
        kill(head.pid)
        said = refusal_of(process)
    assert said.startswith(f"--scheduler {address}: was lost before it was done: ")


def test_ctrl_c_ends_it(workers):
    address, _ = workers
    with held(address) as (process, _):
        process.send_signal(signal.SIGINT)
        ran = ended(process, SECONDS)
    assert (ran.returncode, ran.stdout, ran.stderr) == (130, "", "")


# ---- What cannot begin ---------------------------------------------------------------------------


def test_workers_and_scheduler_without_xloss(command):
    """The scheduler does without; of a worker the line says what it lacks."""
    with cluster(1, script=f"{HIDE}\n{CLUSTER}", env=preloaded(HIDE)) as (address, _):
        said = command.refusal(f"eval z y --scheduler {address}")
    assert fits(f"xloss cannot be imported: ...xloss...{WORKER}", said)


def test_workers_with_another_xloss(workers, command, monkeypatch):
    address, _ = workers
    monkeypatch.setattr(cluster_module, "__version__", "9.0")
    said = command.refusal(f"eval z y --scheduler {address}")
    assert fits(f"--scheduler {address}: worker tcp://... has xloss 0..., and this is 9.0", said)


def test_a_cluster_without_a_worker(command, monkeypatch):
    monkeypatch.setattr(cluster_module, "MAX_IDLE_SECONDS", 1)
    monkeypatch.setattr(cluster_module, "POLL_SECONDS", 0.5)
    with cluster(0) as (address, _):
        said = command.refusal(f"eval z y --scheduler {address}")
    assert said == f"--scheduler {address}: has had no worker for 1 seconds"


def test_addresses_of_no_scheduler(workers, command, monkeypatch):
    """A closed port, one that is silent, one that speaks otherwise, a worker's, and no address."""
    monkeypatch.setattr(cluster_module, "CONNECT_SECONDS", 1)
    _, client = workers
    worker = next(iter(client.scheduler_info()["workers"]))
    with socket.socket() as closed, socket.socket() as silent, socket.socket() as other:
        for s in (closed, silent, other):
            s.bind(("127.0.0.1", 0))
        ports = [s.getsockname()[1] for s in (closed, silent, other)]
        silent.listen()
        other.listen()
        threading.Thread(target=speak, args=(other,), daemon=True).start()
        for address, expected in {
            f"tcp://127.0.0.1:{ports[0]}": "cannot be reached: Timed out",
            f"tcp://127.0.0.1:{ports[1]}": "cannot be reached: no answer in 1 seconds",
            f"tcp://127.0.0.1:{ports[2]}": "does not talk as a Dask scheduler does: ",
            worker: "expected a scheduler's address, got that of a Worker",
            "nonsense": "cannot be reached: missing port",
        }.items():
            said = command.refusal(f"eval z y --scheduler {address}")
            assert said.startswith(f"--scheduler {address}: {expected}")
    process = started("eval z y --scheduler nonsense")  # Dask logs nothing in a process either
    assert "cannot be reached: missing port" in refusal_of(process)


def speak(listening):
    with contextlib.suppress(OSError):
        while True:
            there, _ = listening.accept()
            with there:
                there.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n" * 9)
