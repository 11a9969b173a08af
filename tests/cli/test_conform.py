"""xloss conform: what is judged, what is printed where, exit codes."""

import json
import math
import os
import re
import shlex
import signal
import subprocess
import sys
import time
from functools import partial
from pathlib import Path

import pytest

from cli_candidates import CANDIDATES
from cli_runs import here, process, refusal
from xloss.cli import command_conform
from xloss.cli.app import run
from xloss_conformance.cases import case as catalogue_case

ONE = ("--case", "tail/gap 17")
NUMPY = ("--backend", "numpy", "--dtype", "float32", "--family", "tail", "--quick")
STALE = """
[[deviation]]
subject = "xloss numpy float32"
case = "tail/gap 17"
rule = "value"
reason = "it was so once"
link = "https://example.org/1"
"""


@pytest.fixture
def xloss(capfd):
    """Run the command; its workers are processes all the same."""
    return partial(here, capfd, "conform")


@pytest.fixture(autouse=True)
def candidates(folder):
    Path("mine.py").write_text(CANDIDATES)


# ---- Exit codes and streams ----------------------------------------------------------------------


def test_a_run_that_passes():
    ran = process("conform", *NUMPY, env={**os.environ, "PYTHONIOENCODING": "ascii"})
    assert (ran.returncode, ran.stderr) == (0, "")
    assert re.search(r"^tail[ |]+\d+([ |]+\d\.\d / \d\.\d)+$", ran.stdout, re.MULTILINE)
    assert re.search(
        r"^PASS  xloss passes all \d+ calls, in \d+ s .*\n      xloss 0.1.0, Python",
        ran.stdout,
        re.MULTILINE,
    )
    assert ran.stdout.isascii()  # replaced where stdout knows no more
    assert "\x1b" not in ran.stdout


def test_a_failure_says_what_is_wrong_by_how_much_whether_it_matters_and_how_to_see_it_again(xloss):
    ran = xloss("mine.py:textbook", "--case", "tail/gap 40")
    assert (ran.returncode, ran.stderr) == (1, "")
    said = " ".join(ran.stdout.split())
    (row,) = catalogue_case("tail/gap 40").x.tolist()  # its label is the first class
    exact = math.log1p(math.fsum(math.exp(z - row[0]) for z in row[1:]))
    for part in (
        "What is wrong, and whether it matters in training",
        "1 of 1 answers are wrong: 1 can matter.",
        "CAN MATTER Confident rows",
        f"It returns 0 where the exact loss is {exact:.3g} (1 of 1 answers).",
        "In training: These rows’ share of the logged loss is lost, or has few right digits.",
        "Met with rows of which the model is sure",
        "Why: log(1 + r) is 0 in float32 once r < 2^-24: the loss and p - 1 lose every digit;",
    ):
        assert part in said
    (again,) = re.findall(r"^    See it: (.*)$", ran.stdout, re.MULTILINE)
    assert again == (
        "xloss conform --case 'tail/gap 40' --candidate mine.py:textbook --dtype float32"
    )
    assert "FAIL  mine.py:textbook float32 fails 1 of 1 calls" in ran.stdout
    assert xloss(*shlex.split(again)[2:]).returncode == 1  # the command that it names does show it


def test_words_are_explained_before_the_table_and_what_is_wrong_comes_first(xloss, monkeypatch):
    monkeypatch.setenv("COLUMNS", "200")
    ran = xloss("mine.py:nan", *ONE)
    at = [
        ran.stdout.index(part)
        for part in (
            "MATTERS  Confident rows\n    It returns NaN where the exact loss is 2.4",
            "1 ulp is a wrong last binary digit. The budget is how many ulp",
            "Worst error in ulp, value / gradient\n",
            "FAIL  mine.py:nan",
        )
    ]
    assert at == sorted(at)


def test_a_peer_stands_before_xloss(xloss):
    ran = xloss("--peer", "scipy", "--backend", "numpy", "--dtype", "float64", *ONE)
    assert ran.returncode == 1
    head = next(line for line in ran.stdout.splitlines() if line.startswith("family"))
    assert re.fullmatch(r"family +cases +scipy float64 +xloss numpy( generic)? float64.*", head)
    assert re.search(r"^scipy [\d.]+\n  1 of 1 answers are wrong: ", ran.stdout, re.MULTILINE)
    assert not re.search(r"^xloss .*\n  .* answers are wrong", ran.stdout, re.MULTILINE)


def test_json_is_alone_on_stdout_and_strict(xloss, folder):
    ran = xloss("mine.py:nan", *ONE, "--json", "--html", "page.html")
    assert (ran.returncode, ran.stderr) == (1, "")
    got = json.loads(ran.stdout, parse_constant=pytest.fail)
    assert got["schema"] == 1
    assert (got["mode"], got["ok"]) == ("full", False)
    assert (
        got["command"] == "xloss conform mine.py:nan --case 'tail/gap 17' --json --html page.html"
    )
    (cell,) = got["cells"]
    assert (cell["value_ulp"], cell["got"]) == ("inf", {"value": "nan"})
    assert (cell["findings"][0]["rule"], cell["findings"][0]["got"]) == ("value", "nan")
    assert "<html" in (folder / "page.html").read_text(encoding="utf-8")


