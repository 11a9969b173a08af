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
from typing import NamedTuple

from places import ROOT

TABLE, PAGE = ROOT / "docs" / "names.toml", ROOT / "docs" / "names.md"


class Call(NamedTuple):
    """Expressions of a library that give the same number, and the xloss call that gives it too."""

    peers: list[str]
    ours: str
    differs: str  # the situations in which they differ, in *italics*, and remarks

    @property
    def situations(self) -> list[str]:
        return re.findall(r"\*([^*]+)\*", self.differs)


class Names(NamedTuple):
    """Names of a library for which there is no xloss call."""

    names: list[str]
    because: str


class Difference(NamedTuple):
    """An example of a situation in which a library and xloss give different results."""

    situation: str
    peer: str
    peer_gives: str
    ours: str
    ours_gives: str


@dataclass(frozen=True)
class Library:
    """What the table says of one library; an entry of another form is a TypeError."""

    name: str
    calls: list[Call]
    backends: tuple[str, ...] = ("numpy",)
    modules: dict[str, str] = field(default_factory=dict)
    listed: dict[str, str] = field(default_factory=dict)
    also: tuple[str, ...] = ()
    about: str = ""
    not_offered: tuple[Names, ...] = ()
    outside: tuple[Names, ...] = ()
    differences: tuple[Difference, ...] = ()

    @classmethod
    def of(cls, *, calls, not_offered=(), outside=(), differences=(), **given) -> Library:
        return cls(
            calls=[Call(*row) for row in calls],
            not_offered=tuple(Names(*row) for row in not_offered),
            outside=tuple(Names(*row) for row in outside),
            differences=tuple(Difference(*row) for row in differences),
            **given,
        )

    @cached_property
    def names(self) -> set[str]:
        """Every dotted name that a first cell mentions."""
        cells = [call.peers for call in self.calls]
        cells += [row.names for row in (*self.not_offered, *self.outside)]
        return {name for cell in cells for expression in cell for name in dotted(expression)}

    def page(self) -> str:
        calls = [(code(*c.peers), code(c.ours), c.differs) for c in self.calls]
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
    content = tomllib.loads(text)
    return content["intro"], {given["name"]: Library.of(**given) for given in content["library"]}


def inputs(intro: str) -> str:
    """Return the code of the introduction, which makes the arrays that the calls take."""
    return intro.split("```python\n")[1].split("```")[0]


def page(text: str) -> str:
    """Render the page."""
    intro, libraries = read(text)
    return "\n".join([intro, *(library.page() for library in libraries.values())])


if __name__ == "__main__":
    PAGE.write_text(page(TABLE.read_text(encoding="utf-8")), encoding="utf-8")
