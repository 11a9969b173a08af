"""`xloss bench`: what it takes, and how its result is shown."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from .options import Json, Names
from .output import fail, print_json
from .terminal import progress_bar


def bench_command(
    context: typer.Context,
    quick: Annotated[
        bool,
        typer.Option(
            "--quick", help="Measure only the main peers on three shapes, in about half a minute."
        ),
    ] = False,
    op: Annotated[
        Names,
        typer.Option(
            metavar="NAME",
            help="Measure only this: forward, gradient, memory, ... May be given several times.",
        ),
    ] = None,
    peer: Annotated[
        Names,
        typer.Option(
            metavar="NAME",
            help="Compare only with: torch, torch.compile, optax, keras, sklearn or scipy. May "
            "be given several times.",
        ),
    ] = None,
    threads: Annotated[
        int | None,
        typer.Option(min=1, metavar="N", help="Cores to use; without this option all of them."),
    ] = None,
    publish: Annotated[
        str | None,
        typer.Option(
            metavar="FOLDER",
            help="Write performance.md, performance.json and pictures into this folder.",
        ),
    ] = None,
    render: Annotated[
        bool,
        typer.Option(
            "--render", help="Measure nothing; draw the documents in the folder of --publish again."
        ),
    ] = False,
    tiny: Annotated[bool, typer.Option("--tiny", hidden=True)] = False,
    as_json: Json = False,
) -> None:
    """Measure the time and memory of xloss beside every installed peer, and judge xloss's targets.

    Contenders take turns, so that what else the machine does meets all of them.
    """
    from . import bench

    asked: dict[str, Any] = {
        "quick": quick,
        "ops": op or (),
        "peers": peer or (),
        "threads": threads or 0,
        "tiny": tiny,
    }
    if render:
        if publish is None:
            fail("--render: expected --publish FOLDER as well, the folder whose record is drawn")
        record = bench.render(publish)
    else:
        with progress_bar("bench") as progress:
            record = bench.bench(
                asked, publish=publish, progress=progress, command=str(context.obj)
            )
    if as_json:
        print_json(record)
    else:
        bench.show(record)
