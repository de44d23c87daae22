"""How all pages are made: templates, filled in with every value escaped, written whole."""

from __future__ import annotations

import re
from pathlib import Path
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
    """A name that lines break after its marks and between its words: "moves_|left/|Play|Ball", not within "left"."""
    return Markup(_BETWEEN_WORDS.sub("<wbr>", str(escape(in_line(name)))))


_ENVIRONMENT.filters["breakable"] = breakable


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
