"""The table of docs/names.toml: what it says of each library, and the page rendered from it.

    python tests/support/names_table.py

writes docs/names.md.
"""

from __future__ import annotations

import ast
import re
import tomllib
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from places import ROOT

TABLE, PAGE = ROOT / "docs" / "names.toml", ROOT / "docs" / "names.md"


@dataclass(frozen=True)
class Library:
    """What the table says of one library; an entry of another form is a TypeError."""

    name: str
    calls: list[tuple[list[str], str, str]]  # theirs, ours, and in what they differ
    backends: tuple[str, ...] = ("numpy",)
    modules: dict[str, str] = field(default_factory=dict)
    listed: dict[str, str] = field(default_factory=dict)
    also: tuple[str, ...] = ()
    about: str = ""
    not_offered: tuple[tuple[list[str], str], ...] = ()  # names, and why there is no xloss call
    outside: tuple[tuple[list[str], str], ...] = ()
    # A situation, their call and what it gives, ours and what it gives.
    differences: tuple[tuple[str, str, str, str, str], ...] = ()

    @cached_property
    def names(self) -> set[str]:
        """Every dotted name that a first cell mentions."""
        cells = [row[0] for row in (*self.calls, *self.not_offered, *self.outside)]
        return {name for cell in cells for expression in cell for name in dotted(expression)}

    def page(self) -> str:
        calls = [(code(*theirs), code(ours), differs) for theirs, ours, differs in self.calls]
        calls += [(code(*n), f"not offered, because {why}", "") for n, why in self.not_offered]
        outside = [(code(*names), why) for names, why in self.outside]
        shown = [(d[0], *map(code, d[1:])) for d in self.differences]
        parts = [
            f"## {self.name}\n",
            self.about,
            table((self.name, "xloss", "differs"), calls),
            table(("outside the family", "because"), outside),
            table(("difference", self.name, "gives", "xloss", "gives"), shown),
        ]
        return "\n".join(filter(None, parts))


def code(*expressions: str) -> str:
    return ", ".join(f"`{e}`" for e in expressions)


def table(head: tuple[str, ...], rows: list[tuple[str, ...]]) -> str:
    lines = [head, ("---",) * len(head), *rows] if rows else []
    return "".join(("| " + " | ".join(cells)).rstrip() + " |\n" for cells in lines)


def dotted(expression: str) -> set[str]:
    """Return the dotted names of an expression: F.cross_entropy, keras.ops.softmax."""
    chains = (
        ast.unparse(n) for n in ast.walk(ast.parse(expression)) if isinstance(n, ast.Attribute)
    )
    return {chain for chain in chains if re.fullmatch(r"\w+(\.\w+)+", chain)}


def read(text: str) -> tuple[str, dict[str, Library]]:
    """Return the page's introduction and the libraries by name."""
    content: dict[str, Any] = tomllib.loads(text)
    return content["intro"], {given["name"]: Library(**given) for given in content["library"]}


def inputs(intro: str) -> str:
    """Return the code of the introduction, which makes the arrays that the calls take."""
    return intro.split("```python\n")[1].split("```")[0]


def page(text: str) -> str:
    """Render the page."""
    intro, libraries = read(text)
    return "\n".join([intro, *(library.page() for library in libraries.values())])


if __name__ == "__main__":
    PAGE.write_text(page(TABLE.read_text(encoding="utf-8")), encoding="utf-8")
