"""What a record is made into, and that what docs/ has was made so and not by hand."""

from __future__ import annotations

import base64
import json
import re
import sys
import zlib
from io import StringIO
from pathlib import Path

import pytest
from rich.console import Console

import made_record
from made_record import DOCS
from xloss_conformance.report.markdown import markdown
from xloss_conformance.report.page import DETAILS, page
from xloss_conformance.report.publish import AGAIN, PICTURE, RECORD, document, main, read, write
from xloss_conformance.report.terminal import show


def has_the_record(html: str, record: made_record.Record) -> None:
    """The page has what the record says: of all, of every case, of every cell."""
    blocks = dict(re.findall(r'<script type="[^"]+" id="(\w+)">(.*?)</script>', html, re.S))
    head = json.loads(blocks["data"])
    details = zlib.decompress(base64.b64decode(blocks["details"])).decode().split("\n")
    assert {k: v for k, v in head.items() if k not in ("cases", "cells")} == {
        k: v for k, v in record.items() if k not in ("cases", "cells")
    }
    notes = head["cells"]["note"].split(",")
    ulps = head["cells"]["value_ulp"].split(",")
    for i, (case, line) in enumerate(zip(record["cases"], details, strict=True)):
        own = json.loads(line)
        assert head["cases"][i] | {"setup": own["setup"]} == case
        of = {cell["subject"]: cell for cell in record["cells"] if cell["case"] == case["name"]}
        for j, subject in enumerate(record["subjects"]):
            at, cell = i * len(record["subjects"]) + j, of.get(subject["name"])
            assert head["cells"]["status"][at] == (cell["status"][0] if cell else ".")
            if cell is None:
                assert own["cells"][j] is None
                continue
            assert [own["texts"][k] for k in own["cells"][j]] == [cell[key] for key in DETAILS]
            assert (head["cells"]["notes"][int(notes[at])] if notes[at] else "") == cell["note"]
            assert cell["value_ulp"] is None or float(ulps[at]) == float(cell["value_ulp"])


@pytest.mark.parametrize("record", [made_record.small(), made_record.hostile()])
def test_the_page_and_the_published_file_keep_the_whole_record(
    record: made_record.Record, tmp_path: Path
) -> None:
    has_the_record(page(record), record)
    write(record, tmp_path)
    assert read(tmp_path) == record
    del record["cells"][3]  # one that was not run is no cell
    has_the_record(page(record), record)


def test_the_document_says_what_passes_and_what_fails() -> None:
    text = markdown(made_record.small(), "make it", "make the page", "a.png")
    assert "generated, by `make it`; no row is edited by hand" in text
    assert "`make the page` makes it here" in " ".join(text.split())
    assert "**The peers fail 8 of 12 calls; xloss passes all 21 calls.**" in text
    assert "| tail (4) | 2.5 | 2.5 |" in text
    assert "| masks (3) | 2.5 | declared |" in text
    assert "| all (7) | 4/6 fail | 4/6 fail |" in text


def test_the_terminal_tells_a_peer_from_xloss_on_its_arrays() -> None:
    printed = StringIO()
    show(made_record.small(), Console(file=printed, width=100))
    lines = printed.getvalue().splitlines()
    head = next(line for line in lines if line.startswith("family"))
    assert " ".join(head.split()) == "family cases torch optax xloss numpy xloss torch"
    (last,) = (line for line in lines if line.startswith("all "))
    assert " ".join(last.split()) == "all 7 4/6 fail 4/6 fail 2.5 2.5"


def test_text_of_others_is_no_markup_in_the_document() -> None:
    text = markdown(made_record.hostile())
    bare = re.sub(r"`[^`]*`", "", re.sub(r"\\.", "", text))  # neither escaped nor code
    assert "img src" in bare
    assert "<" not in bare
    assert "](javascript" not in bare
    for table in re.findall(r"(?:^\|.*\n)+", text, re.M):
        assert len({len(re.findall(r"(?<!\\)\|", line)) for line in table.splitlines()}) == 1


@pytest.fixture(scope="module")
def published() -> made_record.Record:
    return read(DOCS)


def test_the_page_of_the_published_run_is_made_by_one_command(
    published: made_record.Record, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = tmp_path / "conformance.html"
    monkeypatch.setattr(sys, "argv", ["publish", str(DOCS), "--page", str(made)])
    main()
    html = made.read_text("utf-8")
    has_the_record(html, published)
    assert len(html.encode()) < 2_500_000


def test_the_published_document_is_what_the_published_record_gives(
    published: made_record.Record,
) -> None:
    text = (DOCS / "conformance.md").read_text("utf-8")
    assert text == document(published), f"draw it again: {AGAIN} --render"


def test_no_published_file_is_large() -> None:
    """Every version of a generated file stays in the repository for good."""
    files = {path.name: path.stat().st_size for path in DOCS.glob("conformance*")}
    files.pop("conformance.html", None)  # made for the documentation site, and ignored by git
    assert files.keys() == {RECORD, "conformance.md", PICTURE}
    limits = {RECORD: 600_000}
    assert {name: n for name, n in files.items() if n > limits.get(name, 400_000)} == {}


def test_the_published_run_is_whole_and_xloss_has_no_undeclared_failure(
    published: made_record.Record,
) -> None:
    record = published
    assert (record["mode"], record["command"]) == ("full", AGAIN)
    kinds = {subject["name"]: subject["kind"] for subject in record["subjects"]}
    assert set(kinds.values()) == {"xloss", "peer"}
    assert len(record["cells"]) == len(record["cases"]) * len(record["subjects"])
    failed = [c for c in record["cells"] if c["status"] == "fail"]
    assert [c["case"] for c in failed if kinds[c["subject"]] == "xloss"] == []
    assert record["deviations"]["stale"] == []
