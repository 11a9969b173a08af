"""A record as the page carries it and as it is published: what the matrix shows, then the rest.

Packing loses nothing but digits of an error beyond the third: ``unpack(*pack(record))`` is the
record.
"""

from __future__ import annotations

import json
from typing import Any

from ..model import STATUSES, Finding

LETTERS = {status[0]: status for status in STATUSES}
NONE = "."  # no such cell
LATER = ("setup",)  # of a case: only its details show it
# Numbers of a cell, of which three digits are kept, and their columns.
SHORT = {
    "value_ulp": "value",
    "grad_ulp": "grad",
    "value_share": "value_share",
    "grad_share": "grad_share",
}


class Table(dict[str, int]):
    """Distinct values, each by its place."""

    def place(self, value: Any) -> int:
        return self.setdefault(json.dumps(value), len(self))

    def all(self) -> list[Any]:
        return list(map(json.loads, self))


def short(ulp: Any) -> str:
    """Return an error in ulp to three digits; "" where there is none."""
    return "" if ulp is None else f"{float(ulp):.3g}"


def pack(record: dict[str, Any]) -> tuple[dict[str, Any], str]:
    """Return what the matrix shows, and the details of every cell as lines of JSON."""
    names = [subject["name"] for subject in record["subjects"]]
    found = {(cell["case"], cell["subject"]): cell for cell in record["cells"]}
    rows = [[found.get((case["name"], name)) for name in names] for case in record["cases"]]
    cells = [cell for row in rows for cell in row]
    notes, reasons = Table(), Table()

    def column(key: str) -> str:
        return ",".join("" if cell is None else short(cell[key]) for cell in cells)

    head = {k: v for k, v in record.items() if k not in ("cases", "cells")}
    head["cases"] = [
        {k: v for k, v in case.items() if k not in LATER}
        | {"reason": reasons.place(case["reason"])}
        for case in record["cases"]
    ]
    head["cells"] = {
        "status": "".join(NONE if cell is None else cell["status"][0] for cell in cells),
        **{name: column(key) for key, name in SHORT.items()},
        "note": ",".join(str(notes.place(c["note"])) if c and c["note"] else "" for c in cells),
        "notes": notes.all(),
        "reasons": reasons.all(),
    }
    return head, _details(record["cases"], rows)


def _details(cases: list[dict[str, Any]], rows: list[list[dict[str, Any] | None]]) -> str:
    """Lines of JSON: first the distinct calls and their distinct lines, then a case each."""
    lines, calls = Table(), Table()
    packed = []
    for case, row in zip(cases, rows, strict=True):
        texts = Table()
        cells: list[Any] = []
        for cell in row:
            if cell is None:
                cells.append(0)
                continue
            call = [lines.place(line) for line in cell["call"].split("\n")]
            findings = [[f[k] for k in Finding._fields] for f in cell["findings"]]
            sides = [{k: texts.place(v) for k, v in cell[side].items()} for side in ("got", "want")]
            cells.append([calls.place(call), *(texts.place(part) for part in (*sides, findings))])
        packed.append({**{k: case[k] for k in LATER}, "texts": texts.all(), "cells": cells})
    whole = [{"lines": lines.all(), "calls": calls.all()}, *packed]
    return "\n".join(json.dumps(line, separators=(",", ":"), allow_nan=False) for line in whole)


def unpack(head: dict[str, Any], details: str) -> dict[str, Any]:
    """Return the record."""
    common, *packed = [json.loads(line) for line in details.split("\n")]
    columns = head["cells"]
    calls = ["\n".join(common["lines"][i] for i in call) for call in common["calls"]]
    flat = {k: columns[k].split(",") for k in (*SHORT.values(), "note")}
    cases = [
        {**case, "reason": columns["reasons"][case["reason"]], **{k: more[k] for k in LATER}}
        for case, more in zip(head["cases"], packed, strict=True)
    ]
    cells = []
    for j, subject in enumerate(head["subjects"]):
        for i, (case, more) in enumerate(zip(cases, packed, strict=True)):
            at = i * len(head["subjects"]) + j
            if columns["status"][at] == NONE:
                continue
            texts = more["texts"]
            call, got, want, findings = more["cells"][j]
            note = flat["note"][at]
            cells.append(
                {
                    "case": case["name"],
                    "subject": subject["name"],
                    "status": LETTERS[columns["status"][at]],
                    **{key: _number(flat[name][at]) for key, name in SHORT.items()},
                    "note": columns["notes"][int(note)] if note else "",
                    "findings": [Finding(*found)._asdict() for found in texts[findings]],
                    "got": {k: texts[v] for k, v in texts[got].items()},
                    "want": {k: texts[v] for k, v in texts[want].items()},
                    "call": calls[call],
                }
            )
    return {**head, "cases": cases, "cells": cells}


def _number(text: str) -> float | str | None:
    if text in ("inf", "-inf", "nan"):
        return text
    return float(text) if text else None
