"""Markdown with names from anywhere in it: a name is text, never a border of a table, code, an element or a link."""

from __future__ import annotations

import re
from collections.abc import Sequence

from dualpath.terminal import in_line

_MEANT = re.compile(r"[\\`*\[\]<>|~$&@]|(?<!\w)_|_(?!\w)|:(?=//)|(?<=www)\.")
"""What would mean something within a line, mathematics and bare addresses on GitHub among it."""


def escaped(text: str) -> str:
    """The text as it is, in one line."""
    return _MEANT.sub(r"\\\g<0>", in_line(text))


def fenced(code: str) -> str:
    """A block of code, whatever stands in it."""
    fence = "`" * max([3, *(len(run) + 1 for run in re.findall("`+", code))])
    return f"{fence}\n{code}\n{fence}"


def table(heads: Sequence[str], rows: Sequence[Sequence[str]], *, words: int) -> str:
    """Rows of cells under heads; the first `words` columns are of words, the others of figures."""
    lines = [f"|{'|'.join('---' if i < words else '---:' for i in range(len(heads)))}|"]
    head, *body = (f"| {' | '.join(map(escaped, row))} |" for row in (heads, *rows))
    return "\n".join([head, *lines, *body])
