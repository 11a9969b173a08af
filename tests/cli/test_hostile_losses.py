"""xloss conform on a loss that hangs, forks, goes elsewhere, closes what it has, or says strange
things: it ends in time, leaves no process behind, and one line names who it was."""

import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

pytestmark = pytest.mark.skipif(os.name == "nt", reason="no process groups")

HOSTILE_LOSSES = """
import contextlib
import os
import pathlib
import signal
import subprocess
import sys
import time

import numpy as np


def exact(logits, targets):
    m = logits.max(-1, keepdims=True)
    e = np.where(logits == m, 0.0, np.exp(np.float64(logits - m)))
    rest = e.sum(-1) + ((logits == m).sum(-1) - 1)
    rows = np.arange(len(targets))
    return np.float32((np.log1p(rest) + (m[:, 0] - logits[rows, targets])).mean())


def began():
    with open(HERE / "pids", "a") as f:
        f.write(f"{os.getpid()}\\n")


HERE = pathlib.Path(__file__).resolve().parent


def hangs(logits, targets):
    began()
    time.sleep(600)


def spins(logits, targets):
    began()
    while True:
        pass


def deaf(logits, targets):
    for number in range(1, signal.NSIG):
        with contextlib.suppress(OSError, ValueError):
            signal.signal(number, signal.SIG_IGN)
    began()
    time.sleep(600)


def stops(logits, targets):
    began()
    os.kill(os.getpid(), signal.SIGSTOP)


def child_hangs(logits, targets):
    if os.fork() == 0:
        began()
        time.sleep(600)
    return exact(logits, targets)


def child_stays_and_it_dies(logits, targets):
    if os.fork() == 0:
        began()
        time.sleep(600)
    os._exit(3)


def child_leaves_the_group(logits, targets):
    if os.fork() == 0:
        os.setsid()
        os.closerange(0, 3)  # what the command prints to ends with the command
        with open(HERE / "left", "a") as f:
            f.write(f"{os.getpid()}\\n")
        time.sleep(600)
    return exact(logits, targets)


def comes_back_twice(logits, targets):
    os.fork()
    return exact(logits, targets)


def goes_elsewhere(logits, targets):
    os.chdir("/")
    return exact(logits, targets)


def closes_all(logits, targets):
    os.closerange(0, 1000)
    return exact(logits, targets)


def closes_all_and_opens(logits, targets):
    os.closerange(3, 1000)
    files = [open(HERE / f"file-{i}", "wb") for i in range(60)]
    exact.files = files
    return exact(logits, targets)


def raises(logits, targets):
    raise ValueError("\\x1b]0;owned\\x07\\nxloss: all is well\\udcff")
"""
AT_IMPORT = "import time\ntime.sleep(600)\ndef f(logits, targets): return 0.0\n"
ONE = ("--case", "tail/gap 17")
TWO = ("--case", "tail/gap ??")


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    """A folder with the losses; in the end none of their processes is left."""
    monkeypatch.chdir(tmp_path)
    Path("mine.py").write_text(HOSTILE_LOSSES)
    Path("slow.py").write_text(AT_IMPORT)
    yield tmp_path
    for pid in map(int, Path("pids").read_text().split() if Path("pids").exists() else ()):
        for _ in range(100):
            if not alive(pid):
                break
            time.sleep(0.05)
        else:
            os.kill(pid, signal.SIGKILL)
            pytest.fail(f"process {pid} was left behind")


def alive(pid):
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    # An orphan whose new parent has not collected it yet has ended all the same.
    stat = Path(f"/proc/{pid}/stat")
    return not stat.exists() or stat.read_text().rpartition(")")[2].split()[0] != "Z"


def conform(*arguments, seconds=120):
    return subprocess.run(
        [sys.executable, "-W", "error", "-m", "xloss", "conform", *arguments],
        capture_output=True,
        text=True,
        check=False,
        timeout=seconds,
    )


@pytest.mark.parametrize("name", ["hangs", "spins", "deaf", "stops"])
def test_one_that_does_not_answer_is_ended_in_time(name):
    ran = conform(f"mine.py:{name}", *ONE, "--timeout", "2")
    assert (ran.returncode, ran.stdout) == (2, "")
    assert ran.stderr == (
        f"xloss: the process running mine.py:{name} float32 on tail/gap 17 gave no answer in 2 s "
        "(--timeout)\n"
    )
    assert Path("pids").exists()


def test_one_that_hangs_when_it_is_imported():
    ran = conform("slow.py:f", *ONE, "--timeout", "2")
    assert (ran.returncode, ran.stdout) == (2, "")
    assert ran.stderr == (
        "xloss: the process loading slow.py:f gave no answer in 2 s (--timeout)\n"
    )


def test_one_of_two_that_are_compared_hangs():
    ran = conform(
        "mine.py:exact", "--against", "mine.py:hangs", "--family", "tail", "--timeout", "2"
    )
    assert (ran.returncode, ran.stdout) == (2, "")
    assert re.fullmatch(
        r"xloss: the process comparing mine.py:exact and mine.py:hangs, at case 1 of \d+, gave no "
        r"answer in 2 s \(--timeout\)\n",
        ran.stderr,
    )


