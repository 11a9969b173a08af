"""xloss eval on .csv files: columns and headers, integers and probabilities, errors by line."""

import csv
import math
from pathlib import Path

import numpy as np
import pytest

from cli_runs import answer, refused
from xloss.cli import run_task as task_module
from xloss.cli.array_files import FileProblem, open_array

ROWS, CLASSES = 50, 3
RNG = np.random.default_rng(14)
PROBS = RNG.dirichlet(np.ones(CLASSES), ROWS)
LABELS = [int(n) for n in RNG.integers(0, CLASSES, ROWS)]
LOSS = math.fsum(-math.log(p[y]) for p, y in zip(PROBS, LABELS, strict=True)) / ROWS


@pytest.fixture(autouse=True)
def logits(folder, monkeypatch):
    """Logits in the current folder; blocks of a few rows."""
    monkeypatch.setattr(task_module, "BLOCK_LOGITS", CLASSES * 11)
    np.save("z.npy", np.log(PROBS))


def written(rows, name="y.csv", **options):
    with open(name, "w", newline="", encoding="utf-8") as f:
        csv.writer(f, **options).writerows(rows)
    return name


FILES = {
    "no header": ([[y] for y in LABELS], ""),
    "a header": ([["label"], *([y] for y in LABELS)], ""),
    "the column of the header": ([["label"], *([y] for y in LABELS)], "::label"),
    "one of several": ([["id", "y"], *([i, y] for i, y in enumerate(LABELS))], "::y"),
    "beside text": ([["text", " y "], *([f'a "b",\n{y}', y] for y in LABELS)], "::y"),
    "by number": ([[i, y] for i, y in enumerate(LABELS)], "::1"),
    "signs and spaces": ([[f" +{y} "] for y in LABELS], ""),
}


@pytest.mark.parametrize("case", FILES)
def test_labels(capsys, case):
    rows, name = FILES[case]
    for end in ("\n", "\r\n", "\r"):
        written(rows, lineterminator=end)
        got = answer(capsys, "z.npy", f"y.csv{name}")
        assert got["loss"] == pytest.approx(LOSS, rel=1e-14)
        assert got["rows"] == ROWS
        assert [LABELS[r["row"]] for r in got["worst"]] == [r["label"] for r in got["worst"]]


def test_files_as_spreadsheets_write_them(capsys):
    """A byte order mark, quotes, text that is no UTF-8, no line end or blank lines at the end."""
    lines = ['"label","caf\xe9"', *(f'"{y}","na\xefve"' for y in LABELS)]
    for end in ("", "\r\n", "\r\n\r\n\r\n"):
        text = "\r\n".join(lines) + end
        Path("y.csv").write_bytes(b"\xef\xbb\xbf" + text.encode("latin-1"))
        assert answer(capsys, "z.npy", "y.csv::label")["loss"] == pytest.approx(LOSS, rel=1e-14)


@pytest.mark.parametrize("header", [[], [["a", "b", "c"]]])
def test_class_probabilities(capsys, header):
    soft = RNG.dirichlet(np.ones(CLASSES), ROWS)
    written([*header, *([repr(float(p)) for p in row] for row in soft)], "t.csv")
    got = answer(capsys, "z.npy", "t.csv")
    expected = math.fsum(
        -q * math.log(p) for p, q in zip(PROBS.reshape(-1), soft.reshape(-1), strict=True)
    )
    assert got["loss"] == pytest.approx(expected / ROWS, rel=1e-14)
    np.testing.assert_array_equal(
        open_array("t.csv").read((slice(3, 20), slice(1, 3))), soft[3:20, 1:3]
    )


