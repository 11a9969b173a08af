"""Run `xloss conform A --against B`: where two losses first differ, and which is right."""

from __future__ import annotations

from collections.abc import Sequence

from .output import (
    JUDGED_AND_FAILED,
    current_folder,
    fail,
    fail_of_worker,
    one_line,
    print_json,
    take_any_character,
)
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
    from xloss_conformance.comparison.record import Compared, compared
    from xloss_conformance.workers import WorkerFailed, messages

    current_folder()
    done, total = 0, 0

    def at() -> str:
        return f"comparing {a} and {b}" + (f", at case {done + 1} of {total}," if total else "")

    try:
        with progress_bar(f"{a} against {b}") as progress:
            for message in messages(
                compared,
                at,
                timeout,
                (Missing, ValueError),
                a,
                b,
                convention=convention,
                arrays=arrays,
                loss=loss,
                dtype=dtype,
                families=families or None,
                quick=quick,
            ):
                if isinstance(message, Compared):
                    found = message
                else:
                    done, total = message
                    progress(done, total)
    except (Missing, ValueError) as error:
        fail(one_line(error))
    except WorkerFailed as error:
        fail_of_worker(error)
    if as_json:
        print_json(found.record)
    else:
        take_any_character()
        print(found.text)
    return 0 if found.record["ok"] else JUDGED_AND_FAILED
