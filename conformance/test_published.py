"""What a record is made into, and that what docs/ has was made so and not by hand."""

from __future__ import annotations

import base64
import json
import re
import sys
import zlib
from pathlib import Path

import pytest

import made_record
from made_record import DOCS
from xloss_conformance.report.markdown import markdown
from xloss_conformance.report.pack import pack, unpack
from xloss_conformance.report.page import page
from xloss_conformance.report.publish import AGAIN, PICTURES, RECORD, document, main, read


def record_of(html: str) -> made_record.Record:
    """Return the record that a page was made of."""
    blocks = dict(re.findall(r'<script type="[^"]+" id="(\w+)">(.*?)</script>', html, re.S))
    details = zlib.decompress(base64.b64decode(blocks["details"])).decode()
    return unpack(json.loads(blocks["data"]), details)


@pytest.mark.parametrize("record", [made_record.small(), made_record.hostile()])
def test_the_page_keeps_the_whole_record(record: made_record.Record) -> None:
    assert record_of(page(record)) == record
    del record["cells"][3]  # one that was not run is no cell
    assert unpack(*pack(record)) == record


def test_the_page_keeps_three_digits_of_an_error() -> None:
    record = made_record.small()
    record["cells"][0] |= {"value_ulp": 1.23456, "grad_ulp": "inf"}
    kept = record_of(page(record))
    assert (kept["cells"][0]["value_ulp"], kept["cells"][0]["grad_ulp"]) == (1.23, "inf")
    assert markdown(kept) == markdown(record)


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
    assert record_of(html) == published
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
    assert files.keys() == {RECORD, "conformance.md", *PICTURES}
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
