"""xloss eval --scheduler: real worker processes, the same numbers, and one line where it fails."""

import contextlib
import json
import os
import re
import signal
import socket
import subprocess
import sys
import threading

import numpy as np
import pytest

from cluster import CLUSTER, SECONDS, cluster, kill, until
from xloss.cli import cluster as cluster_module
from xloss.cli import evaluate as evaluate_module
from xloss.cli.app import run

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
        client.wait_for_workers(3, timeout=SECONDS)
        yield address, client


@pytest.fixture
def shards(tmp_path, monkeypatch):
    """Twelve shards of 7 classes in the current folder, and their labels."""
    monkeypatch.chdir(tmp_path)
    rng = np.random.default_rng(2)
    for name in ("z", "y"):
        (tmp_path / name).mkdir()
    for i, rows in enumerate(SIZES):
        logits = rng.normal(scale=4, size=(rows, 7)).astype(np.float32)
        labels = rng.integers(0, 7, rows)
        labels[::9] = -100
        np.save(f"z/shard-{i}.npy", logits)
        np.save(f"y/shard-{i}.npy", labels)
    return tmp_path


def start(*arguments, before=""):
    """Start the command in a process of its own; `before` is Python that runs first."""
    # Whatever runs the tests in the background has the interrupt ignored, and hands that down.
    heard = "import signal; signal.signal(signal.SIGINT, signal.default_int_handler)"
    code = f"{heard}\n{before}\nfrom xloss.cli import main; main()"
    return subprocess.Popen(
        [sys.executable, "-W", "error", "-c", code, "eval", *map(str, arguments)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def ended(process, code=0):
    """Return what the command says: JSON, or the line in which it refuses."""
    try:
        out, err = process.communicate(timeout=SECONDS)
    finally:
        process.kill()
    assert process.returncode == code, err
    if code == 2:
        assert out == ""
        assert re.fullmatch(r"xloss: [^\n]+\n", err), err
        return err[7:-1]
    assert bool(err) == bool(code)  # a NaN loss
    got = json.loads(out, parse_constant=pytest.fail)
    assert got.pop("seconds") > 0
    return got


@contextlib.contextmanager
def limited():
    """Fail what hangs in this process."""

    def late(*_):
        pytest.fail("did not end")  # no Exception: the command would make a line of it

    before = signal.signal(signal.SIGALRM, late)
    signal.setitimer(signal.ITIMER_REAL, SECONDS)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def here(capsys, *arguments, code=0):
    """Run the command in this process; return what it says."""
    with limited():
        assert run(["eval", *map(str, arguments)]) == code
    out, err = capsys.readouterr()
    if code == 2:
        assert out == ""
        assert re.fullmatch(r"xloss: [^\n]+\n", err), err
        return err[7:-1]
    got = json.loads(out)
    got.pop("seconds")
    return got


# ---- The same numbers ----------------------------------------------------------------------------


def test_a_cluster_gives_the_numbers_of_one_process(shards, workers, capsys, monkeypatch):
    """The whole answer, worst rows and findings too; shards whole, and cut in pieces."""
    address, _ = workers
    for i, row in ((2, 7), (5, 17), (5, 3)):
        logits = np.load(f"z/shard-{i}.npy")
        logits[row, 3] = np.nan
        np.save(f"z/shard-{i}.npy", logits)
    expected = here(capsys, "z", "y", "--worst", 40, "--json", code=1)
    assert expected["findings"][0]["positions"] == [[47], [129], [143]]
    given = ("z", "y", "--worst", 40, "--json", "--scheduler", address)
    whole = here(capsys, *given, code=1)
    cut = ended(
        start(*given, before="import xloss.cli.evaluate as e; e.TASK_LOGITS = 7 * 4"), code=1
    )
    assert [whole.pop("workers") in (1, 2, 3), cut.pop("workers") in (2, 3)] == [True, True]
    assert whole == expected
    assert cut == expected
    monkeypatch.setattr(evaluate_module, "TASK_LOGITS", 7 * 4)
    assert here(capsys, "z", "y", "--worst", 40, "--json", code=1) == expected


def test_only_the_workers_import_the_array_library(shards, workers, capsys):
    address, _ = workers
    expected = here(capsys, "z", "y", "--json")
    hidden = "import sys; sys.modules['torch'] = sys.modules['numba'] = None"
    given = ("z", "y", "--json", "--backend", "torch", "--scheduler", address)
    got = ended(start(*given, before=hidden))
    assert (got["backend"], got["loss"]) == ("torch", pytest.approx(expected["loss"], rel=1e-6))


def test_one_file_and_every_option_go_to_the_workers(shards, workers, capsys):
    address, _ = workers
    rng = np.random.default_rng(4)
    np.save("w.npy", rng.uniform(size=7))
    np.save("one.npy", rng.normal(size=(7, 50, 3)))
    np.savez("labels.npz", y=np.where(rng.random((50, 3)) < 0.2, 255, rng.integers(0, 7, (50, 3))))
    given = (
        "one.npy",
        "labels.npz::y",
        "--axis",
        0,
        "--ignore-index",
        255,
        "--label-smoothing",
        0.2,
        "--weight",
        "w.npy",
        "--worst",
        3,
        "--json",
    )
    got = here(capsys, *given, "--scheduler", address.removeprefix("tcp://"))
    assert got.pop("workers") == 1
    assert got == here(capsys, *given)
    assert got["ignored"] > 0


# ---- Workers that die, files that go -------------------------------------------------------------


@contextlib.contextmanager
def held(folder, *arguments):
    """Start the command, and stop in the middle: one worker is at a shard; yield its process."""
    hold = folder / "z" / "shard-10.npy.hold"
    hold.touch()
    process = start(*arguments)
    try:
        yield process, int(until(hold.with_suffix(".waits")))
        hold.unlink(missing_ok=True)
    finally:
        hold.unlink(missing_ok=True)


def test_a_worker_killed_in_the_middle_changes_nothing(shards, workers, capsys):
    address, client = workers
    client.wait_for_workers(3, timeout=SECONDS)
    expected = here(capsys, "z", "y", "--json")
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


def test_what_keeps_a_worker_from_a_shard_is_said(shards, workers):
    address, client = workers
    client.wait_for_workers(1, timeout=SECONDS)
    with held(shards, "z", "y", "--scheduler", address) as (process, _):
        (shards / "z" / "shard-10.npy").unlink()
    said = ended(process, 2)
    where = re.escape(str(shards / "z" / "shard-10.npy"))
    assert re.fullmatch(rf"{where}: No such file or directory \(on worker tcp://[\d.:]+\)", said)


def test_a_bad_label_is_named_by_file_and_row(shards, workers, capsys):
    address, _ = workers
    labels = np.load("y/shard-3.npy")
    labels[7] = 7
    np.save("y/shard-3.npy", labels)
    said = here(capsys, "z", "y", "--scheduler", address, code=2)
    assert f"{shards}/y/shard-3.npy: label 7 of row 7 (72 of the whole) is not in" in said


def test_a_scheduler_that_dies_in_the_middle_is_said(shards):
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
    said = here(capsys, "z", "y", "--scheduler", address, code=2)
    assert re.search(r"worker tcp://[\d.:]+ has xloss 0[\d.]+, and this is 9.0", said)


def test_a_cluster_without_a_worker(shards, capsys, monkeypatch):
    monkeypatch.setattr(cluster_module, "NOBODY", 1)
    monkeypatch.setattr(cluster_module, "BEAT", 0.5)
    with cluster(0) as (address, _):
        said = here(capsys, "z", "y", "--scheduler", address, code=2)
    assert said == f"--scheduler {address}: has had no worker for 1 seconds"


def test_addresses_of_no_scheduler(shards, workers, capsys, monkeypatch):
    """A closed port, one that is silent, one that speaks otherwise, a worker's, and no address."""
    monkeypatch.setattr(cluster_module, "CONNECT", 1)
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
