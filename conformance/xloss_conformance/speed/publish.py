"""What a record is made into: performance.json, .md and pictures; nothing is edited by hand."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from .cuts import OPS as SCALE_OPS
from .gpu import OP as GPU_OP
from .markdown import markdown
from .markdown_gpu import markdown_gpu
from .markdown_scale import markdown_scale
from .pictures import draw
from .plan import BadPlan
from .scale import rewrite

RECORD, DOCUMENT = "performance.json", "performance.md"
SCALE_RECORD, SCALE_DOCUMENT = "performance-scale.json", "performance-scale.md"
GPU_RECORD, GPU_DOCUMENT = "performance-gpu.json", "performance-gpu.md"


class NoRecord(Exception):
    """There is no published record to draw again; the message names the file."""


def at_scale(ops: Sequence[str]) -> bool:
    """Tell whether a run of these operations has the page of logits that are cut."""
    return bool(ops) and set(ops) <= set(SCALE_OPS)


def one_page(ops: Sequence[str]) -> None:
    """Raise BadPlan where a run would be published on two pages."""
    among = [op for op in ops if op in (*SCALE_OPS, GPU_OP)]
    if among and not at_scale(ops) and set(ops) != {GPU_OP}:
        named = " and ".join(among)
        raise BadPlan(f"--publish: a page of its own is for {named}: ask for nothing else")


def has_pictures(ops: Sequence[str]) -> bool:
    """Tell whether publishing a run of these operations draws pictures."""
    return set(ops) != {GPU_OP}


def write(record: dict[str, Any], docs: Path) -> None:
    """Write the record, then all else from what stands in it."""
    lines = json.dumps(record, indent=1, allow_nan=False)
    if not has_pictures(record["ops"]):  # nor is matplotlib asked for where the GPU is
        draft = docs / f"{GPU_RECORD}.{os.getpid()}"  # a run may be cut off while it writes
        draft.write_text(lines + "\n", encoding="utf-8")
        draft.replace(docs / GPU_RECORD)
        (docs / GPU_DOCUMENT).write_text(markdown_gpu(record), encoding="utf-8")
        return
    name = SCALE_RECORD if at_scale(record["ops"]) else RECORD
    (docs / name).write_text(lines + "\n", encoding="utf-8")
    render(docs)


def render(docs: Path) -> dict[str, Any]:
    """Draw documents and pictures of the records published there, and return the first."""
    records = []
    others = [name for name in (SCALE_RECORD, GPU_RECORD) if (docs / name).exists()]
    if (docs / RECORD).exists() or not others:
        record = published(docs)
        pictures = draw(record, docs)
        (docs / DOCUMENT).write_text(markdown(record, pictures), encoding="utf-8")
        rewrite(record, docs)
        records.append(record)
    if (docs / SCALE_RECORD).exists():
        record = published(docs, SCALE_RECORD)
        (docs / SCALE_DOCUMENT).write_text(markdown_scale(record), encoding="utf-8")
        records.append(record)
    if (docs / GPU_RECORD).exists():
        record = published(docs, GPU_RECORD)
        (docs / GPU_DOCUMENT).write_text(markdown_gpu(record), encoding="utf-8")
        records.append(record)
    elif (docs / GPU_DOCUMENT).exists():
        (docs / GPU_DOCUMENT).write_text(markdown_gpu(None), encoding="utf-8")
    return records[0]


def published(docs: Path, name: str = RECORD) -> dict[str, Any]:
    """Return a record published there."""
    path = docs / name
    if path.exists() and not path.is_file():  # a FIFO would be waited for
        raise NoRecord(f"{path}: no record of a run: it is no file")
    try:
        record = json.loads(path.read_text("utf-8"))
    except (OSError, ValueError) as error:
        raise NoRecord(f"{path}: no record of a run: {error}") from error
    if not isinstance(record, dict) or record.get("schema") != 1:
        raise NoRecord(f"{path}: no record of a run")
    return record
