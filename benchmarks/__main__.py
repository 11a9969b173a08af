"""`python -m benchmarks host | gpu | replaced | render`: measure, and write records and pages."""

from __future__ import annotations

import argparse
import shlex
import sys
from collections.abc import Sequence
from functools import partial
from pathlib import Path

from . import plan, record, targets
from .processes import BenchFailed

# The record of a run. That of logits that are cut was measured by an earlier version.
NAMES = {
    "host": "performance",
    "gpu": "performance-gpu",
    "scale": "performance-scale",
    "replaced": "performance-calls",
}


def main(arguments: Sequence[str]) -> int:
    """Do what is asked for; return the exit code: 0, or 2 where it could not be done."""
    asked = _parser().parse_args(arguments)
    folder = Path(asked.publish)
    if not folder.is_dir():
        return _fail(f"--publish {folder}: is not a folder")
    try:
        if asked.command != "render":
            print(measure(asked, shlex.join(["python", "-m", "benchmarks", *arguments])))
        render(folder, "" if asked.command == "render" else asked.command)
    except BenchFailed as error:
        return _fail(str(error))
    return 0


def measure(asked: argparse.Namespace, command: str) -> str:
    """Measure, writing the record after every row; return what came of it."""
    path = Path(asked.publish) / f"{NAMES[asked.command]}.json"
    jobs = plan.jobs(plan.Plan(asked.command, asked.op, asked.quick, asked.tiny))
    judged = partial(targets.judged, run=asked.command)
    made = record.measure(jobs, judged, partial(record.write, path=path), command=command)
    return f"{targets.verdict(made)}; see {path.with_suffix('.md')}"


def render(folder: Path, only: str = "") -> None:
    """Make the pages and pictures of the records in a folder; of one run only, if it is named."""
    from . import pages, pictures

    known = [run for run in NAMES if (folder / f"{NAMES[run]}.json").exists()]
    if not known:
        raise BenchFailed(f"{folder}: no record of a run: expected performance.json")
    for run in [only] if only else known:
        path = folder / f"{NAMES[run]}.json"
        kept = record.read(path)
        # Nothing is drawn of a run on a GPU, where matplotlib may not be.
        drawn = pictures.draw(kept, folder) if run == "host" else ()
        said = pages.page(kept, NAMES[run], drawn)
        path.with_suffix(".md").write_text(said, encoding="utf-8")


def _fail(said: str) -> int:
    print(f"benchmarks: {said}", file=sys.stderr)
    return 2


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    said = "what to measure; render makes the pages of the records that are there"
    parser.add_argument("command", choices=("host", "gpu", "replaced", "render"), help=said)
    parser.add_argument("--publish", default="docs", metavar="FOLDER")
    parser.add_argument("--tiny", action="store_true", help="rehearse it on tiny shapes")
    said = "of a GPU: one and a half minutes at most, in place of five"
    parser.add_argument("--quick", action="store_true", help=said)
    said = "of the host: only this"
    parser.add_argument("--op", action="append", default=[], choices=plan.OPS, help=said)
    return parser


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
