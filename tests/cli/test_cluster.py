"""xloss eval --scheduler: the same numbers, workers that die, and refusals, each of one line."""

import contextlib
import os
import re
import signal
import socket
import threading

import numpy as np
import pytest

from cli_cluster import (
    HIDE,
    HOLD,
    SIZES,
    ended,
    held,
    preloaded,
    saved_shards,
    start,
    three_workers,
)
from cli_runs import answer, limited, refused
from cluster import CLUSTER, SECONDS, cluster, kill
from xloss.cli import cluster as cluster_module
from xloss.cli import evaluate as evaluate_module

distributed = pytest.importorskip("distributed", reason="pip install 'xloss[distributed]'")


@pytest.fixture(scope="module")
def workers():
    """A cluster of three worker processes: its address, and a client to disturb it by."""
    with three_workers() as made:
        yield made


@pytest.fixture
def shards(folder):
    """Twelve shards of 7 classes in the current folder, and their labels; nothing may hang."""
    saved_shards(folder)
    with limited(SECONDS):
        yield folder


# ---- The same numbers ----------------------------------------------------------------------------


def test_a_cluster_gives_the_numbers_of_one_process(shards, workers, capsys, monkeypatch):
    """The whole answer, worst rows and findings too; shards whole, and cut in pieces."""
    address, _ = workers
    for i, row in ((2, 7), (5, 17), (5, 3)):
        logits = np.load(f"z/shard-{i}.npy")
        logits[row, 3] = np.nan
        np.save(f"z/shard-{i}.npy", logits)
    given = ("z", "y", "--worst", 40)
    expected = answer(capsys, *given, code=1)
    assert expected["findings"][0]["positions"] == [[47], [129], [143]]
    whole = answer(capsys, *given, "--scheduler", address, code=1)
    small = "import xloss.cli.evaluate as e; e.TASK_LOGITS = 7 * 4"
    cut = ended(start(*given, "--json", "--scheduler", address, before=small), code=1)
    assert [whole.pop("workers") in (1, 2, 3), cut.pop("workers") in (2, 3)] == [True, True]
    assert whole == cut == expected
    monkeypatch.setattr(evaluate_module, "TASK_LOGITS", 7 * 4)
    assert answer(capsys, *given, code=1) == expected


def test_only_the_workers_import_the_array_library(shards, workers, capsys):
    address, _ = workers
    expected = answer(capsys, "z", "y")
    hidden = "import sys; sys.modules['array_api_strict'] = sys.modules['numba'] = None"
    given = ("z", "y", "--json", "--backend", "array_api_strict", "--scheduler", address)
    got = ended(start(*given, before=hidden))
    assert got["backend"] == "array_api_strict"
    assert got["loss"] == pytest.approx(expected["loss"], rel=1e-6)


def test_every_option_loss_and_kind_of_file_goes_to_the_workers(shards, workers, capsys):
    """Every option, shifted labels, a .csv of labels, probabilities, targets of elements."""
    address, _ = workers
    rng = np.random.default_rng(6)
    z, y, p = rng.normal(size=(9, 6, 7)), rng.integers(0, 7, (9, 6)), rng.dirichlet(np.ones(7), 9)
    for name, array in (("many", z), ("labels", y[..., None])):
        (shards / name).mkdir()
        for i in range(3):
            np.save(f"{name}/{i}.npy", array[3 * i : 3 * i + 3])
    np.save("w.npy", rng.uniform(size=7))
    np.save("one.npy", np.moveaxis(z, -1, 0))
    np.savez("y.npz", y=np.where(rng.random((9, 6)) < 0.2, 255, y), other=y)
    np.save("p.npy", p)
    (shards / "y.csv").write_text("id,y\n" + "".join(f"{i},{c}\n" for i, c in enumerate(y[:, 0])))
    np.save("bits.npy", rng.integers(0, 2, p.shape))
    smooth = ("--label-smoothing", 0.2)
    options = ("--axis", 0, "--ignore-index", 255, *smooth, "--weight", "w.npy", "--worst", 3)
    for given in (
        ("one.npy", "y.npz::y", *options),
        ("many", "labels", "--shift"),
        ("p.npy", "y.csv::y", "--loss", "log_loss", "--eps", 1e-3),
        ("p.npy", "bits.npy", "--loss", "binary_cross_entropy", *smooth),
    ):
        got = answer(capsys, *given, "--scheduler", address.removeprefix("tcp://"))
        assert got.pop("workers") >= 1
        assert got == answer(capsys, *given)
        assert got["counted"] > 0
    given = ("z/shard-0.npy", "z/shard-0.npy", "--loss", "sigmoid_focal_loss")
    said = refused(capsys, *given, "--scheduler", address)
    assert re.search(r"expected a target in \[0, 1\] \(on worker tcp://[\d.:]+\)$", said)


