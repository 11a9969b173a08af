"""xloss conform on a loss that hangs, forks, goes elsewhere, closes what it has, or says strange
things: it ends in time, leaves no process behind, and one line names who it was."""

import json
import os
import re
import signal
import subprocess
import sys
import time
from functools import partial
from pathlib import Path

import pytest

from cli_candidates import HOSTILE_LOSSES
from cli_runs import here, process

pytestmark = pytest.mark.skipif(os.name == "nt", reason="no process groups")

AT_IMPORT = "import time\ntime.sleep(600)\ndef f(logits, targets): return 0.0\n"
ONE = ("--case", "tail/gap 17")
TWO = ("--case", "tail/gap ??")


@pytest.fixture(autouse=True)
def losses(folder):
    """The losses in the current folder; in the end none of their processes is left."""
    Path("mine.py").write_text(HOSTILE_LOSSES)
    Path("slow.py").write_text(AT_IMPORT)
    yield
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


@pytest.fixture
def conform(capfd):
    """Run the command; the loss has a process of its own all the same."""
    return partial(here, capfd, "conform")


LATE = r"gave no answer in 2 s \(--timeout\)"
CLOSED = "died: it closed the pipe that its answers go through"
ENDED = {
    "deaf": (("mine.py:deaf", *ONE), f"running mine.py:deaf float32 on tail/gap 17 {LATE}"),
    "stops": (("mine.py:stops", *ONE), f"running mine.py:stops float32 on tail/gap 17 {LATE}"),
    "imported": (("slow.py:f", *ONE), f"loading slow.py:f {LATE}"),
    "compared": (
        ("mine.py:exact", "--against", "mine.py:deaf", "--family", "tail"),
        rf"comparing mine.py:exact and mine.py:deaf, at case 1 of \d+, {LATE}",
    ),
    # A child of it, which goes on, holds the pipe of its answers.
    "ends": (
        ("mine.py:child_stays_and_it_dies", *ONE, "--timeout", 50),
        "running mine.py:child_stays_and_it_dies float32 on tail/gap 17 died: exit code 3",
    ),
    "closes": (
        ("mine.py:closes_all", *ONE, "--timeout", 50),
        f"running mine.py:closes_all float32 on tail/gap 17 {CLOSED}",
    ),
    "opens": (
        ("mine.py:closes_all_and_opens", *ONE, "--timeout", 50),
        f"running mine.py:closes_all_and_opens float32 on tail/gap 17 {CLOSED}",
    ),
}


@pytest.mark.parametrize("case", ENDED)
def test_one_that_does_not_answer_is_ended_in_time(conform, folder, case):
    arguments, said = ENDED[case]
    ran = conform(*(arguments if "--timeout" in arguments else (*arguments, "--timeout", 2)))
    assert (ran.returncode, ran.stdout) == (2, "")
    assert re.fullmatch(f"xloss: the process {said}\n", ran.stderr), ran.stderr
    assert all(file.stat().st_size == 0 for file in folder.glob("file-*"))


def test_a_process_that_it_leaves_behind_is_ended(conform):
    ran = conform("mine.py:child_hangs", *TWO)
    assert (ran.returncode, ran.stderr) == (0, "")
    assert len(Path("pids").read_text().split()) > 1


def test_a_process_that_leaves_the_group_holds_up_nothing():
    """It holds no pipe of its parent's: the command would wait for their end for ever."""
    try:
        ran = process("conform", "mine.py:child_leaves_the_group", *ONE, timeout=120)
        assert (ran.returncode, ran.stderr) == (0, "")
    finally:
        left = [int(pid) for pid in Path("left").read_text().split()]
        for pid in left:
            os.kill(pid, signal.SIGKILL)
    assert left


def test_one_that_comes_back_twice_answers_once(conform):
    ran = conform("mine.py:comes_back_twice", *TWO, "--json")
    assert (ran.returncode, ran.stderr) == (0, "")
    cases = [cell["case"] for cell in json.loads(ran.stdout)["cells"]]
    assert len(cases) == len(set(cases)) > 3


def test_one_that_goes_to_another_folder(conform):
    """The same relative name is loaded again for the second dtype, in the same process."""
    both = ("--dtype", "float32", "--dtype", "float16")
    ran = conform("mine.py:goes_elsewhere", *TWO, "--jobs", 1, *both, "--json")
    assert (ran.returncode, ran.stderr) == (0, "")
    assert {s["dtype"] for s in json.loads(ran.stdout)["subjects"]} == {"float32", "float16"}


def test_what_it_ignores_when_the_command_is_killed():
    command = [sys.executable, "-m", "xloss", "conform", "mine.py:deaf", *ONE]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as started:
        for _ in range(600):
            if Path("pids").exists():
                break
            time.sleep(0.1)
        started.kill()


@pytest.mark.parametrize("given", ["0", "-3", "nan", "soon"])
def test_a_timeout_that_is_not_positive_is_refused(conform, given):
    ran = conform("mine.py:exact", *ONE, "--timeout", given)
    assert (ran.returncode, ran.stdout) == (2, "")
    assert re.fullmatch(r"xloss: [^\n]*--timeout[^\n]+\n", ran.stderr)


# ---- What it says --------------------------------------------------------------------------------


def test_reports_escape_control_characters(conform, folder):
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
