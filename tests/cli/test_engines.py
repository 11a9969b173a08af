"""xloss engines, and the help of every command."""

import json
import re

import numpy as np

from cli_runs import process
from xloss.cli.app import run

# ---- Help, and what the machine can run ----------------------------------------------------------


def test_help(capsys):
    for arguments in ([], ["--help"], ["eval", "--help"], ["engines", "--help"]):
        assert run(arguments) == 0
        out, err = capsys.readouterr()
        assert "Usage: xloss" in out
        assert err == ""


def test_engines_tells_what_is_here_and_what_installs_the_rest():
    before = (
        "import atexit, sys; sys.modules['dask'] = None; atexit.register(lambda: sys.stderr.write("
        "str([m for m in sys.modules if m.startswith('xloss_conformance') or m.endswith('.conform')"
        "])))"
    )
    ran = process("engines", "--json", before=before)
    assert (ran.returncode, ran.stderr) == (0, "[]")  # no other command imports the suite
    got = json.loads(ran.stdout)
    assert list(got) == ["schema", "xloss", "backends", "engines"]
    backends = {b["name"]: b for b in got["backends"]}
    assert next(iter(backends)) == "numpy"
    assert backends["numpy"]["version"] == np.__version__
    assert backends["torch"]["devices"][0] == "cpu"
    assert backends["jax"]["available"]
    dask = backends["dask"]
    assert (dask["available"], dask["reason"]) == (False, "not installed")
    assert dask["install"] == 'pip install "xloss[dask]"'
    assert got["engines"][0] == {
        "name": "generic",
        "available": True,
        "reason": None,
        "devices": [],
    }
    for engine in got["engines"]:
        assert engine["available"] == (engine["reason"] is None)


def test_engines_as_text(capsys):
    assert run(["engines"]) == 0
    out, err = capsys.readouterr()
    assert re.search(rf"^  numpy +{re.escape(np.__version__)} +cpu$", out, re.MULTILINE)
    assert re.search(r"^  generic +- +ready$", out, re.MULTILINE)
    assert err == ""
