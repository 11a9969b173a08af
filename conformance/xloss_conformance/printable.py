r"""Text of strangers as what a terminal, a page or a file only shows.

The name of a file, or what an exception says, may hold an escape sequence, which a terminal would
obey, a line feed, which would forge a line of a report, or a byte that is no UTF-8, which cannot be
written at all. Such characters become escapes: ``\x1b``, ``\n``, ``\u202e``.
"""

from __future__ import annotations


def visible(text: str) -> str:
    """Return one line of characters that are all printed."""
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else _escape(c) for c in text)


def _escape(c: str) -> str:
    if "\udc80" <= c <= "\udcff":  # how Python holds a byte that is no UTF-8
        return f"\\x{ord(c) - 0xDC00:02x}"
    return c.encode("unicode_escape").decode("ascii")


def visible_lines(text: str) -> str:
    """Return the same for text whose lines are meant."""
    return "\n".join(map(visible, text.split("\n")))


def first_line(error: BaseException) -> str:
    """Return an error's type and first line."""
    lines = str(error).strip().splitlines() or [""]
    return visible(f"{type(error).__name__}: {lines[0][:200]}")
