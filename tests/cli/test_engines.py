"""xloss engines, and the help of every command."""

import json

import numpy as np
import pytest

from cli_runs import process


def test_help(command):
    for line in ("", "--help", "eval --help", "engines --help"):
        ran = command(line)
        assert (ran.returncode, ran.stderr) == (0, "")
        assert "Usage: xloss" in ran.stdout
    assert f"numpy             {np.__version__}  " in command("engines").stdout


@pytest.mark.parametrize(
    ("line", "offered"),
    [
        ("xloss eval --backend t", ["torch", "tensorflow"]),
        ("xloss eval --loss bin", ["binary_cross_entropy_with_logits", "binary_cross_entropy"]),
    ],
)
def test_the_shell_is_offered_what_fits(command, monkeypatch, line, offered):
    monkeypatch.setenv("COMP_WORDS", line)
    monkeypatch.setenv("COMP_CWORD", str(len(line.split()) - 1))
    monkeypatch.setenv("_XLOSS_COMPLETE", "complete_bash")
    ran = command("")
    assert (ran.returncode, ran.stderr) == (0, "")
    assert ran.stdout.split() == offered


def test_engines_tells_what_is_here_and_what_installs_the_rest():
    before = (
        "import atexit, sys; sys.modules['dask'] = None; atexit.register(lambda: sys.stderr.write("
        "str([m for m in sys.modules if m.startswith('xloss_conformance') or m.endswith('.conform')"
        "])))"
    )
    ran = process("engines --json", before=before)
    assert (ran.returncode, ran.stderr) == (0, "[]")  # no other command imports the suite
    got = json.loads(ran.stdout)
    assert list(got) == ["schema", "xloss", "backends", "engines"]
    backends = {b["name"]: b for b in got["backends"]}
    assert backends["numpy"]["version"] == np.__version__
    assert backends["torch"]["devices"][0] == "cpu"
    dask = backends["dask"]
    assert (dask["available"], dask["reason"]) == (False, "not installed")
    assert dask["install"] == 'pip install "xloss[dask]"'
    generic = {"name": "generic", "available": True, "reason": None, "devices": []}
    assert got["engines"][0] == generic
