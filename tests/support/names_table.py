"""Reads docs/names.md: for each library its lines, the names outside the family, the differences.

Three kinds of table are told apart by their heads, each below the `## ` heading of its library:

    | PyTorch | xloss | differs |                         lines
    | outside the family | because |
    | difference | PyTorch | gives | xloss | gives |

A table, a row or a cell of any other form is an error: what is not understood would not be tested.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from dataclasses import dataclass, field

CODE = re.compile(r"`([^`]+)`")
NAMED = re.compile(r"\*([^*]+)\*")
REFUSAL = "not offered, because "


@dataclass(frozen=True)
class Line:
    """One or more names of a library, and what to call instead."""

    at: int  # line number in the file
    peers: tuple[str, ...]  # expressions
    ours: str | None  # an expression; None where xloss offers nothing
    differs: tuple[str, ...]  # names of differences


@dataclass(frozen=True)
class Difference:
    """An example of a case in which a library and xloss give different results."""

    at: int
    name: str
    peer: str
    peer_gives: str
    ours: str
    ours_gives: str


@dataclass
class Library:
    """What stands below one heading."""

    name: str
    lines: list[Line] = field(default_factory=list)
    outside: list[Line] = field(default_factory=list)  # ours is None
    differences: list[Difference] = field(default_factory=list)

    def names(self) -> set[str]:
        """Every dotted name that a first cell mentions."""
        peers = [p for line in (*self.lines, *self.outside) for p in line.peers]
        return {name for peer in peers for name in dotted(peer)}


class Malformed(ValueError):
    """The file is not as it should be; the message says where."""


def dotted(expression: str) -> set[str]:
    """Return the dotted names of an expression: F.cross_entropy, keras.ops.softmax."""
    found = set()
    for node in ast.walk(ast.parse(expression, mode="eval")):
        parts: list[str] = []
        at: ast.AST = node
        while isinstance(at, ast.Attribute):
            parts.append(at.attr)
            at = at.value
        if parts and isinstance(at, ast.Name):
            found.add(".".join([at.id, *reversed(parts)]))
    return found


def code_blocks(text: str) -> list[str]:
    """Return the fenced Python blocks."""
    return re.findall(r"^```python\n(.*?)^```$", text, re.M | re.S)


def read(text: str) -> dict[str, Library]:
    """Return the libraries in the file by name."""
    libraries: dict[str, Library] = {}
    for heading, head, rows in _tables(text):
        if not heading:
            raise Malformed(f"a table before the first heading: {head}")
        library = libraries.setdefault(heading, Library(heading))
        if head == [heading, "xloss", "differs"]:
            library.lines += [_line(at, *cells) for at, cells in rows]
        elif head == ["outside the family", "because"]:
            library.outside += [_outside(at, *cells) for at, cells in rows]
        elif head == ["difference", heading, "gives", "xloss", "gives"]:
            library.differences += [_difference(at, *cells) for at, cells in rows]
        else:
            raise Malformed(f"a table of an unknown kind under {heading}: {head}")
    return libraries


def _tables(text: str) -> Iterator[tuple[str, list[str], list[tuple[int, list[str]]]]]:
    """Yield (heading, head cells, [(line number, cells)]) for each table."""
    heading = ""
    table: list[tuple[int, list[str]]] = []
    for at, line in enumerate([*text.splitlines(), ""], start=1):
        if line.startswith("## "):
            heading = line[3:].strip()
        if line.startswith("|"):
            table.append((at, [cell.strip() for cell in line.strip().strip("|").split("|")]))
        elif table:
            (_, head), *rows = table
            for number, cells in rows:
                if len(cells) != len(head):
                    raise Malformed(f"line {number}: {len(cells)} cells under {len(head)}")
            if not rows or set("".join(rows[0][1])) != {"-"}:
                raise Malformed(f"below line {table[0][0]}: expected the rule below a table's head")
            yield heading, head, rows[1:]
            table = []


def _expressions(at: int, cell: str, *, several: bool) -> tuple[str, ...]:
    """Return the expressions of a cell that holds code and commas alone."""
    found = tuple(CODE.findall(cell))
    if CODE.sub("", cell).strip(" ,") or not found or (len(found) > 1 and not several):
        raise Malformed(f"line {at}: expected code and nothing else, got {cell!r}")
    for expression in found:
        try:
            ast.parse(expression, mode="eval")
        except SyntaxError as error:
            raise Malformed(f"line {at}: {expression}: {error}") from None
    return found


def _line(at: int, peer: str, ours: str, differs: str) -> Line:
    peers = _expressions(at, peer, several=True)
    named = tuple(NAMED.findall(differs))
    if ours.startswith(REFUSAL):
        if named:
            raise Malformed(f"line {at}: nothing is offered that could differ")
        return Line(at, peers, None, ())
    return Line(at, peers, _expressions(at, ours, several=False)[0], named)


def _outside(at: int, names: str, because: str) -> Line:
    if not because:
        raise Malformed(f"line {at}: no reason")
    return Line(at, _expressions(at, names, several=True), None, ())


def _difference(at: int, name: str, *cells: str) -> Difference:
    peer, peer_gives, ours, ours_gives = (_expressions(at, c, several=False)[0] for c in cells)
    return Difference(at, name, peer, peer_gives, ours, ours_gives)
