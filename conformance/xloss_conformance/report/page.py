"""One page for a browser: a record, and the script and style that show it; nothing from outside."""

from __future__ import annotations

import base64
import hashlib
import json
import re
from functools import cache
from html import escape
from pathlib import Path
from typing import Any

from .pack import pack, unpack

ASSETS = Path(__file__).with_name("assets")
SCRIPTS = ("data.js", "state.js", "matrix.js", "panel.js", "plot.js", "main.js")
KINDS = {"candidate": "candidates", "xloss": "xloss", "peer": "the peers"}


def page(record: dict[str, Any]) -> str:
    """Return the page of a record."""
    head, details = pack(record)
    style = _asset("page.css")
    script = "\n".join(_asset(name) for name in SCRIPTS)
    parts = {
        "policy": escape(_policy(style, script)),
        "title": escape(f"xloss conformance: {verdict(record)}"),
        "style": style,
        "verdict": escape(verdict(record)),
        "facts": facts(record),
        "tiles": tiles(record),
        "data": _embedded(head),
        "details": details,
        "script": script,
    }
    # In one pass: what a record says is never looked through for places to fill.
    return re.sub(r"\{\{(\w+)\}\}", lambda found: parts[found[1]], _asset("page.html"))


def record_of(html: str) -> dict[str, Any]:
    """Return the record that a page was made of."""

    def block(name: str) -> str:
        found = re.search(rf'<script type="[^"]+" id="{name}">(.*?)</script>', html, re.S)
        if found is None:
            raise ValueError(f"no page of this suite: it has no {name}")
        return found[1]

    return unpack(json.loads(block("data")), block("details"))


@cache
def _asset(name: str) -> str:
    return (ASSETS / name).read_text(encoding="utf-8")


def _policy(style: str, script: str) -> str:
    """Return a policy: the page's own script and style, and nothing that is fetched."""

    def own(text: str) -> str:
        return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"

    return "; ".join(
        [
            "default-src 'none'",
            f"script-src {own(script)}",
            f"style-src {own(style)}",
            "img-src data:",
            "base-uri 'none'",
            "form-action 'none'",
            "require-trusted-types-for 'script'",
            "trusted-types 'none'",
        ]
    )


def _embedded(value: Any) -> str:
    """Return JSON in which no HTML parser finds a tag or a comment."""
    text = json.dumps(value, separators=(",", ":"), allow_nan=False, ensure_ascii=True)
    return text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")


def counts(record: dict[str, Any]) -> dict[str, dict[str, int]]:
    """Return how many cells of each status each kind of subject has."""
    kinds = {subject["name"]: subject["kind"] for subject in record["subjects"]}
    found: dict[str, dict[str, int]] = {}
    for cell in record["cells"]:
        of = found.setdefault(
            kinds[cell["subject"]], {"pass": 0, "fail": 0, "declared": 0, "refused": 0}
        )
        of[cell["status"]] += 1
    return {kind: found[kind] for kind in KINDS if kind in found}


def verdict(record: dict[str, Any]) -> str:
    """Return the verdict in one line."""
    said = []
    for kind, of in counts(record).items():
        judged = of["pass"] + of["fail"] + of["declared"]
        names = {s["name"] for s in record["subjects"] if s["kind"] == kind}
        who = names.pop() if kind == "candidate" and len(names) == 1 else KINDS[kind]
        many = kind != "xloss" and who == KINDS[kind]
        if not judged:
            said.append(f"{who} {'were' if many else 'was'} asked nothing")
        elif of["fail"]:
            said.append(f"{who} {'fail' if many else 'fails'} {of['fail']:,} of {judged:,} calls")
        elif of["declared"]:
            passed = f"{of['pass']:,} of {judged:,} calls"
            said.append(f"{who} {'pass' if many else 'passes'} {passed}, the others as declared")
        else:
            said.append(f"{who} {'pass' if many else 'passes'} all {judged:,} calls")
    stale = record["deviations"]["stale"]
    if stale:
        said.append(f"{len(stale)} declared deviations are none")
    return "; ".join(said) or "nothing was judged"


def facts(record: dict[str, Any]) -> str:
    """Return what was judged, when, by which command, on what, as HTML."""
    machine = record["machine"]
    mode = {"full": "the whole catalogue", "quick": "the quick part of the catalogue"}
    where = [machine["processor"], f"{machine['cores']} cores", machine["platform"]]
    versions = " · ".join(f"{name} {version}" for name, version in record["versions"].items())
    lines = [
        f"{escape(record['date'])} · {escape(mode.get(record['mode'], record['mode']))} · "
        f"<code>{escape(record['command'])}</code> · {record['seconds']:.0f} s",
        escape(" · ".join(str(part) for part in where if part)),
        escape(f"xloss {record['xloss']} · Python {machine['python']} · {versions}"),
    ]
    if record["missing"]:
        lines.append("Not on this machine: " + escape("; ".join(record["missing"])))
    lines += [
        f"<b>Declared, but no deviation:</b> {escape(s)}" for s in record["deviations"]["stale"]
    ]
    return "\n".join(f'<p class="facts">{line}</p>' for line in lines)


def tiles(record: dict[str, Any]) -> str:
    """Return the numbers at the head, as HTML."""
    found = counts(record)
    summary = record["summary"]
    rows = [("cases", len(record["cases"]), ""), ("subjects", len(record["subjects"]), "")]
    rows.append(("calls judged", sum(summary.values()) - summary["refused"], ""))
    for kind in ("candidate", "xloss", "peer"):
        if kind in found:
            failed = found[kind]["fail"]
            name = {"candidate": "candidates fail", "xloss": "xloss fails", "peer": "peers fail"}[
                kind
            ]
            rows.append((name, failed, ' class="bad"' if failed else ""))
    if summary["declared"]:
        rows.append(("declared", summary["declared"], ""))
    rows.append(("not offered", summary["refused"], ""))
    return "".join(
        f"<div{style}><dt>{name}</dt><dd>{number:,}</dd></div>" for name, number, style in rows
    )
