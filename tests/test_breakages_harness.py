"""The harness on a project of three lines: what it calls caught was caught, and nothing else is."""

import re
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest

import breakages
import breakages_server
from breakages import Breakage, run, stale
from breakages_list import BREAKAGES

DOUBLE = "def double(x):\n    return x * 2\n"
TESTS = """
import sys
import xloss

def test_double():
    assert xloss.double(3) == 6

def test_nothing_is_cached():  # or a second patch within the second might not be seen
    assert sys.dont_write_bytecode
"""
CAUGHT = Breakage("doubles", "src/xloss/__init__.py", "x * 2", "x * 3", "tests/test_double.py")


@pytest.fixture
def project(tmp_path, monkeypatch):
    monkeypatch.delenv("PYTHONDONTWRITEBYTECODE", raising=False)  # the harness sets it
    monkeypatch.setattr(breakages_server, "LIBRARIES", ())
    root = tmp_path / "project"
    for name, text in {
        "src/xloss/__init__.py": DOUBLE,
        "tests/test_double.py": TESTS,
        "tests/test_nothing.py": "",
        "pyproject.toml": "[tool.pytest.ini_options]\n",
    }.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)
    return root


own_process = pytest.mark.parametrize("fresh", [False, True], ids=["forked", "fresh"])


def changed(**fields: object) -> Breakage:
    return Breakage(**{**CAUGHT.__dict__, **fields})


def outcome(project, capsys, *entries: Breakage, workers: int = 1):
    code = run(project, entries, workers)
    return code, capsys.readouterr().out


@own_process
def test_a_caught_breakage_passes(project, capsys, fresh):
    code, out = outcome(project, capsys, changed(fresh=fresh))
    assert code == 0
    assert re.fullmatch(r"caught  doubles \(\d+ s\)", out.splitlines()[0])
    assert out.splitlines()[-1] == "1 passed, 0 failed"


def test_a_surviving_breakage_fails(project, capsys):
    code, out = outcome(project, capsys, changed(rule="same", new="x + x"), CAUGHT)
    assert code == 1
    assert re.search(
        r"FAILED  same \(\d+ s\)\n +survived: tests/test_double.py still passes\n", out
    )
    assert out.splitlines()[-1] == "1 passed, 1 failed"


@pytest.mark.parametrize("old", ["x * 4", "x"], ids=["absent", "ambiguous"])
def test_a_stale_patch_fails(project, capsys, old):
    code, out = outcome(project, capsys, changed(old=old))
    assert code == 1
    assert f"stale: {old!r} occurs" in out


def test_every_patch_of_this_project_fits():
    root = Path(breakages.__file__).parents[1]
    assert BREAKAGES
    assert [problem for entry in BREAKAGES if (problem := stale(root, entry))] == []


def test_a_patch_of_no_file_fails(project, capsys):
    code, out = outcome(project, capsys, changed(file="src/xloss/gone.py"))
    assert code == 1
    assert "stale: there is no src/xloss/gone.py" in out


@pytest.mark.parametrize(
    "test",
    ["tests/test_nothing.py", "tests/test_double.py::test_gone", "tests/test_gone.py"],
)
def test_a_test_that_is_not_there_is_no_catch(project, capsys, test):
    code, out = outcome(project, capsys, changed(test=test))
    assert code == 1
    assert "must pass before anything is broken" in out
    assert "caught" not in out


def test_a_patch_that_breaks_collection_is_no_catch(project, capsys):
    code, out = outcome(project, capsys, changed(new="x *"))
    assert code == 1
    assert "did not run (pytest exit 2)" in out
    assert "SyntaxError" in out


def test_a_test_that_is_red_before_fails(project, capsys):
    (project / "src/xloss/__init__.py").write_text(DOUBLE.replace("2", "5"))
    code, out = outcome(project, capsys, changed(old="x * 5"))
    assert code == 1
    assert "must pass before anything is broken" in out


@own_process
def test_a_test_that_never_ends_is_no_catch(project, capsys, monkeypatch, fresh):
    # On a busy machine the other entry's interpreter takes seconds to start.
    monkeypatch.setattr(breakages, "TIMEOUT", 6)
    for_ever = changed(new="next(x for _ in iter(int, 1) if 0)", fresh=fresh)
    code, out = outcome(project, capsys, for_ever, CAUGHT)
    assert code == 1
    assert "did not end within 6 s" in out
    assert out.splitlines()[-1] == "1 passed, 1 failed"


@pytest.mark.skipif(not breakages_server.FORKS, reason="no test is forked here")
@pytest.mark.parametrize("then", ["x * 3", "next(x for _ in iter(int, 1) if 0)"], ids=["", "hang"])
def test_nothing_that_a_test_started_outlives_it(project, capsys, monkeypatch, tmp_path, then):
    monkeypatch.setattr(breakages, "TIMEOUT", 2)
    command = f"echo $$ > {tmp_path}/pid; exec sleep 600"
    started = f"__import__('subprocess').Popen([{command!r}], shell=True)"
    wait = "__import__('time').sleep(0.5)"
    outcome(project, capsys, changed(new=f"[{started}, {wait}] and {then}"))
    status = Path(f"/proc/{(tmp_path / 'pid').read_text().strip()}/status")
    assert not status.exists() or "zombie" in status.read_text()


@own_process
@pytest.mark.parametrize("sent", ["SIGKILL", "SIGSEGV"])
def test_a_test_that_crashes_is_no_catch(project, capsys, sent, fresh):
    crash = f"[m := __import__('signal'), m.raise_signal(m.{sent})] and x * 3"
    code, out = outcome(project, capsys, changed(new=crash, fresh=fresh), CAUGHT)
    assert code == 1
    assert f"did not run (pytest exit -{int(signal.Signals[sent])})" in out
    assert out.splitlines()[-1] == "1 passed, 1 failed"


