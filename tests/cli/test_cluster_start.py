"""xloss eval --scheduler: what keeps a run from beginning, or ends it, is one line."""

import contextlib
import re
import signal
import socket
import threading

import pytest

from cli_cluster import (
    HIDE,
    SIZES,
    ended,
    held,
    here,
    preloaded,
    saved_shards,
    start,
    three_workers,
)
from cluster import CLUSTER, SECONDS, cluster
from xloss.cli import cluster as cluster_module

distributed = pytest.importorskip("distributed", reason="pip install 'xloss[distributed]'")


@pytest.fixture(scope="module")
def workers():
    """A cluster of three worker processes: its address, and a client to disturb it by."""
    with three_workers() as made:
        yield made


@pytest.fixture
def shards(tmp_path, monkeypatch):
    """Twelve shards of 7 classes in the current folder, and their labels."""
    monkeypatch.chdir(tmp_path)
    saved_shards(tmp_path)
    return tmp_path


# ---- What cannot begin ---------------------------------------------------------------------------


def test_workers_and_scheduler_without_xloss(shards):
    """The scheduler does without; of a worker the line says what it lacks."""
    with cluster(1, script=f"{HIDE}\n{CLUSTER}", env=preloaded(HIDE)) as (address, _):
        said = ended(start("z", "y", "--scheduler", address), 2)
    assert re.match("xloss cannot be imported: .*xloss.* \\(on worker tcp://", said)


def test_workers_with_another_xloss(shards, workers, capsys, monkeypatch):
    address, _ = workers
    monkeypatch.setattr(cluster_module, "__version__", "9.0")
    said = here(capsys, "z", "y", "--scheduler", address, code=2)
    assert re.search(r"worker tcp://[\d.:]+ has xloss 0[\d.]+, and this is 9.0", said)


def test_a_cluster_without_a_worker(shards, capsys, monkeypatch):
    monkeypatch.setattr(cluster_module, "MAX_IDLE_SECONDS", 1)
    monkeypatch.setattr(cluster_module, "POLL_SECONDS", 0.5)
    with cluster(0) as (address, _):
        said = here(capsys, "z", "y", "--scheduler", address, code=2)
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
            said = here(capsys, "z", "y", "--scheduler", address, code=2)
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
