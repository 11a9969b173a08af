"""The command line: `xloss eval`, `conform`, `bench` and `engines`."""

from __future__ import annotations

import sys
from collections.abc import Sequence

__all__ = ["main"]

NEEDED = {"typer", "rich", "click"}


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line and exit: 0 done, 1 judged and failed, 2 could not run."""
    try:
        from .app import run
    except ModuleNotFoundError as error:
        name = (error.name or "").partition(".")[0]
        if name not in NEEDED:
            raise
        print(f'xloss: the command line needs {name}: pip install "xloss[cli]"', file=sys.stderr)
        raise SystemExit(2) from None
    raise SystemExit(run(sys.argv[1:] if arguments is None else arguments))
