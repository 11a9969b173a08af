"""A run as one record of plain values, written after every row: the only input of the pages."""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from xloss_conformance.bench import head, load_average
from xloss_conformance.report.record import plain

from .processes import BenchFailed, Job, results

Record = dict[str, Any]
SECTIONS = (
    *("works", "by_classes", "by_rows", "by_threads", "memory", "first_call", "imports"),
    "rows",  # of single calls beside the several that they replace
)


def measure(
    jobs: Sequence[Job],
    judged: Callable[[Record], list[Record]],
    keep: Callable[[Record], None],
    **about: Any,
) -> Record:
    """Do the jobs, and return what they found, with what came of the targets.

    `keep` is given the record after every row, so that a run that is cut off leaves what it has
    measured.
    """
    start = time.monotonic()
    contenders: dict[str, Record] = {}
    missing: dict[str, None] = {}
    made: Record = {**head(), **about, **{name: [] for name in SECTIONS}}
    before = load_average()
    for section, found in results(jobs):
        if section == "missing":
            missing[found] = None
            print(found, file=sys.stderr)
        elif section == "contenders":
            contenders[found["name"]] = found
        else:
            made.setdefault(section, []).append(found)
            named = found.get("name", section)
            print(f"{time.monotonic() - start:6.1f} s  {named}", file=sys.stderr)
        made["contenders"], made["missing"] = list(contenders.values()), list(missing)
        made["load"] = [before, load_average()]
        made["seconds"] = round(time.monotonic() - start, 3)
        made["targets"] = judged(made)
        keep(plain(made))
    if not any(made[name] for name in SECTIONS):
        raise BenchFailed(f"nothing was measured: {'; '.join(missing)}")
    record: Record = plain(made)
    return record


def write(record: Record, path: Path) -> None:
    """Write a record whole, or not at all: a run may be cut off while it writes."""
    draft = path.with_name(f"{path.name}.{os.getpid()}")
    draft.write_text(json.dumps(record, indent=1, allow_nan=False) + "\n", encoding="utf-8")
    draft.replace(path)


def read(path: Path) -> Record:
    """Return the record of a run."""
    record: Record = json.loads(path.read_text("utf-8"))
    return record
