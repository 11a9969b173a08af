"""The README as a newcomer meets it: its Python prints what it says, and so does its first line."""

from __future__ import annotations

import doctest
import re
import shlex

import pytest

from cli_runs import Command
from places import ROOT

README = (ROOT / "README.md").read_text()


def test_python_prints_what_the_page_says() -> None:
    blocks = re.findall(r"```python\n(.*?)```", README, re.DOTALL)
    examples = doctest.DocTestParser().get_doctest("".join(blocks), {}, "README.md", None, 0)
    assert len(examples.examples) >= 6
    report: list[str] = []
    failed, _ = doctest.DocTestRunner().run(examples, out=report.append)
    assert not failed, "".join(report)


TEXT = ("loss", "perplexity", "accuracy", "rows", "logits", "row", "1", "181", "96", "338", "358")
LIBRARIES = ("numpy", "torch", "jax", "dask", "array_api_strict")
PEERS = ("textbook formula", "SciPy log_softmax", "torch cross_entropy", "JAX log_softmax", "optax")


def by_first_column(text: str) -> dict[str, list[str]]:
    rows = (re.split(r"  +", line.strip()) for line in text.splitlines() if line.strip())
    return {row[0]: row[1:] for row in rows}


def test_the_first_line_prints_what_the_page_says(
    capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    (block,) = re.findall(r"<!-- eval -->\n```text\n(.*?)```", README, re.DOTALL)
    (line,) = re.findall(r"^```sh\n(.*?)$", README, re.MULTILINE)
    command = shlex.split(line.rpartition("&&")[2])
    assert command[0].endswith("/xloss")
    monkeypatch.chdir(ROOT)
    ran = Command(capfd)(shlex.join(command[1:]))
    assert ran.returncode == 0, ran.stderr
    shown, printed = by_first_column(block), by_first_column(ran.stdout)
    for name in TEXT:
        assert printed[name] == shown[name]
    for name in LIBRARIES:
        (_, _, loss, right, _), (_, _, *want, _) = printed[name], shown[name]
        assert [float(loss), right] == [pytest.approx(float(want[0]), rel=1e-9), want[1]]
    for name in ("xloss", *PEERS):
        (mean, lost, *_), want = printed[name], shown[name]
        assert float(mean) == pytest.approx(float(want[0]), rel=1e-6)
        # Another processor's exponential may round a row that is nearly lost the other way.
        assert abs(int(lost) - int(want[1])) <= (3 if name in PEERS else 0)


def test_a_first_screen_of_150_lines() -> None:
    assert README.count("\n") <= 150
