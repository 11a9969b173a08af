"""xloss bench: what is printed where, exit codes, the record, refusals."""

import json
import os
import re
import signal
import subprocess
import sys
import time

import pytest

from xloss.cli.app import run

pytest.importorskip("torch")


def xloss(*arguments, **options):
    """Run the command in a process of its own."""
    return subprocess.run(
        [sys.executable, "-W", "error", "-m", "xloss.cli", "bench", *map(str, arguments)],
        capture_output=True,
        text=True,
        check=False,
        **options,
    )


def refused(capsys, *arguments):
    """Run the command here, which must refuse; return its line."""
    assert run(["bench", *map(str, arguments)]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert re.fullmatch(r"xloss: [^\n]+\n", err), err
    return err[7:-1]


def test_json_is_alone_on_stdout_and_whole():
    ran = xloss(
        "--tiny",
        "--op",
        "gradient",
        "--op",
        "small",
        "--op",
        "memory",
        "--peer",
        "torch",
        "--peer",
        "scipy",
        "--json",
    )
    assert (ran.returncode, ran.stderr) == (0, "")
    record = json.loads(ran.stdout)
    assert record["schema"] == 1
    assert set(record) == {
        "schema",
        "xloss",
        "date",
        "mode",
        "command",
        "machine",
        "versions",
        "threads",
        "load",
        "ops",
        "peers",
        "seconds",
        "contenders",
        "missing",
        "works",
        "by_classes",
        "by_rows",
        "by_threads",
        "memory",
        "first_call",
        "imports",
        "targets",
    }
    assert (record["ops"], record["peers"]) == (["gradient", "small", "memory"], ["torch", "scipy"])
    assert {(w["op"], w["gradient"]) for w in record["works"]} == {
        ("gradient", True),
        ("small", False),
        ("small", True),
    }
    for work in record["works"]:
        runs = {r["contender"]: r for r in work["runs"]}
        assert {"xloss numpy", "xloss torch", "torch"} <= set(runs)
        for one in (*runs.values(), work["bound"]):
            assert 0 < one["min_ms"] <= one["q1_ms"] <= one["median_ms"] <= one["q3_ms"]
            assert one["runs"] >= 1
        for one in runs.values():
            assert one["gb_s"] == pytest.approx(work["moved"] / one["median_ms"] / 1e6)
        assert runs["xloss numpy, generic"]["engine"] == "generic"
        assert runs["xloss numpy"]["engine"] in ("cpu", "generic")
        assert runs["torch"]["engine"] == ""
        told = {r["contender"]: r["reason"] for r in work["refused"]}
        assert told == ({"scipy": "gives no gradient"} if work["gradient"] else {})
    told = {(m["contender"], m["classes"]): m["peak_bytes"] for m in record["memory"]}
    assert {("xloss numpy", 10), ("torch", 50), ("scipy", 10)} <= set(told)
    assert {c["name"]: c["version"] for c in record["contenders"]}["torch"].startswith("2.")
    judged = {(t["op"], t["subject"], t["against"]) for t in record["targets"]}
    assert ("gradient", "xloss torch", "torch") in judged
    assert ("small", "xloss numpy", "") in judged


def test_tables_as_text_and_published_documents(tmp_path):
    pytest.importorskip("matplotlib")
    ran = xloss(
        "--tiny", "--op", "forward", "--op", "classes", "--peer", "torch", "--publish", tmp_path
    )
    assert (ran.returncode, ran.stderr) == (0, "")
    assert re.search(r"^float32 \(64, 10\), value$", ran.stdout, re.MULTILINE)
    assert re.search(r"\d+ of 8 targets met; \d+ threads, in \d+ s\n$", ran.stdout)
    assert "\x1b" not in ran.stdout
    names = {path.name for path in tmp_path.iterdir()}
    assert names == {"performance.json", "performance.md", "performance-throughput.svg"}
    text = (tmp_path / "performance.md").read_text()
    assert (
        f"by `xloss bench --tiny --op forward --op classes --peer torch --publish {tmp_path}`"
        in (text)
    )
    (tmp_path / "performance.md").unlink()
    assert run(["bench", "--publish", str(tmp_path), "--render"]) == 0
    assert (tmp_path / "performance.md").read_text() == text


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (("--op", "backward"), "--op backward: there is none of that name; expected one of forw"),
        (
            ("--peer", "jax"),
            "--peer jax: there is none of that name; expected one of torch, torch.",
        ),
        (("--threads", "100000"), "--threads 100000: this machine has "),
        (("--threads", "0"), "Invalid value for '--threads'"),
        (
            ("--op", "dask", "--op", "small", "--publish", "."),
            "--publish: a page of its own is for dask: ask for nothing else",
        ),
        (("--render",), "--render: expected --publish FOLDER"),
        (("--publish", "nowhere"), "--publish nowhere: is not a folder"),
        (("--publish", ".", "--render"), "performance.json: no record of a run: "),
    ],
)
def test_a_refusal_is_one_line_and_exit_code_2(capsys, tmp_path, monkeypatch, arguments, line):
    monkeypatch.chdir(tmp_path)
    assert line in refused(capsys, *arguments)


def test_without_matplotlib_nothing_is_measured(capsys, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    start = time.monotonic()
    asked = ("--tiny", "--op", "small", "--publish", tmp_path)
    assert "pip install matplotlib" in refused(capsys, *asked)
    assert time.monotonic() - start < 2


def test_a_peer_that_is_not_installed(tmp_path):
    lines = "print('noise', flush=True)", "raise ModuleNotFoundError('no optax', name='optax')"
    (tmp_path / "optax.py").write_text("\n".join(lines))
    paths = [str(tmp_path), *filter(None, [os.environ.get("PYTHONPATH")])]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(paths)}
    ran = xloss("--tiny", "--op", "small", "--peer", "optax", env=environment)
    assert (ran.returncode, ran.stdout) == (2, "")
    assert ran.stderr == "noise\nxloss: optax: optax is not installed: pip install optax\n"


@pytest.mark.parametrize(
    ("sent", "code"), [(signal.SIGINT, 130), (signal.SIGKILL, -signal.SIGKILL)]
)
def test_a_signal_ends_it_and_its_processes(tmp_path, sent, code):
    began = tmp_path / "began"
    lines = "import os, pathlib, time", f"pathlib.Path({str(began)!r}).write_text(str(os.getpid()))"
    (tmp_path / "optax.py").write_text("\n".join([*lines, "time.sleep(60)"]))
    paths = [str(tmp_path), *filter(None, [os.environ.get("PYTHONPATH")])]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(paths)}
    command = [sys.executable, "-m", "xloss.cli", "bench", "--op", "small", "--peer", "optax"]
    # Whatever runs the tests in the background has the interrupt ignored, and hands that down.
    heard = (
        "import os, signal, sys\n"
        "signal.signal(signal.SIGINT, signal.SIG_DFL)\n"
        "os.execv(sys.argv[1], sys.argv[1:])"
    )
    with subprocess.Popen(
        [sys.executable, "-c", heard, *command],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=environment,
        start_new_session=True,
    ) as process:
        until = time.monotonic() + 60
        while not (began.exists() and began.read_text()) and time.monotonic() < until:
            time.sleep(0.05)
        child = int(began.read_text())
        process.send_signal(sent)
        out, err = process.communicate(timeout=30)  # their end of stderr is closed too
    assert (process.returncode, out) == (code, "")
    assert "Traceback" not in err
    until = time.monotonic() + 10
    while _runs(child) and time.monotonic() < until:
        time.sleep(0.05)
    assert not _runs(child)


def _runs(pid):
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True