# ---- Workers that die, files that go -------------------------------------------------------------


def test_a_worker_killed_in_the_middle_changes_nothing(shards, workers, capsys):
    address, client = workers
    client.wait_for_workers(3, timeout=SECONDS)
    expected = answer(capsys, "z", "y")
    with held(shards, "z", "y", "--json", "--scheduler", address) as (process, pid):
        assert pid in client.run(os.getpid).values()
        kill(pid)
    got = ended(process)
    assert 1 <= got.pop("workers") <= 4  # who came for the dead one is another
    assert got == expected


def test_a_shard_that_kills_its_workers_is_named(shards, workers):
    address, client = workers

    def allow(failures, dask_scheduler=None):
        before = dask_scheduler.allowed_failures
        dask_scheduler.allowed_failures = failures
        return before

    client.wait_for_workers(3, timeout=SECONDS)
    before = client.run_on_scheduler(allow, 0)
    try:
        with held(shards, "z", "y", "--scheduler", address) as (process, pid):
            kill(pid)
            said = ended(process, 2)
    finally:
        client.run_on_scheduler(allow, before)
    assert re.match(rf"--scheduler {address}: 1 workers died at .*/z/shard-10.npy, the last", said)


def test_a_shard_that_a_worker_cannot_read_is_named(shards, workers):
    address, client = workers
    client.wait_for_workers(1, timeout=SECONDS)
    with held(shards, "z", "y", "--scheduler", address) as (process, _):
        (shards / "z" / "shard-10.npy").unlink()
    said = ended(process, 2)
    where = re.escape(str(shards / "z" / "shard-10.npy"))
    assert re.fullmatch(rf"{where}: No such file or directory \(on worker tcp://[\d.:]+\)", said)


def test_a_scheduler_that_dies_in_the_middle_is_reported(shards):
    with (
        cluster(1, env=preloaded(HOLD)) as (address, head),
        held(shards, "z", "y", "--scheduler", address) as (process, _),
    ):
        kill(head.pid)
        said = ended(process, 2)
    assert said.startswith(f"--scheduler {address}: was lost before it was done: ")


# ---- What cannot begin ---------------------------------------------------------------------------


def test_workers_and_scheduler_without_xloss(shards):
    """The scheduler does without; of a worker the line says what it lacks."""
    with cluster(1, script=f"{HIDE}\n{CLUSTER}", env=preloaded(HIDE)) as (address, _):
        said = ended(start("z", "y", "--scheduler", address), 2)
    assert re.match("xloss cannot be imported: .*xloss.* \\(on worker tcp://", said)


def test_workers_with_another_xloss(shards, workers, capsys, monkeypatch):
    address, _ = workers
    monkeypatch.setattr(cluster_module, "__version__", "9.0")
    said = refused(capsys, "z", "y", "--scheduler", address)
    assert re.search(r"worker tcp://[\d.:]+ has xloss 0[\d.]+, and this is 9.0", said)


def test_a_cluster_without_a_worker(shards, capsys, monkeypatch):
    monkeypatch.setattr(cluster_module, "MAX_IDLE_SECONDS", 1)
    monkeypatch.setattr(cluster_module, "POLL_SECONDS", 0.5)
    with cluster(0) as (address, _):
        said = refused(capsys, "z", "y", "--scheduler", address)
    assert said == f"--scheduler {address}: has had no worker for 1 seconds"


def test_addresses_of_no_scheduler(shards, workers, capsys, monkeypatch):
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
            "": "cannot be reached: missing port",
        }.items():
            said = refused(capsys, "z", "y", "--scheduler", address)
            assert said.startswith(f"--scheduler {address}: {expected}")


def speak(listening):
    with contextlib.suppress(OSError):
        while True:
            there, _ = listening.accept()
            with there:
                there.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n" * 9)


def test_an_unreachable_scheduler_leaves_one_line(shards):
    assert "cannot be reached" in ended(start("z", "y", "--scheduler", "nonsense"), 2)


def test_without_distributed_the_line_says_what_to_install(shards):
    hide = "import sys; sys.modules['distributed'] = None"
    said = ended(start("z", "y", "--scheduler", "tcp://127.0.0.1:1", before=hide), 2)
    expected = '--scheduler: distributed is not installed: pip install "xloss[distributed]"'
    assert said == expected
    assert ended(start("z", "y", "--json", before=hide))["rows"] == sum(SIZES)


def test_ctrl_c_ends_it(shards, workers):
    address, _ = workers
    with held(shards, "z", "y", "--scheduler", address) as (process, _):
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=SECONDS)
    assert (process.returncode, out, err) == (130, "", "")
