"""What the formatter lays out is not switched off, and files stay short."""

from places import ROOT

FOLDERS = ("src", "tests", "conformance", "benchmarks", "examples")
FILES = sorted(path for folder in FOLDERS for path in (ROOT / folder).rglob("*.py"))
EXEMPT = 12  # lines at most: tables of numbers, whose columns the formatter would break up


def test_hardly_a_line_is_exempt_from_the_formatter():
    marks = tuple("# fmt: " + word for word in ("skip", "off"))
    found = [
        f"{path.relative_to(ROOT)}:{number}"
        for path in FILES
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1)
        if any(mark in line for mark in marks)
    ]
    assert len(FILES) > 300
    assert len(found) <= EXEMPT, found


def test_files_are_short():
    sources = {p: len(p.read_text("utf-8").splitlines()) for p in FILES if "src" in p.parts}
    assert {path.name: n for path, n in sources.items() if n > 320} == {}
