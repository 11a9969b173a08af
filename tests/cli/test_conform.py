"""xloss conform: what is judged, what is printed where, exit codes, and losses that misbehave."""

import json
import os
import re
import shlex
import shutil
import signal
import time
from pathlib import Path

import pytest

import cli_losses
from cli_runs import ended, fits, process, started
from cluster import until

ONE = "--case 'tail/gap 17'"
DEVIATION = """
[[deviation]]
subject = "{} float32"
case = "tail/gap 17"
rule = "value"
reason = "it was so once"
link = "https://example.org/1"
"""
posix = pytest.mark.skipif(os.name == "nt", reason="no process groups")


@pytest.fixture(autouse=True)
def losses(folder):
    """The losses in the current folder; in the end none of their processes is left."""
    shutil.copy(cli_losses.__file__, "mine.py")
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


# ---- Exit codes and streams ----------------------------------------------------------------------


def test_a_failure_says_what_is_wrong_and_how_to_see_it_again(command):
    ran = command("conform mine.py:textbook --case 'tail/gap 40'")
    assert (ran.returncode, ran.stderr) == (1, "")
    parts = "1 of 1 answers are wrong: 1 can matter. ", "It returns 0 where the exact loss is "
    parts += "In training: ", "Why: ", "FAIL mine.py:textbook float32 fails 1 of 1 calls"
    assert fits("...".join(["", *parts, ""]), " ".join(ran.stdout.split()))
    (again,) = re.findall(r"^    See it: (.*)$", ran.stdout, re.MULTILINE)
    assert again == (
        "xloss conform --case 'tail/gap 40' --candidate mine.py:textbook --dtype float32"
    )
    assert command(again.removeprefix("xloss ")).returncode == 1  # this command does show it


def test_json_is_alone_on_stdout_and_strict(command):
    line = f"conform mine.py:nan {ONE} --json --html page.html"
    ran = command(line)
    assert (ran.returncode, ran.stderr) == (1, "")
    got = json.loads(ran.stdout, parse_constant=pytest.fail)
    assert (got["schema"], got["mode"], got["ok"]) == (1, "full", False)
    assert got["command"] == f"xloss {line}"
    (cell,) = got["cells"]
    assert (cell["value_ulp"], cell["got"]) == ("inf", {"value": "nan"})
    assert (cell["findings"][0]["rule"], cell["findings"][0]["got"]) == ("value", "nan")
    assert "<html" in Path("page.html").read_text(encoding="utf-8")


def test_a_declared_failure_is_none_and_a_stale_declaration_is_one(command):
    Path("known.toml").write_text(DEVIATION.format("mine.py:textbook"))
    ran = command(f"conform mine.py:textbook {ONE} --deviations known.toml --json")
    assert ran.returncode == 0
    got = json.loads(ran.stdout)
    assert got["deviations"] == {"declared": 1, "stale": []}
    ran = command(f"conform mine.py:exact {ONE} --deviations known.toml")
    assert (ran.returncode, ran.stderr) == (1, "")
    assert re.search(r"^FAIL  .*; 1 stale deviation, in", ran.stdout, re.MULTILINE)


# ---- What is refused -----------------------------------------------------------------------------

REFUSED = {
    "--family tial": "family: 'tial' is unknown; did you mean tail?",
    "--peer caffe": "peer: 'caffe' is unknown; expected one of torch, ...",
    "--case tail/none": "no case is of that name, family and loss; ...",
    "--family size": "these cases run on demand only: --on-demand",
    "none": "'none': expected package.module:function or path/file.py:function",
    "--html none/page.html": "--html none/page.html: cannot be written",
    "--deviations bad.toml": "bad.toml: deviation 1: reason is missing...",
    "--deviations fifo --backend numpy": "fifo: is a FIFO or a device, not a file",
    "fifo.py:f": "fifo.py: no such file",
    "mine.py:nan --timeout 0": "--timeout 0: expected more than 0 seconds",
    "mine.py:nan --family z-loss": "nothing was judged: ... offers no case ...: does not ...",
}


@pytest.mark.parametrize("line", REFUSED)
def test_what_cannot_run_is_refused_in_one_line(command, line):
    if "fifo" in line:
        if os.name == "nt":
            pytest.skip("no FIFOs")
        os.mkfifo("fifo")
        os.mkfifo("fifo.py")
    Path("bad.toml").write_text(DEVIATION.replace("reason", "# reason"))
    assert fits(REFUSED[line], command.refusal(f"conform {line}"))


# ---- For the eye ---------------------------------------------------------------------------------


def test_cases_are_listed_with_their_reasons(command):
    ran = command("conform --list --family tail")
    assert (ran.returncode, ran.stderr) == (0, "")
    assert ran.stdout.startswith("tail\n  tail/gap 5  cross_entropy, quick\n      ")
    listed = json.loads(command("conform --list --json --quick").stdout)["cases"]
    assert all(case["reason"] and case["quick"] for case in listed)


