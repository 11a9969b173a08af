"""Makes Markdown of what the docstrings have of reStructuredText: roles and literal blocks."""

import re
from typing import Any

import griffe

ROLE = re.compile(r":(func|class|meth):`([\w.]+)`")
SEE_ALSO = re.compile(r"(?<=\nSee Also\n--------\n)(?:.+\n?)+")
TABLE = re.compile(r"^=+ =+\n(?:.+\n)+=+ =+$", re.MULTILINE)


class Docstrings(griffe.Extension):
    """Rewrites each docstring before it is parsed."""

    def on_instance(self, *, obj: griffe.Object, **_: Any) -> None:
        """Turn roles and "See Also" into links, `::` before a block into `:`, tables into blocks."""
        if obj.docstring is None or obj.is_alias:
            return
        text = ROLE.sub(lambda found: link(found[1], found[2], obj), obj.docstring.value)
        text = SEE_ALSO.sub(lambda found: listed(found[0], obj), text)
        text = TABLE.sub(lambda found: f"```text\n{found[0]}\n```", text)
        obj.docstring.value = re.sub(r" ?::$", ":", text, flags=re.MULTILINE)


def listed(section: str, obj: griffe.Object) -> str:
    """Make a list of the lines `name, name : what`."""

    def entry(line: str) -> str:
        names, _, what = line.partition(" : ")
        links = ", ".join(link("func", name, obj) for name in names.split(", "))
        return f"- {links}: {what}"

    return "".join(entry(line) for line in section.splitlines(keepends=True))


def link(role: str, name: str, obj: griffe.Object) -> str:
    """Return a link to a public name: of the class, of an adapter's module, or else of xloss."""
    target = name
    if role == "meth" and obj.parent is not None:
        target = f"{obj.parent.path}.{name}"
    elif "." not in name:
        module = obj.module
        mine = module.path.startswith("xloss.adapters.") and name in module.members
        target = f"{module.path if mine else 'xloss'}.{name}"
    return f"[`{name.rpartition('.')[2]}`][{target}]"
