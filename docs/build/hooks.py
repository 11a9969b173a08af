"""What the documentation site puts into the pages of docs/ while it is built."""

import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from mkdocs.structure.files import File

ROOT = Path(__file__).parents[2]
WHOLE_FILE = re.compile(r"<!-- ([A-Z]+\.md) -->")
HELP = re.compile(r"<!-- xloss ([a-z]+) --help -->")
LINK = re.compile(r"\]\((?![a-z]+:|#)([^)]*)\)")
# Files of the repository's root that are pages of the site.
PAGES = {
    "README.md": "index.md",
    "CONTRIBUTING.md": "contributing.md",
    "CHANGELOG.md": "changelog.md",
}

RUN = "conformance.json.xz"  # the record of the published conformance run
PAGE = "conformance.html"  # what is made of it: too large to be kept in every version


def on_files(files: Any, *, config: Any, **_: Any) -> Any:
    """Make the page of the published conformance run from its record."""
    if files.get_file_from_path(RUN) and not files.get_file_from_path(PAGE):
        with tempfile.TemporaryDirectory() as folder:
            made = Path(folder, PAGE)
            publish = [sys.executable, "-m", "xloss_conformance.report.publish"]
            subprocess.run([*publish, "--page", str(made)], cwd=ROOT, check=True)
            files.append(File.generated(config, PAGE, content=made.read_text(encoding="utf-8")))
    return files


def on_page_markdown(markdown: str, *, page: Any, config: Any, **_: Any) -> str:
    """Fill in the files and the helps that a page names, and turn its links into the site's."""
    if whole := WHOLE_FILE.fullmatch(markdown.strip()):
        text = (ROOT / whole[1]).read_text(encoding="utf-8")
        return LINK.sub(lambda link: f"]({address('', link[1], config)})", text)
    folder = f"docs/{page.file.src_uri}".rpartition("/")[0]
    markdown = HELP.sub(lambda found: help_of(found[1]), markdown)
    return LINK.sub(lambda link: f"]({address(folder, link[1], config)})", markdown)


def address(folder: str, target: str, config: Any) -> str:
    """Return where a link of a file in this folder leads: to a page, or to the repository."""
    path, mark, anchor = target.partition("#")
    path = os.path.normpath(os.path.join(folder, path))
    base = folder or "docs"
    if path in PAGES:
        path = f"docs/{PAGES[path]}"
    if not path.startswith("docs/"):
        return f"{config.repo_url}/blob/main/{path}"
    return os.path.relpath(path, base) + mark + anchor


def help_of(command: str) -> str:
    """Return what a command prints when it is asked for help."""
    ran = subprocess.run(
        [sys.executable, "-m", "xloss", command, "--help"],
        env={**os.environ, "COLUMNS": "88", "NO_COLOR": "1"},
        capture_output=True,
        text=True,
        check=True,
    )
    return f"```text\n{ran.stdout.strip()}\n```"