def test_a_process_that_it_leaves_behind_is_ended():
    ran = conform("mine.py:child_hangs", *TWO)
    assert (ran.returncode, ran.stderr) == (0, "")
    assert len(Path("pids").read_text().split()) > 1


def test_its_end_is_seen_though_a_child_of_it_holds_the_pipe():
    begun = time.monotonic()
    ran = conform("mine.py:child_stays_and_it_dies", *ONE)
    assert time.monotonic() - begun < 60
    assert (ran.returncode, ran.stdout) == (2, "")
    assert ran.stderr == (
        "xloss: the process running mine.py:child_stays_and_it_dies float32 on tail/gap 17 died: "
        "exit code 3\n"
    )


def test_a_process_that_leaves_the_group_holds_up_nothing():
    """It holds no pipe of its parent's: the command would wait for their end for ever."""
    try:
        ran = conform("mine.py:child_leaves_the_group", *ONE)
        assert (ran.returncode, ran.stderr) == (0, "")
    finally:
        left = [int(pid) for pid in Path("left").read_text().split()]
        for pid in left:
            os.kill(pid, signal.SIGKILL)
    assert left


def test_one_that_comes_back_twice_answers_once():
    ran = conform("mine.py:comes_back_twice", *TWO, "--json")
    assert (ran.returncode, ran.stderr) == (0, "")
    cases = [cell["case"] for cell in json.loads(ran.stdout)["cells"]]
    assert len(cases) == len(set(cases)) > 3


def test_one_that_goes_to_another_folder():
    """The same relative name is loaded again for the second dtype, in the same process."""
    ran = conform(
        "mine.py:goes_elsewhere",
        *TWO,
        "--jobs",
        "1",
        "--dtype",
        "float32",
        "--dtype",
        "float16",
        "--json",
    )
    assert (ran.returncode, ran.stderr) == (0, "")
    assert {s["dtype"] for s in json.loads(ran.stdout)["subjects"]} == {"float32", "float16"}


@pytest.mark.parametrize("name", ["closes_all", "closes_all_and_opens"])
def test_one_that_closes_its_descriptors(name, folder):
    ran = conform(f"mine.py:{name}", *ONE)
    assert (ran.returncode, ran.stdout) == (2, "")
    assert ran.stderr == (
        f"xloss: the process running mine.py:{name} float32 on tail/gap 17 died: it closed the "
        "pipe that its answers go through\n"
    )
    assert all(file.stat().st_size == 0 for file in folder.glob("file-*"))


def test_what_it_ignores_when_the_command_is_killed():
    command = [sys.executable, "-m", "xloss", "conform", "mine.py:deaf", *ONE]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as started:
        for _ in range(600):
            if Path("pids").exists():
                break
            time.sleep(0.1)
        started.kill()


@pytest.mark.parametrize("given", ["0", "-3", "nan", "soon"])
def test_a_timeout_that_is_not_positive_is_refused(given):
    ran = conform("mine.py:exact", *ONE, "--timeout", given)
    assert (ran.returncode, ran.stdout) == (2, "")
    assert re.fullmatch(r"xloss: [^\n]*--timeout[^\n]+\n", ran.stderr)


# ---- What it says --------------------------------------------------------------------------------


def test_reports_escape_control_characters(folder):
    """Terminal, JSON and page: the name of a file, and what an exception says."""
    name = "a\x1b]0;x\x07\n\u202e" + os.fsdecode(b"\xff") + ".py"
    os.rename("mine.py", name)
    given = (f"{name}:raises", *ONE, "--html", "page.html")
    shown = conform(*given)
    told = conform(*given, "--json")
    page = (folder / "page.html").read_bytes().decode("utf-8")
    for text in (shown.stdout, told.stdout, page):
        assert all(c.isprintable() or c == "\n" for c in text.replace("\t", ""))
        assert "xloss: all is well\n" not in text
    assert (shown.returncode, told.returncode) == (1, 1)
    assert shown.stderr == told.stderr == ""
    visible = r"a\x1b]0;x\x07\n\u202e\xff.py:raises"
    assert visible in shown.stdout
    record = json.loads(told.stdout)
    assert record["subjects"][0]["name"] == f"{visible} float32"
    assert visible in record["command"]
    (cell,) = record["cells"]
    assert cell["findings"][0]["detail"] == (
        r"ValueError: \x1b]0;owned\x07"  # its first line
    )
    compile(cell["call"], "call", "exec")  # the lines that show it again are Python
    compared = conform(
        f"{name}:raises", "--against", f"{name}:exact", "--family", "tail", "--quick"
    )
    assert compared.returncode == 1
    assert all(c.isprintable() or c == "\n" for c in compared.stdout)
    assert compared.stderr == ""
