"""Python to copy: what makes a case's arguments, and what asks a subject again."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from .model import Array, Case

SMALL = 64  # entries that a literal may have
FIRST = 8  # entries of a larger result that are printed
DIGITS = {"float32": 9, "float16": 5, "bfloat16": 4}  # that tell its numbers apart
# What of a case is handed to `ask` beside arguments and options, where it is not the default.
FIELDS = {"to_targets": False, "value_only": False, "layout": "C", "tile": 1}


def setup(case: Case) -> str:
    """Return lines that make x, targets, upstream and the options that are arrays, each by name.

    They are NumPy arrays, floats in float64: rounding them to its dtype is up to the caller.
    """
    named = arrays(case) | dict(case.instead)
    lines = ["import numpy as np", "from numpy import inf, nan"]
    if case.tile == 1 and all(np.size(v) <= SMALL for v in named.values()):
        return "\n".join([*lines, *(f"{k} = {literal(v)}" for k, v in named.items())])
    lines += ["from xloss_conformance.cases import case", "", f"found = case({case.name!r})"]
    for name, value in named.items():
        option = name not in ("x", "targets", "upstream")
        place = f'found.options["{name}"]' if option else f"found.{name}"
        lines.append(f"{name} = {place}  # {value.dtype} of shape {value.shape}")
    return "\n".join(lines)


def arrays(case: Case) -> dict[str, Array]:
    """Return the arguments of a case that are arrays, by name."""
    named = {"x": case.x}
    if case.targets is not None:
        named["targets"] = case.targets
    for name, value in case.instead.items():
        named.pop(name, None)
        if isinstance(value, np.ndarray):
            named[name] = value
    named |= {k: v for k, v in case.options.items() if isinstance(v, np.ndarray)}
    if not one(case.upstream) and not case.value_only:
        named["upstream"] = np.asarray(case.upstream, np.float64)
    return named


def one(upstream: Any) -> bool:
    """Whether an upstream gradient changes nothing."""
    return isinstance(upstream, float) and upstream == 1.0


def literal(value: Any) -> str:
    """Return an expression that makes the value, bit for bit; `inf` and `nan` are names in it."""
    if not isinstance(value, np.ndarray):
        return repr(value)
    kind = value.dtype.name
    if not value.size:
        return f"np.zeros({value.shape}, np.{kind})"
    body = np.array2string(
        value, separator=", ", threshold=10**6, max_line_width=96, floatmode="unique"
    )
    return f"np.array({body}, np.{kind})"


def asking(case: Case, imports: Sequence[str], subject: str) -> list[str]:
    """Return lines that ask a subject what `setup` made, and print what it answers.

    subject: the expression that makes it, of names that the imports bring.
    """
    fields = {k: getattr(case, k) for k in FIELDS if getattr(case, k) != FIELDS[k]}
    given = {**case.options, **fields}
    given |= {k: v for k, v in arrays(case).items() if k == "upstream"}
    keywords = "".join(
        f", {k}={k if isinstance(v, np.ndarray) else literal(v)}" for k, v in given.items()
    )
    targets = "None" if case.targets is None else "targets"
    first = "" if _small(case) else f".reshape(-1)[:{FIRST}]"
    return [
        "from xloss_conformance.call_subject import ask",
        *imports,
        "",
        f"subject = {subject}",
        f'answer = ask(subject, "{case.loss}", x, {targets}{keywords})',
        "for name, result in answer.items():",
        f"    print(name, result{first}.tolist())",
    ]


def _small(case: Case) -> bool:
    return case.x.size <= SMALL and case.tile == 1


def text(case: Case, values: Array | None, dtype: str) -> str:
    """Return what those lines print, to as many digits as the dtype tells apart."""
    if values is None:
        return ""
    if not _small(case):
        values = values.reshape(-1)[:FIRST]

    def nested(entries: object) -> str:
        if isinstance(entries, list):
            return f"[{', '.join(map(nested, entries))}]"
        return f"{entries:.{DIGITS.get(dtype, 17)}g}"

    return nested(values.tolist())