@own_process
def test_an_exit_is_no_catch(project, capsys, fresh):
    code, out = outcome(project, capsys, changed(new="__import__('os')._exit(70)", fresh=fresh))
    assert code == 1
    assert "did not run (pytest exit 70)" in out


LEAK = """[
        setattr(__import__("sys"), "leaked", 1),
        setattr(__import__("numpy"), "leaked", 1),
        __import__("os").environ.update(LEAKED="1"),
        __import__("os").chdir("/"),
        __import__("warnings").simplefilter("ignore"),
        __import__("signal").signal(10, 1),
        __import__("threading").Thread(target=__import__("time").sleep, args=(9,)).start(),
    ] and x * 3"""
CLEAN = """
import os, signal, sys, threading, warnings
import numpy
import xloss

def test_clean():
    assert xloss.double(3) == 6
    assert not hasattr(sys, "leaked") and not hasattr(numpy, "leaked")
    assert "LEAKED" not in os.environ
    assert os.getcwd() == os.path.dirname(os.path.dirname(__file__))
    assert signal.getsignal(10) is not signal.SIG_IGN
    assert threading.active_count() == 1
    assert ("ignore", None, Warning, None, 0) not in warnings.filters
"""


def test_what_one_breakage_leaves_the_next_does_not_see(project, capsys, monkeypatch):
    monkeypatch.setattr(breakages_server, "LIBRARIES", ("numpy",))
    (project / "tests/test_clean.py").write_text(CLEAN)
    clean = changed(rule="same", new="x + x", test="tests/test_clean.py")
    code, out = outcome(project, capsys, changed(new=LEAK), clean, changed(new=LEAK), clean)
    assert code == 1
    assert re.findall(r"^(?:caught|FAILED)  \w+", out, re.M) == [
        "caught  doubles",
        "FAILED  same",
        "caught  doubles",
        "FAILED  same",
    ]
    assert out.count("survived: tests/test_clean.py still passes") == 2


def test_what_a_breakage_leaves_is_seen_where_it_stays(project, capsys):
    """Or the test above would hold nothing."""
    stays = CLEAN.replace("xloss.double(3) == 6", "xloss.double(3)")
    (project / "tests/test_clean.py").write_text(stays)
    code, _ = outcome(project, capsys, changed(new=LEAK, test="tests/test_clean.py"))
    assert code == 0


@pytest.mark.skipif(not breakages_server.FORKS, reason="no test is forked here")
def test_a_server_that_has_imported_the_project_is_refused(project, monkeypatch, capfd):
    monkeypatch.setattr(breakages_server, "LIBRARIES", ("xloss",))
    with pytest.raises(RuntimeError, match="the server ended with 1"):
        run(project, [CAUGHT], 1)
    assert "imported before the fork: xloss" in capfd.readouterr().err


@own_process
def test_a_test_that_needs_numba_notices_nothing_where_it_is_hidden(project, capsys, fresh):
    pytest.importorskip("numba")
    (project / "tests/test_numba.py").write_text(
        "from importlib.util import find_spec\n"
        "def test_numba():\n    assert 'without' not in find_spec('numba').origin\n"
    )
    code, out = outcome(project, capsys, changed(test="tests/test_numba.py", fresh=fresh))
    assert code == 1
    assert "survived: tests/test_numba.py fails unpatched where it seemed to notice" in out


def test_every_patch_meets_a_whole_tree_and_the_project_stays_as_it_was(project, capsys):
    before = {path: path.read_bytes() for path in project.rglob("*") if path.is_file()}
    entries = [changed(rule=str(i), new=f"x * {i}") for i in (3, 4, 2, 5)]
    code, out = outcome(project, capsys, *entries, workers=2)
    assert code == 1
    assert sorted(re.findall(r"^((?:caught|FAILED)  \d) ", out, re.M)) == [
        "FAILED  2",
        "caught  3",
        "caught  4",
        "caught  5",
    ]
    assert out.splitlines()[-1] == "3 passed, 1 failed"
    assert {path: path.read_bytes() for path in project.rglob("*") if path.is_file()} == before


def test_the_copy_is_what_is_imported(project):
    (project / "src/xloss/__init__.py").unlink()
    (project / "src/xloss").rmdir()
    with pytest.raises(SystemExit, match="not what gets imported"):
        run(project, [CAUGHT], 1)


def test_the_script_reads_the_list_beside_it(project):
    for module in (breakages, breakages_server):
        shutil.copy(module.__file__, project / "tests")
    server = project / "tests/breakages_server.py"
    server.write_text(re.sub(r"(?ms)^LIBRARIES = \(.*?^\)", "LIBRARIES = ()", server.read_text()))
    (project / "tests/breakages_list.py").write_text(
        "from breakages import Breakage\n"
        f"BREAKAGES = [{CAUGHT!r}, {changed(rule='same', new='x + x')!r}]\n"
    )

    def script(*arguments: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, str(Path("tests") / "breakages.py"), *arguments]
        return subprocess.run(command, cwd=project, capture_output=True, text=True)

    assert script("--only", "doubles").stdout.splitlines()[-1] == "1 passed, 0 failed"
    everything = script("-j", "1")
    assert everything.returncode == 1
    assert everything.stdout.splitlines()[-1] == "1 passed, 1 failed"
    assert script("--only", "nothing has this name").returncode == 2
