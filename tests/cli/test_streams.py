"""What a process meets: names that a terminal would obey, streams that are closed or full."""

import json
import os
import re
import subprocess
import sys

import numpy as np
import pytest
from safetensors.numpy import save_file

from xloss import __version__
from xloss.cli import main
from xloss.cli.app import run
from xloss.cli.output import visible

TITLE = "\x1b]0;owned\x07"  # sets the title of a terminal's window
RIGHT_TO_LEFT = "\u202e"


@pytest.fixture(autouse=True)
def files(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    np.save("z.npy", np.eye(3))
    np.save("y.npy", np.arange(3))
    return tmp_path


def shell(script, **options):
    """Run a line of the shell in which $X is the command; it cannot hang."""
    environment = {**os.environ, "X": f"{sys.executable} -W error -m xloss"}
    return subprocess.run(
        ["bash", "-c", script],
        capture_output=True,
        timeout=120,
        check=False,
        env=environment,
        **options,
    )


def line(capsys, *arguments):
    """Return the one line, all printable, in which a command refuses."""
    assert run(list(arguments)) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.endswith("\n")
    assert err[:-1].isprintable()
    return err[:-1]


# ---- Names ---------------------------------------------------------------------------------------


def test_control_characters_are_escaped():
    assert visible("Datei äöü 日本.npy") == "Datei äöü 日本.npy"
    assert visible("a\x1b[31mb\nc\r\td") == r"a\x1b[31mb\nc\r\td"
    assert visible("\x7f\x9b\u2028" + RIGHT_TO_LEFT) == r"\x7f\x9b\u2028\u202e"
    assert visible(os.fsdecode(b"\xff\xc3.npy")) == r"\xff\xc3.npy"
    assert visible("\ud800\U000e0001") == r"\ud800\U000e0001"


NAMES = [TITLE, "a\nxloss: all is well", "\x9b31m", RIGHT_TO_LEFT, os.fsdecode(b"\xff\xfe")]


@pytest.mark.parametrize("name", NAMES, ids=ascii)
@pytest.mark.parametrize(
    "arguments",
    [
        ["eval", "{}.npy", "y.npy"],
        ["eval", "z.npy", "{}.npy"],
        ["eval", "z.npy", "y.npy", "--weight", "{}.npz"],
        ["eval", "z.npy", "y.npy", "--backend", "{}"],
        ["eval", "z.npy", "y.npy", "--axis", "{}"],
        ["eval", "z.npy", "y.npy", "--{}"],
        ["{}"],
        ["conform", "{}.py:f"],
        ["conform", "x{}:f"],
        ["conform", "xloss:{}", "--against", "xloss"],
        ["conform", "--case", "{}", "--family", "{}"],
        ["conform", "--deviations", "{}.toml"],
        ["conform", "--html", "{}/page.html"],
        ["bench", "--peer", "{}"],
    ],
    ids=" ".join,
)
def test_a_name_in_a_refusal_is_escaped(capsys, arguments, name):
    assert line(capsys, *(part.format(name) for part in arguments)).startswith("xloss: ")


@pytest.mark.parametrize("kind", ["npz", "safetensors"])
def test_names_of_arrays_are_escaped_and_cut(capsys, kind):
    arrays = {TITLE: np.eye(3), "b\nc": np.eye(3), "long" * 9999: np.eye(3)}
    if kind == "npz":
        np.savez("two.npz", **{name[:9999]: value for name, value in arrays.items()})
    else:
        save_file(arrays, "two.safetensors")
    said = line(capsys, "eval", f"two.{kind}", "y.npy")
    assert r"\x1b]0;owned\x07" in said
    assert r"b\nc" in said
    assert len(said) < 400


def test_files_whose_names_are_strange_are_read(capsys):
    for name in [*NAMES, "x" * 200, "--", "-x", "a b", "'"]:
        np.save(f"{name}.npy", np.eye(3))
        np.savez(f"{name}.npz", **{"a\x1b": np.eye(3)})
        save_file({"a": np.eye(3)}, "plain.safetensors")
        os.rename("plain.safetensors", f"{name}.safetensors")
        for kind in ("npy", "npz", "safetensors"):
            assert run(["eval", "--json", "--", f"{name}.{kind}", "y.npy"]) == 0, ascii(name)
            out, err = capsys.readouterr()
            assert json.loads(out)["rows"] == 3
            assert err == ""


def test_a_name_that_no_file_can_have(capsys):
    assert "File name too long" in line(capsys, "eval", "x" * 300 + ".npy", "y.npy")
    assert "File name too long" in line(capsys, "eval", "x" * 300 + ".npz::z", "y.npy")


def test_the_progress_bar_shows_a_name_escaped():
    pty = pytest.importorskip("pty")
    np.save(f"{TITLE}[bold].npy", np.eye(3))
    ours, theirs = pty.openpty()
    command = [sys.executable, "-m", "xloss", "eval", f"{TITLE}[bold].npy", "y.npy", "--json"]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=theirs, env={**os.environ, "TERM": "xterm"}
    ) as process:
        os.close(theirs)
        drawn = b""
        try:
            while part := os.read(ours, 4096):
                drawn += part
        except OSError:  # Linux's way of saying that the other end is closed
            pass
        os.close(ours)
        assert json.load(process.stdout)["rows"] == 3
    assert process.returncode == 0
    assert b"owned" in drawn
    assert TITLE.encode() not in drawn


