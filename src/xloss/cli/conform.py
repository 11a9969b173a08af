"""Run `xloss conform`: the conformance suite on xloss, on a peer or on any other loss."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

from .output import current_folder, fail, fail_of_worker, one_line, take_any_character

Asked = dict[str, Any]  # the fields of the suite's Plan
Progress = Callable[[int, int], None]


def conform(
    asked: Asked,
    *,
    jobs: int | None,
    timeout: float,
    deviations: str | None,
    html: str | None,
    command: str,
    progress: Progress,
) -> dict[str, Any]:
    """Run the suite and return its record; write the page if a file is named."""
    from xloss_conformance import deviations as known
    from xloss_conformance import selection as planned
    from xloss_conformance.model import LoadError, Missing
    from xloss_conformance.report.record import record
    from xloss_conformance.run import run
    from xloss_conformance.workers import WorkerFailed

    current_folder()  # from a deleted folder Python cannot start a process
    page = None if html is None else _writable(html)
    plan = planned.Plan(**asked)
    try:
        declared = known.read(known.FILE)
        if deviations is not None:
            declared += known.read(Path(deviations))
        cases, sources = planned.cases(plan), planned.sources(plan)
        report = run(
            sources,
            cases,
            jobs=jobs or os.cpu_count() or 1,
            timeout=timeout,
            progress=progress,
            deviations=declared,
        )
    except (known.BadFile, planned.BadPlan, LoadError, Missing, WorkerFailed) as error:
        fail_of_worker(error)
    report.missing += planned.absent(plan)
    report.mode = "quick" if plan.quick else "full"
    report.command = command
    made = record(report)
    if page is not None:
        from xloss_conformance.report.page import page as drawn

        try:
            page.write_text(drawn(record(report, shares=True)), encoding="utf-8")
        except OSError as error:
            fail(f"--html {html}: {one_line(error)}")
    return made


def listed(asked: Asked) -> list[dict[str, Any]]:
    """Return the cases asked for."""
    from xloss_conformance import selection as planned

    try:
        cases = planned.cases(planned.Plan(**asked))
    except planned.BadPlan as error:
        fail(str(error))
    return [
        {
            "name": c.name,
            "family": c.family,
            "loss": c.loss,
            "reason": c.reason,
            "see": list(c.see),
            "quick": c.quick,
            "on_demand": c.on_demand,
        }
        for c in cases
    ]


def _writable(html: str) -> Path:
    """Return the path of the page, and refuse before the run what could not be written after it."""
    path = Path(html)
    if os.path.isdir(path):
        fail(f"--html {html}: is a folder")
    if path.is_fifo() or path.is_socket():
        fail(f"--html {html}: is a FIFO or a socket, not a file")
    if not path.absolute().parent.is_dir():
        fail(f"--html {html}: its folder does not exist")
    if not os.access(path if path.exists() else path.absolute().parent, os.W_OK):
        fail(f"--html {html}: cannot be written")
    return path


def show(record: dict[str, Any]) -> None:
    """Print a record as text."""
    from rich.console import Console

    from xloss_conformance.report.terminal import show

    take_any_character()
    show(record, Console(highlight=False))
