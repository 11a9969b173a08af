"""The published matrix, by one command: xloss wherever it runs here, and every peer.

    python -m xloss_conformance.report.publish                # runs the suite, writes all of docs/
    python -m xloss_conformance.report.publish --render       # draws the published run again
    python -m xloss_conformance.report.publish --page FILE    # the page of the published run alone

docs/ has the record of the run, compressed; conformance.md, made of it; and pictures of the page in
both themes and at phone width. The page itself is made wherever it is needed: it is too large to
be kept in every version.
"""

from __future__ import annotations

import argparse
import json
import lzma
import os
import sys
import tempfile
from pathlib import Path
from typing import Any

from .browser import NoBrowser, browser, picture
from .markdown import markdown
from .pack import pack, unpack
from .page import page
from .record import verdict

AGAIN = "python -m xloss_conformance.report.publish"
PAGE = f"{AGAIN} --page conformance.html"
RECORD = "conformance.jsonl.xz"
PICTURES = {
    "conformance-light.png": (1280, 1100, "light"),
    "conformance-dark.png": (1280, 1100, "dark"),
    "conformance-phone.png": (390, 844, "light"),
}


def judged(jobs: int) -> dict[str, Any]:
    """Run xloss and every peer by the whole catalogue."""
    from .. import deviations, run, selection
    from ..candidates import here
    from .record import record

    everything = selection.Plan()
    peers = selection.Plan(peers=here())
    sources, cases = selection.sources(everything), selection.cases(everything)
    known = deviations.read(deviations.FILE)
    report = run.run([*sources, *selection.sources(peers)], cases, jobs=jobs, deviations=known)
    report.mode, report.command = "full", AGAIN
    return record(report)


def write(record: dict[str, Any], docs: Path) -> None:
    """Write the record, compressed."""
    head, details = pack(record)
    text = f"{json.dumps(head, separators=(',', ':'), allow_nan=False)}\n{details}"
    (docs / RECORD).write_bytes(lzma.compress(text.encode(), preset=9 | lzma.PRESET_EXTREME))


def read(docs: Path) -> dict[str, Any]:
    """Return the published record."""
    text = lzma.decompress((docs / RECORD).read_bytes()).decode()
    head, details = text.split("\n", 1)
    return unpack(json.loads(head), details)


def document(record: dict[str, Any]) -> str:
    """Return conformance.md of a published record."""
    return markdown(record, AGAIN, PAGE, tuple(PICTURES))


def pictures(record: dict[str, Any], docs: Path) -> None:
    """Take the pictures of what a reader sees first; NoBrowser says what is missing."""
    driver = browser()
    try:
        with tempfile.TemporaryDirectory() as folder:
            made = Path(folder) / "conformance.html"
            made.write_text(page(record), encoding="utf-8")
            for name, (width, height, theme) in PICTURES.items():
                picture(driver, made, docs / name, width, height, theme)
    finally:
        driver.quit()


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
    try:
        pictures(record, asked.docs)
    except NoBrowser as error:
        print(f"no pictures: {error}", file=sys.stderr)
    print(verdict(record))


if __name__ == "__main__":
    main()