@pytest.mark.skipif(os.name == "nt", reason="no process groups")
def test_ctrl_c_leaves_no_process_behind():
    command = [sys.executable, "-m", "xloss.cli", "conform", "mine.py:sleeps", *ONE]
    # Whatever runs the tests in the background has it ignored, and hands that down.
    heard = (
        "import os, signal, sys\n"
        "signal.signal(signal.SIGINT, signal.SIG_DFL)\n"
        "os.execv(sys.argv[1], sys.argv[1:])"
    )
    with subprocess.Popen(
        [sys.executable, "-c", heard, *command],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        start_new_session=True,
    ) as started:
        began = Path("began")
        for _ in range(600):
            if began.exists() and began.read_text():
                break
            time.sleep(0.1)
        worker = int(began.read_text())
        os.killpg(started.pid, signal.SIGINT)
        try:
            out, err = started.communicate(timeout=60)
        finally:
            started.kill()  # else a test that fails waits for ever
    assert (started.returncode, out, err) == (130, b"", b"")
    with pytest.raises(ProcessLookupError):
        os.kill(worker, 0)


# ---- Deviations ----------------------------------------------------------------------------------


def test_a_declared_failure_is_no_failure(xloss):
    Path("known.toml").write_text(STALE.replace("xloss numpy", "mine.py:textbook"))
    ran = xloss("mine.py:textbook", *ONE, "--deviations", "known.toml", "--json")
    assert ran.returncode == 0
    got = json.loads(ran.stdout)
    assert got["deviations"] == {"declared": 1, "stale": []}
    assert got["cells"][0]["note"] == "it was so once (https://example.org/1)"


def test_a_stale_deviation_is_a_failure(xloss):
    Path("known.toml").write_text(STALE)
    ran = xloss(*NUMPY, "--deviations", "known.toml")
    assert (ran.returncode, ran.stderr) == (1, "")
    assert "STALE DEVIATION 'xloss numpy float32' on 'tail/gap 17', rule value: none of its 1" in (
        " ".join(ran.stdout.split())
    )
    assert re.search(r"^FAIL  .*; 1 stale deviation, in", ran.stdout, re.MULTILINE)


# ---- What is refused -----------------------------------------------------------------------------

REFUSED = {
    "family": (
        ["--family", "tial"],
        "family: 'tial' is unknown; did you mean tail?",
    ),
    "loss": (["--loss", "nll_los"], "loss: 'nll_los' is unknown; did you mean nll_loss?"),
    "peer": (["--peer", "caffe"], "peer: 'caffe' is unknown; expected one of torch"),
    "backend": (["--backend", "numpi"], "backend: 'numpi' is unknown; did you mean numpy?"),
    "dtype": (["--dtype", "float8"], "dtype: 'float8' is unknown; did you mean float"),
    "arrays": (
        ["mine.py:nan", "--arrays", "nump"],
        "arrays: 'nump' is unknown; did you mean numpy?",
    ),
    "case": (["--case", "tail/none"], "no case is of that name, family and loss"),
    "on demand": (["--family", "size"], "these cases run on demand only: --on-demand"),
    "dtypes": (["--backend", "dask", "--dtype", "float16"], "no subject has float16"),
    "no colon": (["none", *ONE], "'none': expected package.module:function or path/file.py:fun"),
    "two": (
        ["mine.py:nan", "--candidate", "mine.py:exact"],
        "expected one candidate, and --candidate mine.py:exact is another",
    ),
    "folder": (["--html", "none/page.html"], "--html none/page.html: its folder does not exist"),
    "a folder": (["--html", "."], "--html .: is a folder"),
    "no reason": (["--deviations", "bad.toml"], "bad.toml: deviation 1: reason is missing"),
    "nothing offered": (
        ["mine.py:nan", "--family", "z-loss"],
        "nothing was judged: mine.py:nan float32 offers no case .*: does not take z_loss",
    ),
    "jobs": (["--jobs", 0], "Invalid value for '--jobs'"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_cannot_run_is_refused_in_one_line(capsys, case):
    Path("bad.toml").write_text(STALE.replace("reason", "# reason"))
    arguments, message = REFUSED[case]
    assert re.search(message, refusal(capsys, "conform", *arguments))


# ---- For the eye ---------------------------------------------------------------------------------


def test_cases_are_listed_with_their_reasons(capsys):
    assert run(["conform", "--list", "--family", "tail"]) == 0
    out, err = capsys.readouterr()
    assert err == ""
    assert out.startswith("tail\n  tail/gap 5  cross_entropy, quick\n      ")
    assert run(["conform", "--list", "--json", "--quick"]) == 0
    listed = json.loads(capsys.readouterr().out)["cases"]
    assert all(case["reason"] and case["quick"] for case in listed)


def test_a_table_fits_its_terminal(xloss, capfd, monkeypatch):
    show, kept = command_conform.show_judged, []
    monkeypatch.setattr(command_conform, "show_judged", kept.append)
    both = ("--backend", "numpy", "--backend", "strict")
    assert xloss(*both, "--family", "tail", "--quick").returncode == 0
    for width in (40, 80, 200):
        monkeypatch.setenv("COLUMNS", str(width))
        show(*kept)
        table = capfd.readouterr().out.partition("\nPASS")[0].splitlines()
        assert max(map(len, table)) <= width


def test_colours_are_for_terminals_that_want_them(xloss, monkeypatch):
    monkeypatch.setenv("FORCE_COLOR", "1")
    assert "\x1b[" in xloss(*NUMPY).stdout
