"""The published matrix, by one command: xloss wherever it runs here, and every peer.

    python -m xloss_conformance.report.publish                # runs the suite, writes all of docs/
    python -m xloss_conformance.report.publish --render       # draws the published run again
    python -m xloss_conformance.report.publish --page FILE    # the page of the published run alone

docs/ has the record of the run, compressed; conformance.md, made of it; and a picture of the page.
The page itself is made wherever it is needed: it is too large to be kept in every version.
"""

from __future__ import annotations

import argparse
import json
import lzma
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from shutil import which

from .markdown import markdown
from .page import page
from .record import Record, record, verdict

AGAIN = "python -m xloss_conformance.report.publish"
PAGE = f"{AGAIN} --page conformance.html"
RECORD = "conformance.json.xz"
PICTURE = "conformance.png"
BROWSERS = ("chromium", "chromium-browser", "google-chrome")


def judged(jobs: int) -> Record:
    """Run xloss and every peer by the whole catalogue."""
    from .. import deviations, run, selection
    from ..candidates import here

    everything = selection.Plan()
    peers = selection.Plan(peers=here())
    sources, cases = selection.sources(everything), selection.cases(everything)
    known = deviations.read(deviations.FILE)
    report = run.run([*sources, *selection.sources(peers)], cases, jobs=jobs, deviations=known)
    report.mode, report.command = "full", AGAIN
    return record(report)


def write(record: Record, docs: Path) -> None:
    """Write the record, compressed; its cells by column, which takes two thirds of the room."""
    cells = record["cells"]
    columns = {key: [cell[key] for cell in cells] for key in cells[0]}
    text = json.dumps(record | {"cells": columns}, separators=(",", ":"), allow_nan=False)
    (docs / RECORD).write_bytes(lzma.compress(text.encode(), preset=9 | lzma.PRESET_EXTREME))


def read(docs: Path) -> Record:
    """Return the published record."""
    record: Record = json.loads(lzma.decompress((docs / RECORD).read_bytes()))
    columns = record["cells"]
    rows = zip(*columns.values(), strict=True)
    return record | {"cells": [dict(zip(columns, row, strict=True)) for row in rows]}


def document(record: Record) -> str:
    """Return conformance.md of a published record."""
    return markdown(record, AGAIN, PAGE, PICTURE)


def picture(record: Record, docs: Path) -> None:
    """Take a picture of what a reader of the page sees first, if there is a browser."""
    binary = next(filter(None, map(which, BROWSERS)), None)
    if binary is None:
        print("no picture: no Chromium here: apt-get install chromium", file=sys.stderr)
        return
    with tempfile.TemporaryDirectory() as folder:
        made = Path(folder) / "conformance.html"
        made.write_text(page(record), encoding="utf-8")
        # No sandbox: as root, in a container, Chromium would not start with one.
        how = ["--headless=new", "--no-sandbox", "--hide-scrollbars", "--window-size=1280,1100"]
        to = f"--screenshot={(docs / PICTURE).absolute()}"
        subprocess.run([binary, *how, to, made.as_uri()], check=True, capture_output=True)


def main() -> None:
    """Run, write, and say what came of it."""
    parser = argparse.ArgumentParser(prog=AGAIN, description="Publish the conformance matrix.")
    parser.add_argument("docs", nargs="?", type=Path, default=Path("docs"))
    parser.add_argument("--render", action="store_true", help="of the run published already")
    parser.add_argument(
        "--page", type=Path, metavar="FILE", help="write the page of that run to FILE, and no more"
    )
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1)
    asked = parser.parse_args()
    if asked.page is not None:
        asked.page.write_text(page(read(asked.docs)), encoding="utf-8")
        return
    if not asked.render:
        write(judged(asked.jobs), asked.docs)
    record = read(asked.docs)
    (asked.docs / "conformance.md").write_text(document(record), encoding="utf-8")
    picture(record, asked.docs)
    print(verdict(record))


if __name__ == "__main__":
    main()
