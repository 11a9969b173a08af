"""The command line: `xloss eval`, `conform`, `bench` and `engines`."""

from __future__ import annotations

import sys
from collections.abc import Sequence

from .output import COULD_NOT_RUN, INTERRUPTED, open_streams, say

__all__ = ["main"]

EXTRA = {"typer", "rich", "click"}  # what the extra "cli" installs


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line and exit: 0 done, 1 judged and failed, 2 could not run."""
    open_streams()
    try:
        from .app import run
    except ModuleNotFoundError as error:
        name = (error.name or "").partition(".")[0]
        if name not in EXTRA:
            raise
        say(f'the command line needs {name}: pip install "xloss[cli]"')
        raise SystemExit(COULD_NOT_RUN) from None
    except KeyboardInterrupt:
        raise SystemExit(INTERRUPTED) from None
    raise SystemExit(run(sys.argv[1:] if arguments is None else arguments))
