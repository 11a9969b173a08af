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
        bool, typer.Option("--quick", help="Half a minute: the largest peers, three shapes.")
    ] = False,
    op: Annotated[
        Names, typer.Option(metavar="NAME", help="forward, gradient, memory, ...; all but a few.")
    ] = None,
    peer: Annotated[
        Names,
        typer.Option(metavar="NAME", help="torch, torch.compile, optax, keras, sklearn, scipy."),
    ] = None,
    threads: Annotated[
        int | None, typer.Option(min=1, metavar="N", help="Cores to use; all of them.")
    ] = None,
    publish: Annotated[
        str | None,
        typer.Option(metavar="FOLDER", help="Write performance.md, .json and pictures there."),
    ] = None,
    render: Annotated[
        bool, typer.Option("--render", help="With --publish: of the record there; measure nothing.")
    ] = False,
    tiny: Annotated[bool, typer.Option("--tiny", hidden=True)] = False,
    as_json: Json = False,
) -> None:
    """Time xloss and every peer installed, in turns; read their memory; judge xloss's targets."""
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
            fail("--render: expected --publish FOLDER, whose record is drawn")
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
