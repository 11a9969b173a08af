"""`xloss conform`: judge any loss by the conformance suite, or compare two losses."""

from __future__ import annotations

import os
from dataclasses import fields
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from .output import JUDGED_AND_FAILED, current_folder, fail, one_line
from .terminal import Json, Names, progress_bar, show, show_cases

if TYPE_CHECKING:
    from xloss_conformance.selection import Plan

# What a comparison of two losses takes; any other option would be left out unsaid.
COMPARED = (
    *("a", "against", "convention", "arrays", "loss", "dtypes", "families", "quick", "timeout"),
    "as_json",
)


def conform_command(
    context: typer.Context,
    a: str | None = typer.Argument(
        None,
        metavar="A",
        help="The loss to judge, as --candidate; with --against, the first of two.",
    ),
    against: str | None = typer.Option(
        None,
        metavar="B",
        help="Compare A with this loss: where they first differ, and which of them is right.",
    ),
    quick: bool = typer.Option(False, "--quick", help="Run only a few cases of each family."),
    candidate: str | None = typer.Option(
        None,
        metavar="SPEC",
        help="The loss to judge: package.module:function or path/file.py:function.",
    ),
    convention: str = typer.Option(
        "xloss",
        metavar="NAME|FILE",
        help="How to call the candidate: xloss, torch, keras, optax, sklearn, scipy or a file.",
    ),
    loss: str | None = typer.Option(
        None, metavar="NAME", help="The loss that the candidate computes."
    ),
    arrays: str | None = typer.Option(
        None, metavar="LIB", help="The array library whose arrays the candidate takes."
    ),
    value_only: bool = typer.Option(
        False, "--value-only", help="Judge no gradient: the candidate only returns a value."
    ),
    dtypes: Names = typer.Option(
        None, "--dtype", help="Judge only this dtype: float32, float64, float16 or bfloat16."
    ),
    peers: Names = typer.Option(
        None,
        "--peer",
        metavar="NAME",
        help="Judge this library's own losses: torch, keras, optax, sklearn or scipy.",
    ),
    backends: Names = typer.Option(
        None, "--backend", metavar="NAME", help="Judge xloss on this array library."
    ),
    families: Names = typer.Option(
        None, "--family", metavar="NAME", help="Run only the cases of this family."
    ),
    case: str | None = typer.Option(
        None, metavar="GLOB", help="Run only the cases with such a name, as 'tail/*'."
    ),
    on_demand: bool = typer.Option(
        False,
        "--on-demand",
        help="Also run the cases that take minutes or many gigabytes of memory.",
    ),
    deviations: str | None = typer.Option(
        None, metavar="FILE", help="A TOML file of known failures, each with its reason."
    ),
    html: str | None = typer.Option(
        None, metavar="FILE", help="Write a page with the results to this file."
    ),
    jobs: int | None = typer.Option(
        None, min=1, metavar="N", help="Processes to run; without this option one for each core."
    ),
    timeout: float = typer.Option(
        60.0,
        metavar="SECONDS",
        help="How long a candidate may take for one case; peers may take ten times as long.",
    ),
    as_list: bool = typer.Option(
        False, "--list", help="Print the cases and their reasons; run none."
    ),
    as_json: Json = False,
) -> int:
    """Judge any loss by the conformance suite.

    Without A, --candidate, --peer and --backend, xloss itself is judged on every array library that
    is installed.
    """
    given = context.params  # what was parsed for the parameters above, by their names
    if not timeout > 0:
        fail(f"--timeout {timeout:g}: expected more than 0 seconds")
    if against is not None:
        if a is None:
            fail("--against: expected two losses, xloss conform A --against B")
        for option in context.command.params:
            if option.name not in COMPARED and given[str(option.name)]:
                fail(f"{option.opts[0]} cannot be used with --against")
        if len(dtypes or ()) > 1:
            fail("--dtype, more than one, cannot be used with --against")
        return _compared(given)
    if a is not None and candidate is not None:
        fail(f"{a}: expected one candidate, and --candidate {candidate} is another")
    from xloss_conformance import selection

    # The plan takes the parameters that have the names of its fields.
    asked = {f.name: given[f.name] for f in fields(selection.Plan) if given[f.name]}
    plan = selection.Plan(**asked | {"candidate": candidate or a})
    if as_list:
        return _listed(plan, as_json)
    record = _judged(plan, given, str(context.obj))
    show(record, as_json, show_judged)
    return 0 if record["ok"] else JUDGED_AND_FAILED


