"""What a process meets: names that a terminal would obey, streams that are closed or full."""

import os
import re
import shlex
import subprocess
import sys

import numpy as np
import pytest
from safetensors.numpy import save_file

from xloss.cli.output import visible

TITLE = "\x1b]0;owned\x07"  # sets the title of a terminal's window
RIGHT_TO_LEFT = "\u202e"


pytestmark = pytest.mark.usefixtures("kinds")


# ---- Names ---------------------------------------------------------------------------------------


def test_control_characters_are_escaped():
    assert visible("Datei äöü 日本.npy") == "Datei äöü 日本.npy"
    assert visible("a\x1b[31mb\nc\r\td") == r"a\x1b[31mb\nc\r\td"
    assert visible("\x7f\x9b\u2028" + RIGHT_TO_LEFT) == r"\x7f\x9b\u2028\u202e"
    assert visible(os.fsdecode(b"\xff\xc3.npy")) == r"\xff\xc3.npy"
    assert visible("\ud800\U000e0001") == r"\ud800\U000e0001"


NAMES = [TITLE, "a\nxloss: all is well", "\x9b31m", RIGHT_TO_LEFT, os.fsdecode(b"\xff\xfe")]
LINES = [
    "eval {}.npy y.npy",
    "eval z.npy y.npy --backend {}",
    "eval z.npy y.npy --{}",
    "conform {}.py:f",
    "conform xloss:{} --against xloss",
    "conform --case {} --family {}",
    "bench --peer {}",
]


@pytest.mark.parametrize("line", LINES)
def test_a_name_in_a_refusal_is_escaped(command, line):
    for name in NAMES:
        command.refusal(line.replace("{}", shlex.quote(name)))


def test_names_of_arrays_are_escaped_and_cut(command):
    save_file({TITLE: np.eye(3), "b\nc": np.eye(3), "long" * 9999: np.eye(3)}, "two.safetensors")
    said = command.refusal("eval two.safetensors y.npy")
    assert r"\x1b]0;owned\x07" in said
    assert r"b\nc" in said
    assert len(said) < 400


def test_the_progress_bar_shows_a_name_escaped(kinds, command, monkeypatch):
    monkeypatch.setenv("FORCE_COLOR", "1")  # as if stderr were a terminal
    name = f"{TITLE}[bold].npy"
    np.save(name, kinds.z)
    ran = command(f"eval {shlex.quote(name)} y.npy --json")
    assert ran.returncode == 0
    assert r"\x1b]0;owned\x07[bold].npy" in ran.stderr
    assert TITLE not in ran.stderr


# ---- Streams -------------------------------------------------------------------------------------


GONE = "P=$PWD; mkdir gone; cd gone; rmdir ../gone; $X"
NOWHERE = "xloss: the current folder: No such file or directory; go to another\n"
MISSING = "xloss: z.npy: No such file or directory\n"
CLOSED = "xloss: stdout is closed: there is nowhere to print to\n"
FULL = "xloss: stdout: No space left on device\n"
POOR = f"{sys.executable} -W error -m xloss eval z.npy y.npy"
SHELL = {  # a line; its exit code, something that it prints, all that it says on stderr
    "no stdout": ("$X eval z.npy y.npy --json >&-", 2, "", CLOSED),
    "full disk": ("$X eval z.npy y.npy >/dev/full", 2, "", FULL),
    "no stderr": ("$X eval z.npy y.npy --json <&- 2>&-", 0, '"rows": 40', ""),
    "no reader": ("$X eval z.npy y.npy --json >&$PIPE", 2, "", ""),
    "conform": ("$X conform --backend numpy --case 'tail/gap 17' 2>&-", 0, "PASS", ""),
    "nothing set": (f"env -i TERM=dumb LC_ALL=C PYTHONUTF8=0 {POOR}", 0, "accuracy", ""),
    "deleted folder": (f"{GONE} eval z.npy y.npy", 2, "", MISSING),
    "deleted, conform": (f"{GONE} conform json:dumps", 2, "", NOWHERE),
}


@pytest.mark.parametrize("case", SHELL)
def test_closed_and_full_streams_poor_environments_and_deleted_folders(case):
    line, code, out, err = SHELL[case]
    if "/dev/full" in line and not os.path.exists("/dev/full"):
        pytest.skip("no /dev/full here")
    reader, pipe = os.pipe()
    os.close(reader)
    ran = subprocess.run(
        ["bash", "-c", line],
        capture_output=True,
        timeout=120,
        check=False,
        pass_fds=[pipe],
        env={**os.environ, "X": f"{sys.executable} -W error -m xloss", "PIPE": str(pipe)},
    )
    os.close(pipe)
    assert (ran.returncode, ran.stderr) == (code, err.encode())
    assert out.encode() in ran.stdout
    assert out or not ran.stdout


@pytest.mark.parametrize("module", ["xloss", "xloss.cli"])
def test_a_module_that_is_run_is_the_command_and_imported_does_nothing(module):
    command = [sys.executable, "-m", module, "--version"]
    ran = subprocess.run(command, capture_output=True, text=True, check=True)
    assert re.fullmatch(r"xloss \d+\.\d+\.\d+\S*\n", ran.stdout)
    assert ran.stderr == ""
    assert subprocess.check_output([sys.executable, "-c", "import xloss.__main__"]) == b""
