"""`xloss engines`: what it takes, and how its result is shown."""

from __future__ import annotations

from typing import Annotated

import typer

from .options import Json
from .output import print_json
from .terminal import show_kernel, show_machine, show_warm


def engines_command(
    warm: Annotated[
        bool,
        typer.Option(
            "--warm",
            help="Compile the kernels for this CPU and GPU now and keep them on disk, so that no "
            "later call has to wait for the compiler.",
        ),
    ] = False,
    as_json: Json = False,
) -> None:
    """Print the array libraries, devices and engines found here, and what installs the rest."""
    from .machine import compile_ahead, machine

    if warm:
        compiled = compile_ahead(None if as_json else show_kernel)
        if as_json:
            print_json(compiled)
        else:
            show_warm(compiled)
        return
    result = machine()
    if as_json:
        print_json(result)
    else:
        show_machine(result)
