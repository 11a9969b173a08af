"""`xloss conform`: what it takes, and how its result is shown."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from .options import Json, Names
from .output import JUDGED_AND_FAILED, fail, print_json
from .terminal import progress_bar, show_cases


def conform_command(
    context: typer.Context,
    a: Annotated[
        str | None,
        typer.Argument(
            metavar="A", help="The loss to judge, as --candidate; with --against, the first of two."
        ),
    ] = None,
    against: Annotated[
        str | None,
        typer.Option(
            metavar="B",
            help="Compare A with this loss: where they first differ, and which of them is right.",
        ),
    ] = None,
    quick: Annotated[
        bool, typer.Option("--quick", help="Run only a few cases of each family.")
    ] = False,
    candidate: Annotated[
        str | None,
        typer.Option(
            metavar="SPEC",
            help="The loss to judge: package.module:function or path/file.py:function.",
        ),
    ] = None,
    convention: Annotated[
        str,
        typer.Option(
            metavar="NAME|FILE",
            help="How to call the candidate: xloss, torch, keras, optax, sklearn, scipy or a file.",
        ),
    ] = "xloss",
    loss: Annotated[
        str | None, typer.Option(metavar="NAME", help="The loss that the candidate computes.")
    ] = None,
    arrays: Annotated[
        str | None,
        typer.Option(metavar="LIB", help="The array library whose arrays the candidate takes."),
    ] = None,
    value_only: Annotated[
        bool,
        typer.Option("--value-only", help="Judge no gradient: the candidate only returns a value."),
    ] = False,
    dtype: Annotated[
        Names, typer.Option(help="Judge only this dtype: float32, float64, float16 or bfloat16.")
    ] = None,
    peer: Annotated[
        Names,
        typer.Option(
            metavar="NAME",
            help="Judge this library's own losses: torch, keras, optax, sklearn or scipy.",
        ),
    ] = None,
    backend: Annotated[
        Names, typer.Option(metavar="NAME", help="Judge xloss on this array library.")
    ] = None,
    family: Annotated[
        Names, typer.Option(metavar="NAME", help="Run only the cases of this family.")
    ] = None,
    case: Annotated[
        str | None,
        typer.Option(metavar="GLOB", help="Run only the cases with such a name, as 'tail/*'."),
    ] = None,
    on_demand: Annotated[
        bool,
        typer.Option(
            "--on-demand", help="Also run the cases that take minutes or many gigabytes of memory."
        ),
    ] = False,
    deviations: Annotated[
        str | None,
        typer.Option(metavar="FILE", help="A TOML file of known failures, each with its reason."),
    ] = None,
    html: Annotated[
        str | None, typer.Option(metavar="FILE", help="Write a page with the results to this file.")
    ] = None,
    jobs: Annotated[
        int | None,
        typer.Option(
            min=1, metavar="N", help="Processes to run; without this option one for each core."
        ),
    ] = None,
    timeout: Annotated[
        float,
        typer.Option(
            metavar="SECONDS",
            help="How long a candidate may take for one case; peers may take ten times as long.",
        ),
    ] = 60.0,
    as_list: Annotated[
        bool, typer.Option("--list", help="Print the cases and their reasons; run none.")
    ] = False,
    as_json: Json = False,
) -> int:
    """Judge any loss by the conformance suite.

    Without A, --candidate, --peer and --backend, xloss itself is judged on every array library that
    is installed.
    """
    if not timeout > 0:
        fail(f"--timeout {timeout:g}: expected more than 0 seconds")
    if against is not None:
        if a is None:
            fail("--against: expected two losses, xloss conform A --against B")
        from .compare_losses import compare_losses

        idle = {
            "--candidate": candidate,
            "--peer": peer,
            "--backend": backend,
            "--case": case,
            "--on-demand": on_demand,
            "--deviations": deviations,
            "--html": html,
            "--jobs": jobs,
            "--list": as_list,
            "--value-only": value_only,
            "--dtype, more than one,": dtype and dtype[1:],
        }
        for name, given in idle.items():
            if given:
                fail(f"{name} cannot be used with --against")
        return compare_losses(
            a,
            against,
            convention=convention,
            arrays=arrays,
            loss=loss,
            dtype=dtype[0] if dtype else "float32",
            families=family or (),
            quick=quick,
            timeout=timeout,
            as_json=as_json,
        )
    if a is not None and candidate is not None:
        fail(f"{a}: expected one candidate, and --candidate {candidate} is another")
    from . import conform

    asked: dict[str, Any] = {
        "quick": quick,
        "on_demand": on_demand,
        "families": family or (),
        "case": case,
        "loss": loss,
        "dtypes": dtype or (),
        "backends": backend or (),
        "peers": peer or (),
        "candidate": candidate or a,
        "convention": convention,
        "arrays": arrays,
        "value_only": value_only,
    }
    if as_list:
        cases = conform.listed(asked)
        if as_json:
            print_json({"cases": cases})
        else:
            show_cases(cases)
        return 0
    with progress_bar("conform") as progress:
        record = conform.conform(
            asked,
            jobs=jobs,
            timeout=timeout,
            deviations=deviations,
            html=html,
            progress=progress,
            command=str(context.obj),
        )
    if as_json:
        print_json(record)
    else:
        conform.show(record)
    return 0 if record["ok"] else JUDGED_AND_FAILED