def test_only_numpy_is_enough(folder):
    """What is not installed is named, with what installs it; stdout knows ASCII alone."""
    names = ("torch", "jax", "dask", "cupy", "array_api_strict", "mpmath", "scipy", "ml_dtypes")
    (folder / "sitecustomize.py").write_text(  # so that nobody, workers included, can import them
        "from importlib.machinery import PathFinder\n"
        "own = PathFinder.find_spec\n"
        "def find_spec(name, path=None, target=None):\n"
        f"    return None if name.partition('.')[0] in {names!r} else own(name, path, target)\n"
        "PathFinder.find_spec = find_spec\n"
    )
    paths = [str(folder), *filter(None, [os.environ.get("PYTHONPATH")])]  # a source tree's own
    env = {"PYTHONPATH": os.pathsep.join(paths), "PYTHONIOENCODING": "ascii"}
    ran = process("conform --quick", env={**os.environ, **env})
    assert (ran.returncode, ran.stderr) == (0, "")
    assert re.search(r"^PASS  xloss passes all \d+ calls, in \d+ s ", ran.stdout, re.MULTILINE)
    assert ran.stdout.isascii()
    told = ran.stdout.partition("Not on this machine\n")[2]
    assert '  torch: torch is not installed: pip install "xloss[torch]"\n' in told
    assert "  strict: array_api_strict is not installed: pip install array-api-strict\n" in told


# ---- Losses that hang, fork, go elsewhere, close what they have, or say strange things -----------

LATE = r"gave no answer in 2 s (--timeout)"
CLOSED = "died: it closed the pipe that its answers go through"
TWO = "--case 'tail/gap ??'"
ENDED = {
    f"mine.py:deaf {ONE}": f"running mine.py:deaf float32 on tail/gap 17 {LATE}",
    "mine.py:exact --against mine.py:deaf --family tail": "comparing mine.py:exact and mine.py:deaf"
    f" {LATE}",
    # A child of it, which goes on, holds the pipe of its answers.
    f"mine.py:child_stays_and_it_dies {ONE} --timeout 50": "running ... died: exit code 3",
    f"mine.py:closes_all {ONE} --timeout 50": f"running ... on tail/gap 17 {CLOSED}",
}


@posix
@pytest.mark.parametrize("line", ENDED)
def test_one_that_does_not_answer_is_ended_in_time(command, line):
    said = command.refusal(f"conform {line}{'' if '--timeout' in line else ' --timeout 2'}")
    assert fits(f"the process {ENDED[line]}", said)


@posix
def test_a_process_that_leaves_the_group_holds_up_nothing():
    """It holds no pipe of its parent's: the command would wait for their end for ever."""
    try:
        ran = process(f"conform mine.py:child_leaves_the_group {ONE}")
        assert (ran.returncode, ran.stderr) == (0, "")
    finally:
        left = [int(pid) for pid in Path("left").read_text().split()]
        for pid in left:
            os.kill(pid, signal.SIGKILL)
    assert left


@posix
@pytest.mark.parametrize("number", [signal.SIGINT, getattr(signal, "SIGKILL", None)])
def test_one_that_hears_no_signal_ends_with_the_command(number):
    running = started(f"conform mine.py:deaf {ONE}", start_new_session=True)
    until(Path("pids"))
    (os.killpg if number == signal.SIGINT else os.kill)(running.pid, number)
    ran = ended(running)
    assert ran.returncode == (130 if number == signal.SIGINT else -number)
    assert (ran.stdout, ran.stderr) == ("", "") or number != signal.SIGINT


@posix
def test_one_that_forks_answers_once(command):
    ran = command(f"conform mine.py:comes_back_twice {TWO} --json")
    assert (ran.returncode, ran.stderr) == (0, "")
    cases = [cell["case"] for cell in json.loads(ran.stdout)["cells"]]
    assert len(cases) == len(set(cases)) > 3


def test_one_that_goes_to_another_folder(command):
    """The same relative name is loaded again for the second dtype, in the same process."""
    both = "--dtype float32 --dtype float16"
    ran = command(f"conform mine.py:goes_elsewhere {TWO} --jobs 1 {both} --json")
    assert (ran.returncode, ran.stderr) == (0, "")
    assert {s["dtype"] for s in json.loads(ran.stdout)["subjects"]} == {"float32", "float16"}


def test_reports_escape_control_characters(command):
    """Terminal, JSON and page: the name of a file, and what an exception says."""
    name = "a\x1b]0;x\x07\n\u202e" + os.fsdecode(b"\xff") + ".py"
    os.rename("mine.py", name)
    line = f"conform {shlex.quote(f'{name}:raises')}"
    shown = command(f"{line} {ONE} --html page.html")
    told = command(f"{line} {ONE} --json")
    compared = command(f"{line} --against {shlex.quote(f'{name}:exact')} --family tail --quick")
    page = Path("page.html").read_bytes().decode("utf-8")
    for text in (shown.stdout, told.stdout, compared.stdout, page):
        assert all(c.isprintable() or c == "\n" for c in text.replace("\t", ""))
        assert "xloss: all is well\n" not in text
    for ran in (shown, told, compared):
        assert (ran.returncode, ran.stderr) == (1, "")
    visible = r"a\x1b]0;x\x07\n\u202e\xff.py:raises"
    assert visible in shown.stdout
    (cell,) = json.loads(told.stdout)["cells"]
    assert cell["findings"][0]["detail"] == r"ValueError: \x1b]0;owned\x07"  # its first line
    compile(cell["call"], "call", "exec")  # the lines that show it again are Python
