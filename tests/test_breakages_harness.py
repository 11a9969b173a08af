"""The harness on a project of three lines: what it calls caught was caught, and nothing else is."""

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import breakages
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


def changed(**fields: str) -> Breakage:
    return Breakage(**{**CAUGHT.__dict__, **fields})


def outcome(project, capsys, *entries: Breakage, workers: int = 1):
    code = run(project, entries, workers)
    return code, capsys.readouterr().out


def test_a_caught_breakage_passes(project, capsys):
    code, out = outcome(project, capsys, CAUGHT)
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


def test_a_test_that_never_ends_is_no_catch(project, capsys, monkeypatch):
    monkeypatch.setattr(breakages, "TIMEOUT", 2)
    code, out = outcome(project, capsys, changed(new="next(x for _ in iter(int, 1) if 0)"))
    assert code == 1
    assert "did not end within 2 s" in out


def test_every_patch_meets_a_whole_tree_and_the_project_stays_as_it_was(project, capsys):
    before = {path: path.read_bytes() for path in project.rglob("*") if path.is_file()}
    entries = [changed(rule=str(i), new=f"x * {i}") for i in (3, 4, 2, 5)]
    code, out = outcome(project, capsys, *entries, workers=2)
    assert code == 1
    assert re.findall(r"^((?:caught|FAILED)  \d) ", out, re.M) == [
        "caught  3",
        "caught  4",
        "FAILED  2",
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
    shutil.copy(breakages.__file__, project / "tests")
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
