"""How all pages are made: templates, filled in with every value escaped, written whole."""

from __future__ import annotations

import re
import unicodedata
from pathlib import Path
from shlex import quote
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup, escape

from dualpath.files import write_whole
from dualpath.terminal import in_line, shown

_ENVIRONMENT = Environment(
    autoescape=True,
    undefined=StrictUndefined,
    trim_blocks=True,
    lstrip_blocks=True,
    loader=FileSystemLoader(Path(__file__).parent / "templates"),
    finalize=lambda value: shown(value) if type(value) is str else value,
)


_BETWEEN_WORDS = re.compile(
    r"""(?<=[/_])(?=[^\W_]) | (?<=[^\W\d_][,.:=-])(?=[^\W_]) | (?<=[,.:=-])(?=[^\W\d_])  # not within 1,234.5
    | (?<=[a-z])(?=[A-Z])""",
    re.VERBOSE,
)


def breakable(name: str) -> Markup:
    """A name that lines break after its marks and between its words: "moves_|left/|Play|Ball", not within "left".

    Names that are written from right to left, and such parts of paths, do not carry away the numbers beside them.
    """
    text = _BETWEEN_WORDS.sub("<wbr>", str(escape(in_line(name))))
    if any(unicodedata.bidirectional(letter) in ("R", "AL") for letter in name):
        text = re.sub("[^/]+", r"<bdi>\g<0></bdi>", text)
    return Markup(text)


def command(line: str) -> Markup:
    """A line of a shell, which breaks between its words, not within "--flag"."""
    return Markup(re.sub(r"(?<!\S)-\S+", r"<span>\g<0></span>", str(escape(line))))


_ENVIRONMENT.filters |= {"breakable": breakable, "command": command, "quote": quote}


def write_page(path: Path, template: str, **values: Any) -> None:
    """Writes one HTML file that needs nothing beside it: no network, no script.

    Args:
        path: the HTML file.
        template: name of a file in templates/, such as "check.html.j2".
        values: what its variables stand for; names of files and classes are escaped.

    Raises:
        DualPathError: the page cannot be written.
    """
    page = _ENVIRONMENT.get_template(template).render(**values)
    # A name that is no UTF-8 is shown with a question mark.
    write_whole(path, page.encode("utf-8", "replace"))
