"""The README as a newcomer meets it: its Python prints what it says, and so does its first line."""

from __future__ import annotations

import doctest
import re
import shlex

import pytest

from cli_runs import process
from places import ROOT

README = (ROOT / "README.md").read_text()


def test_python_prints_what_the_page_says() -> None:
    blocks = re.findall(r"```python\n(.*?)```", README, re.DOTALL)
    examples = doctest.DocTestParser().get_doctest("".join(blocks), {}, "README.md", None, 0)
    assert len(examples.examples) >= 6
    report: list[str] = []
    failed, _ = doctest.DocTestRunner().run(examples, out=report.append)
    assert not failed, "".join(report)


@pytest.fixture(scope="module")
def shown() -> dict[str, list[str]]:
    """What the page says that its first line prints, a line each by its first word."""
    (block,) = re.findall(r"<!-- eval -->\n```text\n(.*?)```", README, re.DOTALL)
    return by_first_column(block)


@pytest.fixture(scope="module")
def printed() -> dict[str, list[str]]:
    """What it prints here."""
    (line,) = re.findall(r"^```sh\n(.*?)$", README, re.MULTILINE)
    command = shlex.split(line.rpartition("&&")[2])
    assert command[0].endswith("/xloss")
    ran = process(shlex.join(command[1:]), cwd=ROOT)
    assert ran.returncode == 0, ran.stderr
    return by_first_column(ran.stdout)


def by_first_column(text: str) -> dict[str, list[str]]:
    rows = (re.split(r"  +", line.strip()) for line in text.splitlines() if line.strip())
    return {row[0]: row[1:] for row in rows}


SUMMARY = ("loss", "perplexity", "accuracy", "rows", "logits")
WORST = ("row", "1", "181", "96", "338", "358")


@pytest.mark.parametrize("name", SUMMARY + WORST)
def test_the_summary_is_printed(shown, printed, name) -> None:
    assert printed[name] == shown[name]


@pytest.mark.parametrize("library", ["numpy", "torch", "jax", "dask", "array_api_strict"])
def test_each_library_prints_the_loss_on_the_page(shown, printed, library) -> None:
    pytest.importorskip(library)
    _, _, loss, accuracy, _ = shown[library]
    assert float(printed[library][2]) == pytest.approx(float(loss), rel=1e-9)
    assert printed[library][3] == accuracy


@pytest.mark.parametrize(
    ("name", "library"),
    [
        ("xloss", "numpy"),
        ("textbook formula", "numpy"),
        ("SciPy log_softmax", "scipy"),
        ("torch cross_entropy", "torch"),
        ("JAX log_softmax", "jax"),
        ("optax", "optax"),
    ],
)
def test_each_peer_loses_the_rows_on_the_page(shown, printed, name, library) -> None:
    pytest.importorskip(library)
    mean, lost, *_ = shown[name]
    assert float(printed[name][0]) == pytest.approx(float(mean), rel=1e-6)
    # Another processor's exponential may round a row that is nearly lost the other way.
    assert abs(int(printed[name][1]) - int(lost)) <= (0 if name == "xloss" else 3)


def test_a_first_screen_of_150_lines() -> None:
    assert README.count("\n") <= 150
