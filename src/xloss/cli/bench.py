"""Run `xloss bench`: time and memory of xloss and its peers on this machine."""

from __future__ import annotations

import io
import os
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from .output import fail, one_line

Asked = dict[str, Any]  # the fields of the benchmarks' Plan
Progress = Callable[[int, int], None]


def bench(asked: Asked, *, publish: str | None, command: str, progress: Progress) -> dict[str, Any]:
    """Measure what was asked for, write the documents if `publish` is given; return the record."""
    from xloss_conformance.model import Missing
    from xloss_conformance.speed import bench as run
    from xloss_conformance.speed.pictures import NoMatplotlib, matplotlib
    from xloss_conformance.speed.plan import BadPlan, Plan
    from xloss_conformance.speed.processes import BenchFailed
    from xloss_conformance.speed.publish import has_pictures, one_page, write

    docs = None if publish is None else _folder(publish)
    keep = None
    try:
        if docs is not None:
            one_page(asked["ops"])
            if has_pictures(asked["ops"]):
                matplotlib()  # raises now if it is missing, and not after minutes of measuring
            else:  # a GPU may be taken away at any time: write each measurement at once
                keep = partial(write, docs=docs)
        record = run.bench(Plan(**asked), progress, command, keep)
        if docs is not None:
            write(record, docs)
    except (BadPlan, BenchFailed, Missing, NoMatplotlib) as error:
        message, _, trace = str(error).partition("\n")
        if trace and sys.flags.dev_mode:
            print(trace, file=sys.stderr)
        fail(message)
    except OSError as error:
        fail(f"--publish {publish}: {one_line(error)}")
    return record


def render(publish: str) -> dict[str, Any]:
    """Draw the documents again from the record that is in the folder."""
    from xloss_conformance.speed.pictures import NoMatplotlib
    from xloss_conformance.speed.publish import NoRecord
    from xloss_conformance.speed.publish import render as drawn

    try:
        return drawn(_folder(publish))
    except (NoMatplotlib, NoRecord) as error:
        fail(one_line(error))


def _folder(publish: str) -> Path:
    path = Path(publish)
    if not path.is_dir():
        fail(f"--publish {publish}: is not a folder")
    if not os.access(path, os.W_OK):
        fail(f"--publish {publish}: cannot be written")
    return path


def show(record: dict[str, Any]) -> None:
    """Print a record as text."""
    from xloss_conformance.speed.terminal import lines

    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="replace")  # the text has characters beyond ASCII
    for line in lines(record):
        print(line)
