"""Run `xloss conform A --against B`: where two losses first differ, and which is right."""

from __future__ import annotations

import io
import sys
from collections.abc import Sequence

from .output import JUDGED_AND_FAILED, current_folder, fail, one_line, print_json
from .terminal import progress_bar


def compare_losses(
    a: str,
    b: str,
    *,
    convention: str,
    arrays: str | None,
    loss: str | None,
    dtype: str,
    families: Sequence[str],
    quick: bool,
    timeout: float,
    as_json: bool,
) -> int:
    """Print what `xloss_conformance.compare` finds; return 0 if they agree, 1 if not."""
    from xloss_conformance import Missing
    from xloss_conformance.apart import WorkerFailed, call
    from xloss_conformance.report.versus import compared

    current_folder()
    try:
        with progress_bar(f"{a} against {b}") as progress:
            found = call(
                compared,
                f"{a} and {b}",
                timeout,
                (Missing, ValueError),
                progress,
                a,
                b,
                convention=convention,
                arrays=arrays,
                loss=loss,
                dtype=dtype,
                families=families or None,
                quick=quick,
            )
    except (Missing, ValueError) as error:
        fail(one_line(error))
    except WorkerFailed as error:
        first, _, trace = str(error).partition("\n")
        if trace and sys.flags.dev_mode:
            print(trace, file=sys.stderr)
        fail(first)
    if as_json:
        print_json(found.record)
    else:
        if isinstance(sys.stdout, io.TextIOWrapper):
            sys.stdout.reconfigure(errors="replace")  # the text has characters beyond ASCII
        print(found.text)
    return 0 if found.record["ok"] else JUDGED_AND_FAILED
