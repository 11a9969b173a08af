"""`xloss bench`: what it takes, and how its result is shown."""

from __future__ import annotations

import typer

from .output import fail
from .terminal import Json, Names, progress_bar, show


def bench_command(
    context: typer.Context,
    quick: bool = typer.Option(
        False, "--quick", help="Time two shapes beside PyTorch and optax, in some seconds."
    ),
    peer: Names = typer.Option(
        None,
        metavar="NAME",
        help="Compare only with: torch, optax, keras, tensorflow, sklearn or scipy. May be "
        "given several times.",
    ),
    as_json: Json = False,
) -> None:
    """Time cross_entropy and its gradient beside the losses of every library that is installed.

    Contenders take turns, so that what else the machine does meets all of them.
    """
    from xloss_conformance.bench import Missing, bench, lines

    try:
        with progress_bar("bench") as progress:
            record = bench(quick, peer or (), str(context.obj), progress)
    except Missing as missing:
        fail(str(missing))
    show(record, as_json, lambda record: print(*lines(record), sep="\n"))
