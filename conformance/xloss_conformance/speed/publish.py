"""What a record is made into: performance.json, .md and pictures; nothing is edited by hand."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from .markdown import markdown
from .pictures import draw
from .scale import rewrite

RECORD, DOCUMENT = "performance.json", "performance.md"


class NoRecord(Exception):
    """There is no published record to draw again; the message names the file."""


def write(record: dict[str, Any], docs: Path) -> None:
    """Write the record, then all else from what stands in it."""
    lines = json.dumps(record, indent=1, allow_nan=False)
    (docs / RECORD).write_text(lines + "\n", encoding="utf-8")
    render(docs)


def render(docs: Path) -> dict[str, Any]:
    """Draw document and pictures of the record published there, and return it."""
    record = published(docs)
    pictures = draw(record, docs)
    (docs / DOCUMENT).write_text(markdown(record, pictures), encoding="utf-8")
    rewrite(record, docs)
    return record


def published(docs: Path) -> dict[str, Any]:
    """Return the record published there."""
    try:
        record = json.loads((docs / RECORD).read_text("utf-8"))
    except (OSError, ValueError) as error:
        raise NoRecord(f"{docs / RECORD}: no record of a run: {error}") from error
    if not isinstance(record, dict) or record.get("schema") != 1:
        raise NoRecord(f"{docs / RECORD}: no record of a run")
    return record