# ---- Streams -------------------------------------------------------------------------------------


@pytest.mark.parametrize("command", ["eval z.npy y.npy", "eval z.npy y.npy --json", "engines"])
def test_a_closed_stdout_is_reported(command):
    ran = shell(f"$X {command} >&-")
    assert ran.returncode == 2
    assert ran.stderr == b"xloss: stdout is closed: there is nowhere to print to\n"


@pytest.mark.parametrize("command", ["eval z.npy y.npy", "eval z.npy y.npy --json", "--version"])
def test_a_full_disk_is_reported(command):
    if not os.path.exists("/dev/full"):
        pytest.skip("no /dev/full here")
    ran = shell(f"$X {command} >/dev/full")
    assert ran.returncode == 2
    assert ran.stderr == b"xloss: stdout: No space left on device\n"


def test_a_closed_or_full_stderr_changes_no_exit_code():
    full = "2>/dev/full" if os.path.exists("/dev/full") else "2>&-"
    for closed in ("2>&-", full, "<&- 2>&-"):
        ran = shell(f"$X eval z.npy y.npy --json {closed}")
        assert ran.returncode == 0, closed
        assert json.loads(ran.stdout)["rows"] == 3
        assert shell(f"$X eval none.npy y.npy {closed}").returncode == 2, closed
    ran = shell("$X conform --backend numpy --dtype float32 --case 'tail/gap 17' 2>&-")
    assert ran.returncode == 0
    assert b"PASS" in ran.stdout


@pytest.mark.parametrize("closed", ["", "2>&-"])
def test_a_closed_pipe_prints_no_error(closed):
    read, write = os.pipe()
    os.close(read)
    ran = shell(f"$X eval z.npy y.npy --json >&{write} {closed}", pass_fds=[write])
    os.close(write)
    assert (ran.returncode, ran.stderr) == (2, b"")


def test_a_poor_environment():
    bare = f"env -i {sys.executable} -W error -m xloss eval z.npy y.npy"
    for more in ("", "TERM=dumb LANG=C", "LC_ALL=C PYTHONUTF8=0 PYTHONCOERCECLOCALE=0"):
        ran = shell(bare.replace("-i", f"-i {more}"))
        assert (ran.returncode, ran.stderr) == (0, b""), more
        assert b"accuracy" in ran.stdout


def test_a_deleted_folder():
    gone = "mkdir gone; cd gone; rmdir ../gone; "
    ran = shell(f"{gone} $X eval z.npy y.npy")
    assert (ran.returncode, ran.stderr) == (2, b"xloss: z.npy: No such file or directory\n")
    ran = shell(f"P=$PWD; {gone} $X eval $P/z.npy $P/y.npy --json")
    assert (ran.returncode, ran.stderr) == (0, b"")
    for arguments in ("json:dumps", "torch --against scipy"):
        ran = shell(f"{gone} $X conform {arguments}")
        assert ran.returncode == 2
        said = b"xloss: the current folder: No such file or directory; go to another\n"
        assert ran.stderr == said


# ---- The command itself --------------------------------------------------------------------------


@pytest.mark.parametrize("module", ["xloss", "xloss.cli"])
def test_the_version(module):
    command = [sys.executable, "-m", module, "--version"]
    ran = subprocess.run(command, capture_output=True, text=True, check=True)
    assert re.fullmatch(r"xloss \d+\.\d+\.\d+\S*\n", ran.stdout)
    assert ran.stderr == ""


def test_a_module_that_is_imported_runs_nothing():
    code = "import xloss.__main__, xloss.cli"
    assert subprocess.run([sys.executable, "-c", code], check=True, timeout=60).returncode == 0
    assert main.__module__ == "xloss.cli"


def test_a_source_tree_without_metadata():
    """Whoever runs it from a checkout on the path has no installed package to ask."""
    code = (
        "import importlib.metadata as m\n"
        "def version(name):\n"
        "    raise m.PackageNotFoundError(name)\n"
        "m.version = version\n"
        "from xloss.cli import main\n"
        "main()"
    )
    one = ("--backend", "numpy", "--case", "tail/gap 17")
    command = [sys.executable, "-c", code, "conform", *one, "--json"]
    ran = subprocess.run(command, capture_output=True, timeout=120, check=False)
    assert (ran.returncode, ran.stderr) == (0, b"")
    assert json.loads(ran.stdout)["xloss"] == __version__
