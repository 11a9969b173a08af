"""The published matrix, by one command: xloss wherever it runs here, and every peer.

    python -m xloss_conformance.report.publish [docs]            # runs the suite, writes everything
    python -m xloss_conformance.report.publish --render [docs]   # draws the published run again

Writes conformance.html, the only copy of the run's record; conformance.md, made of it; and pictures
of the page in both themes and at phone width.
"""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path
from typing import Any

from .browser import NoBrowser, browser, picture
from .markdown import markdown
from .page import page, record_of, verdict

AGAIN = "python -m xloss_conformance.report.publish"
PICTURES = {
    "conformance-light.png": (1600, 1500, "light"),
    "conformance-dark.png": (1600, 1500, "dark"),
    "conformance-phone.png": (390, 844, "light"),
}


def judged(jobs: int) -> dict[str, Any]:
    """Run xloss and every peer by the whole catalogue."""
    from .. import deviations, run, selection
    from ..peers import here
    from .record import record

    everything = selection.Plan()
    peers = selection.Plan(peers=here())
    report = run.run(
        [*selection.sources(everything), *selection.sources(peers)],
        selection.cases(everything),
        jobs=jobs,
        deviations=deviations.read(deviations.FILE),
        progress=_progress,
    )
    report.mode, report.command = "full", AGAIN
    return record(report)


def _progress(done: int, total: int) -> None:
    if done % 500 == 0:
        print(f"{done:,} of {total:,} calls", file=sys.stderr)


def write(record: dict[str, Any], docs: Path) -> None:
    """Write the page, then all else from what stands in it."""
    html = docs / "conformance.html"
    html.write_text(page(record), encoding="utf-8")
    kept = record_of(html.read_text(encoding="utf-8"))
    (docs / "conformance.md").write_text(document(kept), encoding="utf-8")


def document(record: dict[str, Any]) -> str:
    """Return conformance.md of a published record."""
    return markdown(record, AGAIN, tuple(PICTURES))


def pictures(docs: Path) -> None:
    """Take the pictures; NoBrowser says what is missing."""
    driver = browser()
    try:
        for name, (width, height, theme) in PICTURES.items():
            picture(driver, docs / "conformance.html", docs / name, width, height, theme)
    finally:
        driver.quit()


def main() -> None:
    """Run, write, and say what came of it."""
    parser = argparse.ArgumentParser(prog=AGAIN, description="Publish the conformance matrix.")
    parser.add_argument("docs", nargs="?", type=Path, default=Path("docs"))
    parser.add_argument("--render", action="store_true", help="of the run published already")
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1)
    asked = parser.parse_args()
    html = asked.docs / "conformance.html"
    record = record_of(html.read_text("utf-8")) if asked.render else judged(asked.jobs)
    write(record, asked.docs)
    try:
        pictures(asked.docs)
    except NoBrowser as error:
        print(f"no pictures: {error}", file=sys.stderr)
    print(verdict(record))


if __name__ == "__main__":
    main()