def show_judged(record: dict[str, Any]) -> None:
    """Print a record as text."""
    from rich.console import Console

    from xloss_conformance.report import terminal

    terminal.show(record, Console(highlight=False))


def _judged(plan: Plan, given: dict[str, Any], command: str) -> dict[str, Any]:
    """Run the suite and return its record; write the page if a file is named."""
    from xloss_conformance import deviations, selection
    from xloss_conformance.model import LoadError, Missing
    from xloss_conformance.report.record import record
    from xloss_conformance.run import run
    from xloss_conformance.workers import WorkerFailed

    current_folder()  # from a deleted folder Python cannot start a process
    html, known = given["html"], given["deviations"]
    page = None if html is None else _writable(html)
    try:
        declared = deviations.read(deviations.FILE)
        if known is not None:
            declared += deviations.read(Path(known))
        cases, sources = selection.cases(plan), selection.sources(plan)
        with progress_bar("conform") as progress:
            report = run(
                sources,
                cases,
                jobs=given["jobs"] or os.cpu_count() or 1,
                timeout=given["timeout"],
                progress=progress,
                deviations=declared,
            )
    except (deviations.BadFile, LoadError, Missing, WorkerFailed) as error:
        fail(str(error).partition("\n")[0].strip())  # the rest is a traceback
    if (why := report.unjudged()) is not None:
        fail(why)
    report.missing += selection.absent(plan)
    report.mode = "quick" if plan.quick else "full"
    report.command = command
    if page is not None:
        from xloss_conformance.report.page import page as drawn

        try:
            page.write_text(drawn(record(report)), encoding="utf-8")
        except OSError as error:
            fail(f"--html {html}: {one_line(error)}")
    return record(report)


def _writable(html: str) -> Path:
    """Return the path of the page, and refuse before the run what could not be written after it."""
    path = Path(html).absolute()
    if path.exists() and not path.is_file():
        fail(f"--html {html}: is a folder, a FIFO or a socket, not a file")
    if not os.access(path if path.exists() else path.parent, os.W_OK):
        fail(f"--html {html}: cannot be written")
    return path


def _listed(plan: Plan, as_json: bool) -> int:
    """Print the cases asked for."""
    from xloss_conformance import selection
    from xloss_conformance.model import LoadError

    try:
        cases = selection.cases(plan)
    except LoadError as error:
        fail(str(error))
    keys = ("name", "family", "loss", "reason", "see", "quick", "on_demand")
    listed = [{key: getattr(case, key) for key in keys} for case in cases]
    show({"cases": listed}, as_json, show_cases)
    return 0


def _compared(given: dict[str, Any]) -> int:
    """Print where two losses first differ, and which is right; return 0 if they agree, 1 if not."""
    from xloss_conformance import Missing
    from xloss_conformance.comparison.losses import compared
    from xloss_conformance.workers import Task, WorkerFailed, messages

    a, b = given["a"], given["against"]
    current_folder()
    options = {key: given[key] for key in ("convention", "arrays", "loss", "quick")}
    options |= {"dtype": (given["dtypes"] or ["float32"])[0], "families": given["families"] or None}
    at = f"comparing {a} and {b}"
    task = Task(partial(compared, **options), (a, b), lambda: at, given["timeout"])
    try:
        with progress_bar(f"{a} against {b}") as progress:
            for _, message in messages([task]):
                done, total, text, record = message
                progress(done, total)
    except (Missing, ValueError) as error:
        fail(one_line(error))
    except WorkerFailed as error:
        fail(str(error).partition("\n")[0].strip())  # the rest is a traceback
    show(record, given["as_json"], lambda _: print(text))
    return 0 if record["ok"] else JUDGED_AND_FAILED
