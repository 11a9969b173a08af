"""xloss bench: what is printed where, exit codes, the record, refusals."""

import json
import re
from dataclasses import replace

import pytest

from cli_runs import here, process
from xloss.cli.app import run
from xloss_conformance import bench

ALL = bench.OURS


@pytest.fixture
def small(monkeypatch):
    """Shapes that take no time, and no library of xloss's that compiles first."""
    monkeypatch.setattr(bench, "OURS", ("numpy",))
    monkeypatch.setattr(bench, "SHAPES", ((6, 5), (8, 3)))
    monkeypatch.setattr(bench, "QUICK_SHAPES", ((6, 5),))


def test_json_is_alone_on_stdout_and_whole(small, capfd):
    assert run(["bench", "--quick", "--peer", "scipy", "--json"]) == 0
    out, _ = capfd.readouterr()
    record = json.loads(out)
    assert record["schema"] == 1
    assert set(record) == {
        "schema",
        "xloss",
        "date",
        "mode",
        "command",
        "machine",
        "versions",
        "threads",
        "load",
        "seconds",
        "contenders",
        "missing",
        "works",
    }
    assert record["command"] == "xloss bench --quick --peer scipy --json"
    told = {one["name"]: one for one in record["contenders"]}
    assert {"xloss numpy", "scipy"} <= set(told)
    assert told["scipy"]["peer"] is not told["xloss numpy"]["peer"] is False
    assert [(w["shape"], w["gradient"]) for w in record["works"]] == [
        ([6, 5], False),
        ([6, 5], True),
    ]
    for work in record["works"]:
        runs = {r["contender"]: r for r in work["runs"]}
        assert set(runs) == set(told) - ({"scipy"} if work["gradient"] else set())
        for one in runs.values():
            assert 0 < one["min_ms"] <= one["q1_ms"] <= one["median_ms"] <= one["q3_ms"]
            assert one["gb_s"] == pytest.approx(work["moved"] / one["median_ms"] / 1e6)
        assert runs["xloss numpy"]["engine"] in ("cpu", "generic")
        refused = {r["contender"]: r["reason"] for r in work["refused"]}
        assert refused == ({"scipy": "gives no gradient"} if work["gradient"] else {})


def test_one_table(small, capfd, monkeypatch):
    pytest.importorskip("torch")
    monkeypatch.setattr(bench, "OURS", ALL)
    assert run(["bench", "--peer", "torch"]) == 0
    first, second, *rows, last = capfd.readouterr().out.splitlines()
    assert re.fullmatch(r"milliseconds +\(6, 5\) +\(6, 5\) +\(8, 3\) +\(8, 3\)", first)
    assert re.fullmatch(r" +value +with gradient +value +with gradient", second)
    named = [row for row in rows if "not installed" not in row]
    assert re.match(r"xloss numpy \((cpu|generic)\)( +[\d.e-]+){4}$", named[0])
    assert re.match(r"torch( +[\d.e-]+){4}$", named[-1])
    assert re.fullmatch(r"\d+ threads, in \d+ s", last)


def test_a_wrong_answer_is_not_timed(small, capfd, monkeypatch):
    pytest.importorskip("torch")
    import torch

    right = torch.nn.functional.cross_entropy
    monkeypatch.setattr(torch.nn.functional, "cross_entropy", lambda z, y: right(z, y) * 1.01)
    assert run(["bench", "--quick", "--peer", "torch"]) == 0
    out = capfd.readouterr().out
    assert re.search(r"^torch +- +-$", out, re.MULTILINE)
    assert re.search(r"^not timed: torch: computes something else: ", out, re.MULTILINE)


def test_a_refusal_is_one_line_and_exit_code_2(capfd):
    ran = here(capfd, "bench", "--peer", "jax")
    said = "xloss: --peer jax: expected one of torch, optax, keras, tensorflow, sklearn, scipy\n"
    assert (ran.returncode, ran.stdout, ran.stderr) == (2, "", said)
    ran = here(capfd, "bench", "--op", "gpu")
    assert (ran.returncode, ran.stdout) == (2, "")
    assert re.fullmatch(r"xloss: [^\n]*--op[^\n]*\n", ran.stderr)


def test_a_peer_that_is_not_installed(folder, monkeypatch):
    lines = "print('noise', flush=True)", "raise ModuleNotFoundError('no optax', name='optax')"
    (folder / "optax.py").write_text("\n".join(lines))
    monkeypatch.setenv("PYTHONPATH", str(folder))
    few = "from xloss_conformance import bench; bench.OURS = ('numpy',)"
    ran = process("bench", "--peer", "optax", before=few)
    assert (ran.returncode, ran.stdout) == (2, "")
    assert ran.stderr == "noise\nxloss: optax: optax is not installed: pip install optax\n"


def test_a_contender_that_fails_while_it_is_timed_leaves_the_others_their_times(
    small, monkeypatch, capfd
):
    """Its first answer was right; memory that runs out later is no reason to lose the table."""
    prepare, runs = bench._prepare, []

    def tired(name, *given):
        call = prepare(name, *given)

        def run_once():
            runs.append(name)
            if runs.count("scipy") > 2:
                raise MemoryError("no room")
            return call.run()

        return replace(call, run=run_once) if name == "scipy" else call

    monkeypatch.setattr(bench, "_prepare", tired)
    assert run(["bench", "--quick", "--peer", "scipy", "--json"]) == 0
    value, _ = json.loads(capfd.readouterr().out)["works"]
    assert [one["contender"] for one in value["runs"]] == ["xloss numpy"]
    assert value["refused"] == [{"contender": "scipy", "reason": "fails: MemoryError: no room"}]