def test_probabilities_and_weights_from_csv(capsys):
    written([[repr(float(p)) for p in row] for row in PROBS], "p.csv")
    written([[y] for y in LABELS])
    got = answer(capsys, "p.csv", "y.csv", "--loss", "log_loss")
    assert got["loss"] == pytest.approx(LOSS, rel=1e-14)
    assert got["dtype"] == "float64"
    written([["weight"], [1.0], [0.5], [2.0]], "w.csv")
    got = answer(capsys, "z.npy", "y.csv", "--weight", "w.csv")
    weights = [(1.0, 0.5, 2.0)[y] for y in LABELS]
    losses = [-w * math.log(p[y]) for w, p, y in zip(weights, PROBS, LABELS, strict=True)]
    assert got["loss"] == pytest.approx(math.fsum(losses) / math.fsum(weights), rel=1e-14)


WRONG = {
    "text": ("1\n2\nx\n", "line 3: expected a number, got 'x'"),
    "missing": ("y,n\n1,2\n,2\n", "line 3: column 'y': expected a number, got ''; pick one column"),
    "blank": ("y\n1\n\n2\n", "line 3: is blank, and rows follow"),
    "short": ("1,2\n1\n", "line 2: expected 2 columns, got 1"),
    "no column": ("a,b\n1,2\n", "holds no column 'y', but a, b"),
    "twice": ("y,y\n1,2\n", "2 columns are named 'y'"),
    "underscore": ("1\n1_0\n", "line 2: expected a number, got '1_0'"),
    "another script": ("1\n\u0663\n", "line 2: expected a number, got '\u0663'"),
    "too large": (f"1\n{2**63}\n", "line 2: expected a number, got '9223372036854775808'"),
    "quote": ('1\n"2\n', "line 2: unexpected end of data"),
    "semicolons": ("a;b\n1;2\n", "line 2: expected a number, got '1;2'"),
    "empty": ("", "is empty"),
    "blank alone": ("\n\n", "holds no row"),
    "escape": ("1\n\x1b[31m\n", r"line 2: expected a number, got '\\x1b[31m'"),
    "quoted lines": ('t,y\n"a\nb",1\nc,d\n', "line 4: column 'y': expected a number, got 'd'"),
}


@pytest.mark.parametrize("case", WRONG)
def test_an_error_names_file_and_line(case):
    text, message = WRONG[case]
    Path("y.csv").write_text(text, encoding="utf-8")
    chosen = {"no column": "::y", "twice": "::y", "quoted lines": "::y"}.get(case, "")
    with pytest.raises(FileProblem) as caught:
        open_array(f"y.csv{chosen}")
    assert str(caught.value).startswith(f"y.csv: {message}")


def test_other_contents_are_named(capsys):
    Path("y.csv").write_bytes("1\n2\n".encode("utf-16"))
    assert refused(capsys, "z.npy", "y.csv") == "y.csv: is UTF-16 text; save it as UTF-8"
    np.save("y.npy", LABELS)
    Path("y.npy").rename("y.csv")
    assert refused(capsys, "z.npy", "y.csv") == "y.csv: is a .npy file, not a .csv file"
    Path("y.csv").write_bytes(b"1" * (2**20 + 5))
    assert refused(capsys, "z.npy", "y.csv") == "y.csv: line 1: is longer than 1,048,576 characters"


def test_labels_that_do_not_fit(capsys):
    written([["id", "y"], *([i, y] for i, y in enumerate(LABELS))])
    said = refused(capsys, "z.npy", "y.csv")
    assert said.endswith("; pick the column of the labels by y.csv::NAME")
    written([[y] for y in LABELS[1:]])
    assert "expected labels of shape (50,)" in refused(capsys, "z.npy", "y.csv")
    written([[f"{y}.0"] for y in LABELS])
    assert "labels are integers" in refused(capsys, "z.npy", "y.csv")
    written([["y"], *([y] for y in LABELS[:-1]), [CLASSES]])
    assert refused(capsys, "z.npy", "y.csv").startswith("y.csv: label 3 of row 49 is not in [0, 3)")


def test_a_header_without_rows(capsys):
    np.save("z.npy", np.zeros((0, CLASSES)))
    written([["y"]])
    got = answer(capsys, "z.npy", "y.csv")
    assert (got["rows"], got["loss"]) == (0, 0.0)
