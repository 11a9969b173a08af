"""`python -m benchmarks host | gpu | replaced | render`: measure, and write records and pages."""

from __future__ import annotations

import argparse
import shlex
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from . import pages, plan, record, replaced, targets
from .gpu import page as gpu_page
from .gpu import plan as gpu_plan
from .gpu import targets as gpu_targets
from .processes import BenchFailed, Job

Record = dict[str, Any]
# The record of a run. That of logits that are cut was measured by an earlier version.
CALLS = "performance-calls"
NAMES = {"host": "performance", "gpu": "performance-gpu", "scale": "performance-scale"}
THROUGHPUT, MEMORY = "performance-throughput.svg", "performance-memory.svg"


def main(arguments: Sequence[str]) -> int:
    """Do what is asked for; return the exit code: 0, or 2 where it could not be done."""
    asked = _parser().parse_args(arguments)
    folder = Path(asked.publish)
    if not folder.is_dir():
        return _fail(f"--publish {folder}: is not a folder")
    try:
        if asked.command == "render":
            render(folder)
            return 0
        if asked.command == "replaced":
            record.write(replaced.measure(asked.tiny), folder / f"{CALLS}.json")
            render_calls(folder)
            return 0
        about = {"command": shlex.join(["python", "-m", "benchmarks", *arguments])}
        about["mode"] = "tiny" if asked.tiny else "quick" if asked.quick else "full"
        found, judged = _jobs(asked)
        path = folder / f"{NAMES[asked.command]}.json"
        threads = {"threads": asked.threads} if asked.threads else {}
        made = record.measure(
            found, judged, lambda kept: record.write(kept, path), **about, **threads
        )
        render(folder, asked.command)
        print(f"{targets.verdict(made)}; see {path.with_suffix('.md')}")
    except (plan.BadPlan, BenchFailed, record.NoRecord, replaced.WrongAnswer) as error:
        return _fail(str(error).partition("\n")[0])
    return 0


def _jobs(asked: argparse.Namespace) -> tuple[list[Job], Callable[[Record], list[Record]]]:
    if asked.command == "gpu":
        return gpu_plan.jobs(asked.quick, asked.tiny, asked.peer), gpu_targets.judged
    wanted = plan.Plan(asked.op, asked.peer, asked.threads, asked.tiny)
    return plan.jobs(wanted), targets.judged


def render(folder: Path, only: str = "") -> None:
    """Make the pages and pictures of the records in a folder; of one run only, if it is named."""
    known = [run for run in NAMES if (folder / f"{NAMES[run]}.json").exists()]
    if not known:
        raise record.NoRecord(f"{folder}: no record of a run: expected performance.json")
    for run in [only] if only else known:
        path = folder / f"{NAMES[run]}.json"
        kept = record.read(path)
        if run == "gpu":  # nor is matplotlib asked for where the GPU is
            said = gpu_page.page(kept)
        else:
            said = pages.page(kept, NAMES[run], _pictures(kept, folder) if run == "host" else ())
        path.with_suffix(".md").write_text(said, encoding="utf-8")
    if not only and (folder / f"{CALLS}.json").exists():
        render_calls(folder)


def render_calls(folder: Path) -> None:
    """Make the page of the record of calls that replace others."""
    path = folder / f"{CALLS}.json"
    path.with_suffix(".md").write_text(replaced.page(record.read(path)), encoding="utf-8")


def _pictures(kept: Record, folder: Path) -> tuple[str, ...]:
    try:
        from .pictures import draw
    except ModuleNotFoundError as error:
        raise plan.BadPlan(
            f"pictures: {error.name} is not installed: pip install matplotlib"
        ) from error
    return draw(kept, folder)


def _fail(said: str) -> int:
    print(f"benchmarks: {said}", file=sys.stderr)
    return 2


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    every: dict[str, Any] = {"action": "append", "default": [], "metavar": "NAME"}
    for name, said in (
        ("host", "xloss and its peers on this machine's cores"),
        ("gpu", "on its GPU; five minutes at most, --quick one and a half"),
        ("replaced", "single calls beside the several that they replace"),
        ("render", "make the pages of the records that are there; measure nothing"),
    ):
        command = commands.add_parser(name, help=said, description=said)
        command.add_argument("--publish", default="docs", metavar="FOLDER")
        command.set_defaults(tiny=False, quick=False, threads=0, op=[], peer=[])
        if name != "render":
            command.add_argument("--tiny", action="store_true", help="rehearse it on tiny shapes")
        if name == "host":
            command.add_argument("--threads", type=int, metavar="N", default=0)
            command.add_argument("--op", **every, help=f"only this: {', '.join(plan.OPS)}")
        if name == "gpu":
            command.add_argument("--quick", action="store_true")
        if name in ("host", "gpu"):
            command.add_argument("--peer", **every, help="only beside this one")
    return parser


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
