"""Makes Markdown of what the docstrings have of reStructuredText: roles and literal blocks."""

import re
from typing import Any

import griffe

ROLE = re.compile(r":(func|class|meth):`([\w.]+)`")
SEE_ALSO = re.compile(r"(?<=\nSee Also\n--------\n)(?:.+\n?)+")
# Several parameters that are told together: their names, perhaps a type, and the indented text.
TOGETHER = re.compile(r"^(\w+(?:, \w+)+)((?: :.*)?\n(?: {4}.+\n?)+)", re.MULTILINE)
TABLE = re.compile(r"^=+ =+\n(?:.+\n)+=+ =+$", re.MULTILINE)


class Docstrings(griffe.Extension):
    """Rewrites each docstring before it is parsed."""

    def on_instance(self, *, obj: griffe.Object, **_: Any) -> None:
        """Turn roles and "See Also" into links, and tables and literal blocks into Markdown's."""
        if obj.docstring is None or obj.is_alias:
            return
        text = ROLE.sub(lambda found: link(found[1], found[2], obj), obj.docstring.value)
        text = SEE_ALSO.sub(lambda found: listed(found[0], obj), text)
        text = TOGETHER.sub(lambda found: apart(found[1], found[2]), text)
        text = TABLE.sub(lambda found: "```text\n" + found[0].replace("``", "") + "\n```", text)
        obj.docstring.value = re.sub(r" ?::$", ":", text, flags=re.MULTILINE)


def listed(section: str, obj: griffe.Object) -> str:
    """Make a list of the entries `name, name : what`, whose text may go on in indented lines."""

    def entry(line: str) -> str:
        names, _, what = line.partition(" : ")
        links = ", ".join(link("func", name, obj) for name in names.split(", "))
        return f"- {links}: {what}\n"

    return "".join(map(entry, re.sub(r"\n +", " ", section).splitlines()))


def apart(names: str, text: str) -> str:
    """Tell each parameter alone: griffe would give all of them the default of the first."""
    return "".join(name + text.rstrip("\n") + "\n" for name in names.split(", "))


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
