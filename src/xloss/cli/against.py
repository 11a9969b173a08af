"""`xloss conform A --against B`: where two losses first differ, and which is right."""

from __future__ import annotations

import io
import sys
from collections.abc import Sequence

from .output import JUDGED_AND_FAILED, fail, one_line, print_json
from .show import progress_bar


def against(
    a: str,
    b: str,
    *,
    convention: str,
    arrays: str | None,
    loss: str | None,
    dtype: str,
    families: Sequence[str],
    quick: bool,
    as_json: bool,
) -> int:
    """Print what `xloss_conformance.compare` finds; return 0 if they agree, 1 if not."""
    from xloss_conformance import Missing, compare
    from xloss_conformance.report.versus import record

    try:
        with progress_bar(f"{a} against {b}") as progress:
            found = compare(
                a, b, convention=convention, arrays=arrays, loss=loss, dtype=dtype,
                families=families or None, quick=quick, progress=progress,
            )  # fmt: skip
    except (Missing, ValueError) as error:
        fail(one_line(error))
    if as_json:
        print_json(record(found))
    else:
        if isinstance(sys.stdout, io.TextIOWrapper):
            sys.stdout.reconfigure(errors="replace")  # reasons are written with more than ASCII
        print(found)
    return 0 if found.ok else JUDGED_AND_FAILED
